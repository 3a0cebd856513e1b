/* What the kernel alone takes for a relay: every byte that is read on one side is written on the other.
 *
 *   floor PORT UPSTREAM_PORT
 *
 * The shape is that of floor.py, without a language to run and without a look at what passes: one thread, one epoll
 * loop, and for every client's connection one to the upstream, which is kept as long. What it uses no program can
 * save that reads with recv() and passes on at once. */

#include "wire.h"

struct end {
    int fd;
    bool listens, waits_for_room;
    struct bytes out; /* what the socket has not taken yet */
    struct end *other;
    struct end *next; /* among those that are gone */
};

static int poll_fd, upstream_port;
static struct end *gone;
static char buffer[65536];

static struct end *new_end(int fd, uint32_t events) {
    struct end *e = calloc(1, sizeof *e);
    if (!e) die("calloc");
    e->fd = fd;
    no_delay(fd);
    watch(poll_fd, fd, e, events, EPOLL_CTL_ADD);
    return e;
}

/* Close both ends; they are freed once no event of this turn can name them any more. */
static void part(struct end *e) {
    struct end *ends[] = {e, e->other};
    for (int i = 0; i < 2; i++) {
        close(ends[i]->fd);
        ends[i]->fd = -1;
        ends[i]->next = gone;
        gone = ends[i];
    }
}

/* Wait for room where something is left, and for nothing but bytes to read where nothing is. */
static void heed(struct end *e) {
    if (e->waits_for_room == (e->out.used > 0)) return;
    e->waits_for_room = !e->waits_for_room;
    watch(poll_fd, e->fd, e, e->waits_for_room ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
}

/* Send what waits. */
static void flush(struct end *e) {
    ssize_t sent = e->out.used ? send(e->fd, e->out.data, e->out.used, MSG_NOSIGNAL) : 0;
    if (sent < 0 && errno != EAGAIN) {
        part(e);
        return;
    }
    if (sent > 0) consume(&e->out, sent);
    heed(e);
}

/* Send `count` bytes of the buffer; what the socket does not take waits. */
static void pass_on(struct end *to, size_t count) {
    ssize_t sent = to->waits_for_room ? 0 : send(to->fd, buffer, count, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        part(to);
        return;
    }
    if (sent < 0) sent = 0;
    if ((size_t)sent == count) return;
    append(&to->out, buffer + sent, count - sent);
    heed(to);
}

static void receive(struct end *e) {
    ssize_t count = recv(e->fd, buffer, sizeof buffer, 0);
    if (count > 0) pass_on(e->other, count);
    else if (count == 0 || errno != EAGAIN) part(e);
}

static void accept_all(int listener) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        struct sockaddr_in address = loopback(upstream_port);
        int up = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (up < 0) die("socket");
        if (connect(up, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) die("connect");
        struct end *client = new_end(fd, EPOLLIN), *upstream = new_end(up, EPOLLIN | EPOLLOUT);
        upstream->waits_for_room = true; /* until it is connected */
        client->other = upstream;
        upstream->other = client;
    }
}

int main(int count, char **words) {
    if (count != 3) return fprintf(stderr, "usage: floor PORT UPSTREAM_PORT\n"), 2;
    upstream_port = atoi(words[2]);
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in address = loopback(atoi(words[1]));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096)) die("listen");
    new_end(fd, EPOLLIN)->listens = true;
    for (;;) {
        struct epoll_event events[256];
        int ready = epoll_wait(poll_fd, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            struct end *e = events[i].data.ptr;
            if (e->listens) {
                accept_all(e->fd);
                continue;
            }
            if (e->fd >= 0 && events[i].events & EPOLLOUT) flush(e);
            if (e->fd >= 0 && events[i].events & ~EPOLLOUT) receive(e);
        }
        while (gone) {
            struct end *e = gone;
            gone = e->next;
            free(e->out.data);
            free(e);
        }
    }
}
