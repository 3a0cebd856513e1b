/* An OpenAI-compatible upstream that is never the bottleneck, and that never merges tokens itself.
 *
 *   upstream [--ports N] [--tokens N] [--event-bytes N] [--interval MS]
 *
 * Listens on N free ports of loopback and prints them on one line. A chat completion is answered at once; with
 * "stream": true each token is written by a write() of its own, one for each stream in each turn of the loop, or
 * one each MS milliseconds. Each token is one event of --event-bytes bytes in one HTTP chunk. */

#include "wire.h"

struct connection {
    int fd;
    bool listens, dead, waits_for_room;
    struct bytes in, out;
    bool streams, wants_usage;
    int tokens_left;         /* of the running stream */
    uint64_t due;            /* when the next token, or the end, is to be written */
    struct connection *next; /* in the queue of running streams, in the order of `due` */
};

static int tokens = 64, event_bytes = 220, poll_fd;
static uint64_t interval;
static struct connection *first, *last;
static const char *const OPENING = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
                                   "\"model\":\"bench\",\"choices\":";
static const char *const USAGE = "{\"prompt_tokens\":100,\"completion_tokens\":";

static void enqueue(struct connection *c) {
    c->next = NULL;
    if (first) last->next = c;
    else first = c;
    last = c;
}

/* Send what waits; the rest goes when there is room again. */
static void flush(struct connection *c) {
    while (c->out.used) {
        ssize_t sent = send(c->fd, c->out.data, c->out.used, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && errno != EAGAIN) {
            c->dead = true;
            return;
        }
        if (sent > 0) consume(&c->out, sent);
        if (c->out.used && !c->waits_for_room) watch(poll_fd, c->fd, c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
        if (c->out.used) {
            c->waits_for_room = true;
            return;
        }
    }
    if (c->waits_for_room) watch(poll_fd, c->fd, c, EPOLLIN, EPOLL_CTL_MOD);
    c->waits_for_room = false;
}

/* One event as one HTTP chunk of its own. */
static void append_chunk(struct bytes *out, const struct bytes *event) {
    char line[16];
    append(out, line, snprintf(line, sizeof line, "%zx\r\n", event->used));
    append(out, event->data, event->used);
    append(out, "\r\n", 2);
}

static void append_usage(struct bytes *b) {
    append_text(b, USAGE);
    append_number(b, tokens);
    append_text(b, ",\"total_tokens\":");
    append_number(b, 100 + tokens);
    append_text(b, "}");
}

static void write_token(struct connection *c) {
    static struct bytes event;
    event.used = 0;
    append_text(&event, OPENING);
    append_text(&event, "[{\"index\":0,\"delta\":{");
    if (c->tokens_left == tokens) append_text(&event, "\"role\":\"assistant\",");
    append_text(&event, "\"content\":\"" TICK);
    append_number(&event, tokens - c->tokens_left);
    append_text(&event, " ");
    append_number(&event, now());
    const char *end = "\"}}]}\n\n";
    while (event.used + strlen(end) < (size_t)event_bytes) append(&event, ".", 1);
    append_text(&event, end);
    append_chunk(&c->out, &event);
    c->tokens_left--;
    flush(c);
}

static void write_end(struct connection *c) {
    static struct bytes event;
    event.used = 0;
    append_text(&event, OPENING);
    append_text(&event, "[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
    append_chunk(&c->out, &event);
    if (c->wants_usage) {
        event.used = 0;
        append_text(&event, OPENING);
        append_text(&event, "[],\"usage\":");
        append_usage(&event);
        append_text(&event, "}\n\n");
        append_chunk(&c->out, &event);
    }
    append_text(&c->out, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    flush(c);
}

/* Whether the JSON `body` has `"name":true`, with or without a space. */
static bool is_true(const char *body, size_t size, const char *name) {
    const char *at = memmem(body, size, name, strlen(name));
    if (!at) return false;
    for (at += strlen(name); at < body + size && (*at == ':' || *at == ' '); at++) continue;
    return body + size - at >= 4 && !memcmp(at, "true", 4);
}

static void answer(struct connection *c, const char *status, const struct bytes *body) {
    char head[160];
    append(&c->out, head,
           snprintf(head, sizeof head, "HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n",
                    status, body->used));
    append(&c->out, body->data, body->used);
    flush(c);
}

static void complete(struct connection *c, const char *body, size_t size) {
    if (is_true(body, size, "\"stream\"")) {
        c->wants_usage = is_true(body, size, "\"include_usage\"");
        c->tokens_left = tokens;
        c->due = now() + interval;
        append_text(&c->out, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                             "cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n");
        flush(c);
        if ((c->streams = !c->dead)) enqueue(c);
        return;
    }
    static struct bytes json;
    json.used = 0;
    append_text(&json, "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"bench\","
                       "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"" TICK "0 ");
    append_number(&json, now());
    append_text(&json, " Paris is the capital of France.\"},\"finish_reason\":\"stop\"}],\"usage\":");
    append_usage(&json);
    append_text(&json, "}");
    answer(c, "200 OK", &json);
}

static const char *const PAGES[][2] = {
    {"GET /v1/models ", "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\",\"created\":1,\"owned_by\":\"sglang\","
                        "\"root\":\"bench\",\"max_model_len\":131072}]}"},
    {"GET /get_server_info ", "{\"model_path\":\"bench\",\"served_model_name\":\"bench\",\"dp_size\":1,\"tp_size\":1,\"version\":\"0.5.0\"}"},
    {"GET /server_info ", "{\"model_path\":\"bench\",\"served_model_name\":\"bench\",\"dp_size\":1,\"tp_size\":1,\"version\":\"0.5.0\"}"},
    {"GET /get_model_info ", "{\"model_path\":\"bench\",\"is_generation\":true}"},
    {"GET /model_info ", "{\"model_path\":\"bench\",\"is_generation\":true}"},
    {"GET /version ", "{\"version\":\"0.5.0\"}"},
    {"GET /health ", "{}"},
    {"GET /health_generate ", "{}"},
};

/* Answer the requests that are complete in the input; a stream has to end before the next one is looked at. */
static void serve(struct connection *c) {
    size_t size;
    while (!c->dead && !c->streams && c->in.used && (size = head_size(&c->in))) {
        const char *value = header(c->in.data, size, "\r\ncontent-length:");
        size_t length = value ? strtoul(value, NULL, 10) : 0;
        if (c->in.used < size + length) {
            if (header(c->in.data, size, "\r\nexpect:") && c->in.used == size) {
                append_text(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
                flush(c);
            }
            return;
        }
        const char *page = NULL;
        for (size_t i = 0; i < sizeof PAGES / sizeof *PAGES; i++)
            if (!strncmp(c->in.data, PAGES[i][0], strlen(PAGES[i][0]))) page = PAGES[i][1];
        if (page) {
            struct bytes body = {(char *)page, strlen(page), 0};
            answer(c, "200 OK", &body);
        } else if (!strncmp(c->in.data, "POST /v1/chat/completions ", 26) && value) {
            complete(c, c->in.data + size, length);
        } else {
            struct bytes body = {"{\"error\":{\"message\":\"not here\"}}", 32, 0};
            answer(c, "404 Not Found", &body);
        }
        consume(&c->in, size + length);
    }
}

static void receive(struct connection *c) {
    reserve(&c->in, 65536);
    ssize_t count = recv(c->fd, c->in.data + c->in.used, c->in.room - c->in.used, 0);
    if (count > 0) {
        c->in.used += count;
        serve(c);
    } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
        c->dead = true;
    }
}

static void accept_all(int listener) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        struct connection *c = calloc(1, sizeof *c);
        if (!c) die("calloc");
        c->fd = fd;
        no_delay(fd);
        watch(poll_fd, fd, c, EPOLLIN, EPOLL_CTL_ADD);
    }
}

static void bury(struct connection *c) {
    close(c->fd);
    free(c->in.data);
    free(c->out.data);
    free(c);
}

/* One token, or the end, for each stream that is due: of those that were running when this turn began. */
static void step_streams(void) {
    struct connection *stop = last;
    uint64_t time = now();
    while (first && first->due <= time) {
        struct connection *c = first;
        bool was_last = c == stop;
        if (!(first = c->next)) last = NULL;
        if (!c->dead && c->waits_for_room) {
            c->due = time + interval;
            enqueue(c);
        } else if (!c->dead && c->tokens_left) {
            write_token(c);
            c->due += interval;
            /* Queued after the last token too: the end goes in a turn of its own, never right behind it. */
            enqueue(c);
        } else if (!c->dead) {
            c->streams = false;
            write_end(c);
            serve(c);
        }
        /* The last of the queue is one that was queued again: that is buried in its next turn. */
        if (c->dead && c != last) bury(c);
        if (was_last) return;
    }
}

static void listen_somewhere(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) || listen(fd, 4096)) die("listen");
    getsockname(fd, (struct sockaddr *)&address, &size);
    printf("%d ", ntohs(address.sin_port));
    struct connection *c = calloc(1, sizeof *c);
    if (!c) die("calloc");
    c->fd = fd;
    c->listens = true;
    watch(poll_fd, fd, c, EPOLLIN, EPOLL_CTL_ADD);
}

static int number(const char *text) {
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || end == text || value < 0 || value > 1000000) {
        fprintf(stderr, "not a number: %s\n", text);
        exit(2);
    }
    return value;
}

int main(int count, char **words) {
    int ports = 1;
    for (int i = 1; i < count; i += 2) {
        if (i + 1 == count) return fprintf(stderr, "%s needs a value\n", words[i]), 2;
        int value = number(words[i + 1]);
        if (!strcmp(words[i], "--ports")) ports = value;
        else if (!strcmp(words[i], "--tokens")) tokens = value;
        else if (!strcmp(words[i], "--event-bytes")) event_bytes = value;
        else if (!strcmp(words[i], "--interval")) interval = value * 1000000ull;
        else return fprintf(stderr, "unknown option %s\n", words[i]), 2;
    }
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    while (ports--) listen_somewhere();
    puts("");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[256];
        /* Rounded up to a whole millisecond: a paced token is never early. */
        uint64_t time = now();
        int pause = !first ? -1 : first->due <= time ? 0 : (int)((first->due - time + 999999) / 1000000);
        int ready = epoll_wait(poll_fd, events, 256, pause);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->listens) {
                accept_all(c->fd);
                continue;
            }
            if (events[i].events & EPOLLOUT) flush(c);
            if (!c->dead && events[i].events & ~EPOLLOUT) receive(c);
            if (!c->dead) continue;
            /* One in the queue is buried when its turn comes; until then nothing of it is reported. */
            if (c->streams) epoll_ctl(poll_fd, EPOLL_CTL_DEL, c->fd, NULL);
            else bury(c);
        }
        step_streams();
    }
}
