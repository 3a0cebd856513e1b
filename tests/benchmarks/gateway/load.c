/* Closed-loop load: each of N keep-alive connections sends its next request when the last answer is complete.
 *
 *   load --port N [--path P] [--connections N] [--seconds S] [--warm-up S] [--ramp N] [--size BYTES]
 *        [--model NAME] [--stream TOKENS] [--header 'NAME: VALUE']... [--keys FILE] [--seed N] [--patience S]
 *
 * --size is that of the request body, give or take a fifth; no two prompts are equal. --stream asks for streams
 * and says how many tokens the upstream sends, --ramp opens that many connections a second, --keys holds one key
 * a line, of which each request takes the next as its bearer token. Prints "begin" and "end" where the measured
 * time begins and ends, so that the caller can read the clocks of other processes, and then one JSON object.
 * Times in it are microseconds. Whatever is not exactly right counts as an error, also during warm-up and while
 * the last answers are awaited, for --patience at most: a connection without a byte for so long has stalled. */

#include "wire.h"

#define NEVER UINT64_MAX

enum framing { HEAD, LENGTH, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER };
enum mistake { STATUS, FRAMING, TRUNCATED, RESET, CONTENT, STALLED, MISTAKES };
static const char *const MISTAKE_NAMES[] = {"status", "framing", "truncated", "reset", "content", "stalled"};

struct connection {
    int fd; /* -1: closed, to be opened at `retry_at` */
    bool waits_for_room, closes, has_answer, has_usage, is_done;
    enum framing framing;
    size_t left; /* bytes of the body, or of the chunk */
    size_t sent;
    struct bytes out, in, event;
    uint64_t began, last_token, last_read, retry_at;
    int next_tick;
};

struct samples {
    uint64_t *values;
    size_t used, room;
};

static int poll_fd, port, connections = 1, ramp, expected;
static const char *path = "/v1/chat/completions", *model = "bench";
static size_t body_size = 512;
static double seconds = 3, warm_up = 0.5, patience = 10;
static struct bytes extra, text;
static char **keys;
static size_t key_count, key_next;
static uint64_t random_state, serial;

static bool measures, ending;
static uint64_t answers, tokens, chunks, token_reads, bytes_read, reconnects, mistakes[MISTAKES], status_seen;
static struct samples latency, first_token, gap, delay;

static void record(struct samples *s, uint64_t value) {
    if (!measures) return;
    if (s->used == s->room) {
        s->room = s->room ? s->room * 2 : 65536;
        if (!(s->values = realloc(s->values, s->room * sizeof *s->values))) die("realloc");
    }
    s->values[s->used++] = value;
}

static uint64_t dice(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Four MiB of words, as they stand in a JSON string; prompts are cut from it at random places. */
static void make_text(void) {
    static const char *const SYLLABLES[] = {"ka", "ro", "mi", "ten", "sol", "ver", "lin", "da", "pre", "con",
                                            "tra", "ble", "ing", "est", "an", "ou", "qua", "per", "fi", "th"};
    static const char *const ODD[] = {"\\n\\n", "\\\"why\\\"", "42", "3.14", "é", "x^2", "東京", "f(x)", "print(a[0])", "?"};
    while (text.used < 4u << 20) {
        if (dice() % 12 == 0) append_text(&text, ODD[dice() % 10]);
        else
            for (int i = 1 + dice() % 4; i; i--) append_text(&text, SYLLABLES[dice() % 20]);
        append(&text, " ", 1);
    }
}

static void make_request(struct connection *c) {
    static struct bytes body;
    body.used = 0;
    append_text(&body, "{\"model\":\"");
    append_text(&body, model);
    append_text(&body, "\",\"messages\":[{\"role\":\"user\",\"content\":\"Question ");
    append_number(&body, ++serial);
    append(&body, " ", 1);
    const char *end = expected ? "\"}],\"max_tokens\":64,\"stream\":true,\"stream_options\":{\"include_usage\":true}}"
                               : "\"}],\"max_tokens\":64}";
    size_t fixed = body.used + strlen(end), size = body_size * 4 / 5 + dice() % (body_size * 2 / 5 + 1);
    size_t wanted = size > fixed ? size - fixed : 1;
    const char *from = text.data + dice() % (text.used - wanted - 64);
    from = (const char *)memchr(from, ' ', 64) + 1;
    const char *to = memrchr(from - 1, ' ', wanted + 1);
    if (to > from) append(&body, from, to - from);
    append_text(&body, end);

    c->out.used = c->sent = 0;
    append_text(&c->out, "POST ");
    append_text(&c->out, path);
    append_text(&c->out, " HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\naccept: */*\r\n");
    append(&c->out, extra.data, extra.used);
    if (key_count) {
        append_text(&c->out, "authorization: Bearer ");
        append_text(&c->out, keys[key_next++ % key_count]);
        append_text(&c->out, "\r\n");
    }
    append_text(&c->out, "content-length: ");
    append_number(&c->out, body.used);
    append_text(&c->out, "\r\n\r\n");
    append(&c->out, body.data, body.used);
}

/* The next request, ready to be sent; nothing of the last answer stays. */
static void prepare(struct connection *c) {
    make_request(c);
    c->framing = HEAD;
    c->has_answer = c->has_usage = c->is_done = false;
    c->next_tick = 0;
    c->event.used = 0;
    c->began = now();
}

static void disconnect(struct connection *c, uint64_t pause) {
    close(c->fd);
    c->fd = -1;
    c->retry_at = ending ? NEVER : now() + pause;
}

/* The answer is not what it should be. The connection is opened anew after a while, so that errors do no storm. */
static void fail(struct connection *c, enum mistake mistake) {
    if (!mistakes[mistake]++)
        fprintf(stderr, "first error of this kind (%s): %.*s\n", MISTAKE_NAMES[mistake],
                (int)(c->in.used < 400 ? c->in.used : 400), c->in.data ? c->in.data : "");
    disconnect(c, 20000000);
}

static void open_connection(struct connection *c) {
    struct sockaddr_in address = loopback(port);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    no_delay(c->fd);
    c->waits_for_room = true;
    c->in.used = 0;
    watch(poll_fd, c->fd, c, EPOLLIN | EPOLLOUT, EPOLL_CTL_ADD);
    prepare(c);
    c->last_read = c->began;
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) fail(c, RESET);
}

static void send_rest(struct connection *c) {
    while (c->sent < c->out.used) {
        ssize_t count = send(c->fd, c->out.data + c->sent, c->out.used - c->sent, MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno != EAGAIN) {
            /* What was answered before the connection went says more than the reset. */
            c->sent = c->out.used;
            break;
        }
        if (count > 0) c->sent += count;
        if (count > 0 && c->sent == c->out.used) break;
        if (!c->waits_for_room) watch(poll_fd, c->fd, c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
        c->waits_for_room = true;
        return;
    }
    if (c->waits_for_room) watch(poll_fd, c->fd, c, EPOLLIN, EPOLL_CTL_MOD);
    c->waits_for_room = false;
}

static void begin(struct connection *c) {
    prepare(c);
    send_rest(c);
}

/* One complete event of a stream. Returns false where it is not what the upstream sent. */
static bool take_event(struct connection *c, const char *event, size_t size, uint64_t time) {
    if (size < 6 || memcmp(event, "data: ", 6)) return true; /* a comment, or a field that is no data */
    if (size >= 12 && !memcmp(event + 6, "[DONE]", 6)) return !c->is_done && (c->is_done = true);
    const char *tick = memmem(event, size, TICK, strlen(TICK));
    if (!tick) {
        c->has_usage |= memmem(event, size, "\"completion_tokens\"", 19) != NULL;
        return true;
    }
    char *end;
    if (strtol(tick + strlen(TICK), &end, 10) != c->next_tick) return false;
    uint64_t sent = strtoull(end, NULL, 10);
    if (c->next_tick++) record(&gap, time - c->last_token);
    else record(&first_token, time - c->began);
    record(&delay, time > sent ? time - sent : 0);
    c->last_token = time;
    tokens += measures;
    return true;
}

/* Bytes of the body, free of its framing. */
static bool take_body(struct connection *c, const char *data, size_t size, uint64_t time) {
    append(&c->event, data, size);
    if (!expected) return true;
    size_t done = 0;
    for (char *at; (at = memmem(c->event.data + done, c->event.used - done, "\n\n", 2)); done = at + 2 - c->event.data)
        if (!take_event(c, c->event.data + done, at - c->event.data - done, time)) return false;
    if (done) consume(&c->event, done);
    return true;
}

static bool finish(struct connection *c, uint64_t time) {
    if (expected) {
        if (c->next_tick < expected || !c->is_done || c->event.used) return fail(c, TRUNCATED), false;
        if (c->next_tick > expected || !c->has_usage) return fail(c, CONTENT), false;
    } else if (!memmem(c->event.data, c->event.used, TICK "0 ", strlen(TICK) + 2)) {
        return fail(c, CONTENT), false;
    }
    answers += measures;
    record(&latency, time - c->began);
    if (c->closes || ending) {
        reconnects += c->closes;
        disconnect(c, 0);
        return false;
    }
    begin(c);
    return c->fd >= 0;
}

static bool take_head(struct connection *c, uint64_t time) {
    size_t size = head_size(&c->in);
    if (!size) return c->in.used > 65536 ? fail(c, FRAMING), false : false;
    if (size < 16 || memcmp(c->in.data, "HTTP/1.1 ", 9)) return fail(c, FRAMING), false;
    if (memcmp(c->in.data + 9, "200", 3)) {
        status_seen = strtoul(c->in.data + 9, NULL, 10);
        return fail(c, STATUS), false;
    }
    const char *coding = header(c->in.data, size, "\r\ntransfer-encoding:");
    const char *length = header(c->in.data, size, "\r\ncontent-length:");
    const char *connection = header(c->in.data, size, "\r\nconnection:");
    c->closes = connection && !strncasecmp(connection, "close", 5);
    c->has_answer = true;
    if (coding && !length && !strncasecmp(coding, "chunked", 7)) {
        c->framing = CHUNK_SIZE;
    } else if (length && !coding) {
        c->framing = LENGTH;
        c->left = strtoul(length, NULL, 10);
    } else {
        return fail(c, FRAMING), false;
    }
    if (!expected) record(&first_token, time - c->began);
    consume(&c->in, size);
    return true;
}

/* A line of the chunked coding at `at`, without its end, as its length; -1 while it is incomplete. */
static long line_length(const struct connection *c, size_t at) {
    char *end = memmem(c->in.data + at, c->in.used - at, "\r\n", 2);
    return end ? end - (c->in.data + at) : -1;
}

/* Take all that has come; the connection may be closed when this returns. */
static void digest(struct connection *c, uint64_t time) {
    size_t at = 0;
    if (c->framing == HEAD && !take_head(c, time)) return;
    while (at < c->in.used || (c->framing == LENGTH && !c->left)) {
        size_t here = c->in.used - at;
        if (c->framing == LENGTH || c->framing == CHUNK_DATA) {
            if (here > c->left) here = c->left;
            if (!take_body(c, c->in.data + at, here, time)) return fail(c, CONTENT);
            at += here;
            if ((c->left -= here)) break;
            if (c->framing == CHUNK_DATA) {
                c->framing = CHUNK_END;
                continue;
            }
            if (at < c->in.used) return fail(c, FRAMING);
            c->in.used = 0;
            finish(c, time);
            return;
        }
        long length = line_length(c, at);
        if (length < 0) {
            if (here > 1024) return fail(c, FRAMING);
            break;
        }
        if (c->framing == CHUNK_SIZE) {
            char *end;
            c->left = strtoul(c->in.data + at, &end, 16);
            if (end == c->in.data + at || (*end != '\r' && *end != ';')) return fail(c, FRAMING);
            chunks += measures && c->left;
            c->framing = c->left ? CHUNK_DATA : TRAILER;
        } else if (c->framing == CHUNK_END) {
            if (length) return fail(c, FRAMING);
            c->framing = CHUNK_SIZE;
        } else if (!length) {
            if (at + 2 < c->in.used) return fail(c, FRAMING);
            c->in.used = 0;
            finish(c, time);
            return;
        }
        at += length + 2;
    }
    consume(&c->in, at);
}

static void receive(struct connection *c) {
    reserve(&c->in, 65536);
    ssize_t count = recv(c->fd, c->in.data + c->in.used, c->in.room - c->in.used, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) return fail(c, c->has_answer && c->framing != HEAD ? TRUNCATED : RESET);
    uint64_t time = now();
    c->in.used += count;
    c->last_read = time;
    if (measures) {
        bytes_read += count;
        uint64_t before = tokens;
        digest(c, time);
        token_reads += tokens > before;
    } else {
        digest(c, time);
    }
}

static int compare(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

/* The value that `share` of the samples do not exceed (the nearest rank), in microseconds. */
static double percentile(const struct samples *s, double share) {
    size_t rank = share * s->used;
    if (rank < share * s->used) rank++;
    return s->values[rank ? rank - 1 : 0] / 1e3;
}

static void print_samples(const char *name, struct samples *s) {
    if (!s->used) {
        printf(",\"%s\":null", name);
        return;
    }
    qsort(s->values, s->used, sizeof *s->values, compare);
    printf(",\"%s\":{\"count\":%zu,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"max\":%.1f}", name, s->used,
           percentile(s, 0.5), percentile(s, 0.9), percentile(s, 0.99), s->values[s->used - 1] / 1e3);
}

static void report(double elapsed) {
    printf("{\"seconds\":%.6f,\"answers\":%lu,\"tokens\":%lu,\"chunks\":%lu,\"token_reads\":%lu,\"bytes\":%lu", elapsed,
           answers, tokens, chunks, token_reads, bytes_read);
    printf(",\"reconnects\":%lu,\"last_bad_status\":%lu,\"errors\":{", reconnects, status_seen);
    for (int i = 0; i < MISTAKES; i++) printf("%s\"%s\":%lu", i ? "," : "", MISTAKE_NAMES[i], mistakes[i]);
    printf("}");
    print_samples("latency", &latency);
    print_samples("first_token", &first_token);
    print_samples("gap", &gap);
    print_samples("delay", &delay);
    puts("}");
}

static void read_keys(const char *name) {
    FILE *file = fopen(name, "r");
    if (!file) die(name);
    char *line = NULL;
    size_t room = 0;
    for (ssize_t size; (size = getline(&line, &room, file)) > 0;) {
        if (line[size - 1] == '\n') line[size - 1] = 0;
        if (!*line) continue;
        if (!(keys = realloc(keys, (key_count + 1) * sizeof *keys))) die("realloc");
        keys[key_count++] = strdup(line);
    }
    free(line);
    fclose(file);
}

static double number(const char *word) {
    char *end;
    double value = strtod(word, &end);
    if (*end || end == word || value < 0) {
        fprintf(stderr, "not a number: %s\n", word);
        exit(2);
    }
    return value;
}

static void read_options(int count, char **words) {
    for (int i = 1; i < count; i += 2) {
        const char *name = words[i], *value = i + 1 < count ? words[i + 1] : NULL;
        if (!value) fprintf(stderr, "%s needs a value\n", name), exit(2);
        if (!strcmp(name, "--port")) port = number(value);
        else if (!strcmp(name, "--path")) path = value;
        else if (!strcmp(name, "--connections")) connections = number(value);
        else if (!strcmp(name, "--seconds")) seconds = number(value);
        else if (!strcmp(name, "--warm-up")) warm_up = number(value);
        else if (!strcmp(name, "--patience")) patience = number(value);
        else if (!strcmp(name, "--ramp")) ramp = number(value);
        else if (!strcmp(name, "--size")) body_size = number(value);
        else if (!strcmp(name, "--model")) model = value;
        else if (!strcmp(name, "--stream")) expected = number(value);
        else if (!strcmp(name, "--header")) append_text(&extra, value), append_text(&extra, "\r\n");
        else if (!strcmp(name, "--keys")) read_keys(value);
        else if (!strcmp(name, "--seed")) random_state = number(value);
        else fprintf(stderr, "unknown option %s\n", name), exit(2);
    }
    if (!port || !connections || body_size > 1 << 20) fprintf(stderr, "--port, or a size beyond reason\n"), exit(2);
}

int main(int count, char **words) {
    read_options(count, words);
    if (!random_state) random_state = now() ^ (uint64_t)getpid() << 32;
    serial = random_state % 1000000;
    make_text();
    struct connection *all = calloc(connections, sizeof *all);
    if (!all) die("calloc");
    for (int i = 0; i < connections; i++) all[i].fd = -1;
    poll_fd = epoll_create1(EPOLL_CLOEXEC);

    uint64_t start = now(), opening = ramp ? (uint64_t)connections * 1000000000 / ramp : 0;
    uint64_t from = start + opening + warm_up * 1e9, until = from + seconds * 1e9, began = 0;
    uint64_t grace = patience * 1e9;
    int opened = 0, running = connections;
    uint64_t look_at = 0;
    double elapsed = 0;
    for (uint64_t time = start; running && (!ending || time < until + grace); time = now()) {
        if (!began && time >= from) {
            puts("begin");
            fflush(stdout);
            began = now();
            measures = true;
        }
        if (!ending && time >= until) {
            elapsed = (now() - began) / 1e9;
            puts("end");
            fflush(stdout);
            measures = false;
            ending = true;
        }
        int allowed = ramp ? (int)((time - start) / 1000000000.0 * ramp) + 1 : connections;
        while (!ending && opened < connections && opened < allowed) open_connection(&all[opened++]);
        if (time >= look_at) {
            running = !ending;
            for (int i = 0; i < opened; i++) {
                if (all[i].fd < 0 && all[i].retry_at <= time && !ending) open_connection(&all[i]);
                running += all[i].fd >= 0;
            }
            look_at = time + 1000000;
        }
        struct epoll_event events[256];
        int ready = epoll_wait(poll_fd, events, 256, 1);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->fd >= 0 && events[i].events & EPOLLOUT) send_rest(c);
            if (c->fd >= 0 && events[i].events & ~EPOLLOUT) receive(c);
        }
    }
    uint64_t quiet_since = now() - grace;
    for (int i = 0; i < opened; i++)
        if (all[i].fd >= 0 && all[i].began < quiet_since && all[i].last_read < quiet_since) mistakes[STALLED]++;
    report(elapsed);
}
