/* The part of a text that is read, as `excerpt.py` cuts it out of texts without marked documents.
 *
 * Stands before `kernel.c`, and after `asking.c`. Reads a few thousand characters from each end of a text, and keeps
 * those few hundred that count.
 */
#include "kernel.h"

#include <string.h>

static inline int is_colon(uint32_t code) { return code == ':' || code == 0xFF1A; }

/* What a line that only closes a block is made of. */
static int is_rule(uint32_t code) {
    switch (code) {
    case '-': case '=': case '*': case '_': case '`': case '#': case '~': case '>':
    case ' ': case '\t': case '\r': case '\n': return 1;
    default: return 0;
    }
}

/* Whether a closing tag begins among `size` characters. */
#define SCANNER(NAME, CHARACTER)                                                                  \
    static int NAME(const CHARACTER *codes, int32_t size) {                                       \
        int32_t tags = 0;                                                                         \
        for (int32_t i = 0; i + 1 < size; i++) tags |= (codes[i] == '<') & (codes[i + 1] == '/'); \
        return tags;                                                                              \
    }

SCANNER(scan_narrow, uint8_t)
SCANNER(scan_middle, uint16_t)
SCANNER(scan_wide, uint32_t)

static int scan(Text text, int64_t from, int64_t to) {
    int32_t size = to > from ? (int32_t)(to - from) : 0;
    if (!size) return 0;
    if (text.width == 1) return scan_narrow((const uint8_t *)text.data + from, size);
    if (text.width == 2) return scan_middle((const uint16_t *)text.data + from, size);
    return scan_wide((const uint32_t *)text.data + from, size);
}

/* Whether one of the closing tags between two places may be that of a document; what is not ASCII may be anything. */
static int may_close_document(const Model *m, Text text, int64_t from, int64_t to) {
    for (int64_t i = from; i + 2 < to; i++) {
        if (code_at(text, i) != '<' || code_at(text, i + 1) != '/') continue;
        char name[20] = "|";
        size_t size = 1;
        uint32_t code = 0;
        for (int64_t at = i + 2; at < to && size < sizeof name - 2; at++) {
            code = code_at(text, at);
            uint32_t lower = code >= 'A' && code <= 'Z' ? code + ('a' - 'A') : code;
            if ((lower < 'a' || lower > 'z') && lower != '_') break;
            name[size++] = (char)lower;
        }
        if (code >= ASCII) return 1;
        name[size] = '|';
        if (size > 1 && strstr(m->tags, name)) return 1;
    }
    return 0;
}

/* The first, or the last, line break in [from, to), or -1. */
static int32_t first_break(const Excerpt *e, int32_t from, int32_t to) {
    if (to > e->size) to = e->size;
    for (int32_t i = from; i < to; i++)
        if (e->codes[i] == '\n') return i;
    return -1;
}

static int32_t last_break(const Excerpt *e, int32_t from, int32_t to) {
    for (int32_t i = to - 1; i >= from; i--)
        if (e->codes[i] == '\n') return i;
    return -1;
}

/* Where the first sentence that ends in [from, to) ends, or -1. */
static int32_t sentence_end(const Model *m, const Excerpt *e, int32_t from, int32_t to) {
    for (int32_t i = from; i < to; i++) {
        uint32_t code = e->codes[i];
        if (code == 0x3002 || code == 0xFF01 || code == 0xFF1F) return i + 1;
        int stops = code == '.' || code == '!' || code == '?';
        if (stops && i + 1 < to && is_space(m, e->codes[i + 1])) return i + 2;
    }
    return -1;
}

static int32_t without_space(const Model *m, const Excerpt *e, int32_t end) {
    while (end > 0 && is_space(m, e->codes[end - 1])) end--;
    return end;
}

static int32_t first_lines(const Model *m, const Excerpt *e) {
    int32_t end = first_break(e, 0, OPENING);
    if (0 < end && end <= 40) {
        int32_t said = without_space(m, e, end);
        if (said > 0 && is_colon(e->codes[said - 1])) end = first_break(e, end + 2, OPENING + end);
    }
    if (end > 0) return end;
    if (e->size <= OPENING) return e->size;
    end = sentence_end(m, e, 40, OPENING);
    return end >= 0 ? end : OPENING;
}

static int32_t last_lines(const Model *m, const Excerpt *e) {
    int32_t said = e->size, from = e->size > CLOSING ? e->size - CLOSING : 0;
    while (said > 0 && is_rule(e->codes[said - 1])) said--;
    int32_t start = last_break(e, from, said);
    if (start >= 0 && said - start <= 24 && is_colon(e->codes[said - 1]))
        start = last_break(e, from, without_space(m, e, start));
    if (start >= 0) return e->size - start - 1;
    if (e->size <= CLOSING) return e->size;
    int32_t end = sentence_end(m, e, from, e->size - 20);
    return end >= 0 ? e->size - end : CLOSING;
}

int pointsman_may_hold_document(const Model *m, Text text) {
    int64_t length = text.length, soon = length < REACH ? length : REACH;
    int64_t later = length - REACH > REACH ? length - REACH : REACH;
    if (!(scan(text, 0, soon) | scan(text, later, length))) return 0;
    if (length <= 2 * REACH) return may_close_document(m, text, 0, length);
    return may_close_document(m, text, 0, soon) || may_close_document(m, text, later, length);
}

/* Copies the characters of `text` in [from, to); returns where those end that are there now. */
static uint16_t *copied(uint16_t *codes, Text text, int64_t from, int64_t to) {
    for (int64_t i = from; i < to; i++) *codes++ = code_at(text, i);
    return codes;
}

/* Cuts head and tail out of a text, of which [0, head) and [size - tail, size) lie in `codes` and `last`; returns how
 * many characters of them, followed by a pad, are in `into` then.
 */
static int32_t cut(const Model *m, const uint16_t *codes, const uint16_t *last, int64_t size, uint16_t *into) {
    int whole = size <= HEAD + TAIL;
    int32_t begin = 0, head = whole ? (int32_t)size : HEAD, used = 0, to = whole ? 0 : TAIL;
    while (begin < head && is_space(m, codes[begin])) begin++;
    if (whole)
        while (head > begin && is_space(m, codes[head - 1])) head--;
    while (to > 0 && is_space(m, last[to - 1])) to--;
    for (int32_t i = begin; i < head; i++) into[used++] = codes[i];
    if (!whole) into[used++] = PAD;
    for (int32_t i = 0; i < to; i++) into[used++] = last[i];
    into[used] = PAD;
    return used;
}

void pointsman_excerpt(const Model *m, Text text, int document, Excerpt *e) {
    uint16_t seen[WINDOW + 1], asked[WINDOW + 1];
    int64_t length = text.length;
    uint16_t *end;
    if (length <= 2 * REACH) {
        end = copied(seen, text, 0, length);
    } else {
        end = copied(seen, text, 0, REACH);
        *end++ = '\n';
        end = copied(end, text, length - REACH, length);
    }
    *end = PAD;
    int32_t size = (int32_t)(end - seen), kept = pointsman_asked(m, seen, size, asked);
    e->document = document || kept >= 0;
    const uint16_t *last = end - (size > TAIL ? TAIL : size);
    e->around_size = 0;
    e->around[0] = PAD;
    if (kept >= 0) {
        e->size = cut(m, asked, asked + (kept > TAIL ? kept - TAIL : 0), kept, e->codes);
        e->around_size = cut(m, seen, last, length, e->around);
    } else {
        e->size = cut(m, seen, last, length, e->codes);
    }
    e->opening = first_lines(m, e);
    e->closing = last_lines(m, e);
    e->focus = pointsman_focus(m, e->codes, e->size);
}
