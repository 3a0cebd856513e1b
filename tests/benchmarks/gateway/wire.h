/* What the upstream, the load generator and the floor share: a growing buffer, the clock, sockets and headers.
 *
 * They are C with one thread and one epoll loop, because what measures a gateway has to be several times
 * faster than any gateway: a client and an upstream in Python cost more per request than what they measure. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The first bytes of every token's text. Each is " tick<number> <nanoseconds>", so that the receiver can tell
 * a token that was lost, doubled or held back. */
#define TICK " tick"

struct bytes {
    char *data;
    size_t used, room;
};

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

static inline void reserve(struct bytes *b, size_t more) {
    if (b->used + more <= b->room) return;
    while (b->room < b->used + more) b->room = b->room ? b->room * 2 : 1024;
    if (!(b->data = realloc(b->data, b->room))) die("realloc");
}

static inline void append(struct bytes *b, const char *data, size_t count) {
    reserve(b, count);
    memcpy(b->data + b->used, data, count);
    b->used += count;
}

static inline void append_text(struct bytes *b, const char *text) {
    append(b, text, strlen(text));
}

static inline void append_number(struct bytes *b, uint64_t number) {
    char digits[20];
    int at = sizeof digits;
    do digits[--at] = '0' + number % 10;
    while (number /= 10);
    append(b, digits + at, sizeof digits - at);
}

/* Drop the first `count` bytes. */
static inline void consume(struct bytes *b, size_t count) {
    b->used -= count;
    if (b->used) memmove(b->data, b->data + count, b->used);
}

/* Nanoseconds of the monotonic clock, which all processes of this machine share. */
static inline uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static inline void no_delay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* Bytes of a message's head with its empty line, or 0 while it is incomplete. */
static inline size_t head_size(const struct bytes *b) {
    char *end = memmem(b->data, b->used, "\r\n\r\n", 4);
    return end ? end - b->data + 4 : 0;
}

/* The value of the header `name` ("\r\nname:", lower case) within a head, or NULL. */
static inline const char *header(const char *head, size_t size, const char *name) {
    size_t length = strlen(name);
    for (const char *at = head; (at = memchr(at, '\r', head + size - at)); at++) {
        if ((size_t)(head + size - at) < length) return NULL;
        if (strncasecmp(at, name, length)) continue;
        at += length;
        while (*at == ' ') at++;
        return at;
    }
    return NULL;
}

static inline void watch(int poll, int fd, void *owner, uint32_t events, int how) {
    struct epoll_event event = {.events = events, .data.ptr = owner};
    if (epoll_ctl(poll, how, fd, &event)) die("epoll_ctl");
}
