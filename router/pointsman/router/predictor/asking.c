/* Which lines of a text ask, as `asking.py` chooses them, and which sentences of a system prompt set a task, as
 * `standing_task.py` does: the same whole numbers, so the same lines.
 *
 * Stands before `excerpt.c`. Works on a copy of at most `WINDOW` characters; allocates nothing, knows no Python.
 */
#include "kernel.h"

#include <string.h>

/* A sentence, as `asking.Sentence`; `kept`: whether it is among those that ask. */
typedef struct {
    int32_t begin, end, line;
    uint8_t before, after, bullet, kept;
} Sentence;

typedef struct {
    Sentence items[WINDOW / 2 + 2];
    int32_t count, lines;
} Sentences;

/* What is taken off both ends of a line: `asking.EDGES`. */
static int is_edge(uint32_t code) {
    switch (code) {
    case '-': case '=': case '*': case '_': case '`': case '#': case '~': case '>': case ' ': case '\t': case '\r':
    case '"': case '\'': case '<': case '|': case 0x201C: case 0x201D: case 0xAB: case 0xBB: case 0x300C: case 0x300D:
        return 1;
    default: return 0;
    }
}

static int is_bullet(uint32_t code) {
    return code == '-' || code == '*' || code == 0x2022 || code == 0xB7 || code == '|' || code == '>' || code == '#';
}

static int is_question_mark(uint32_t code) { return code == '?' || code == 0xFF1F || code == 0x061F; }

static int is_mark(uint32_t code) {
    switch (code) {
    case '|': case ',': case ';': case ':': case '{': case '}': case '[': case ']': case '(': case ')': case '=':
    case '<': case '>': case '/': case '\\': case '_': case 0x3001: case 0xFF1A: case 0xFF1B: case 0xFF08: case 0xFF09:
        return 1;
    default: return 0;
    }
}

static void add_sentence(const Model *m, const uint16_t *codes, int32_t begin, int32_t end, Sentences *found) {
    while (begin < end && is_space(m, codes[begin])) begin++;
    while (end > begin && is_space(m, codes[end - 1])) end--;
    if (begin == end) return;
    found->items[found->count++] = (Sentence){.begin = begin, .end = end};
}

static void add_parts(const Model *m, const uint16_t *codes, int32_t begin, int32_t end, Sentences *found) {
    int32_t start = begin, at = end - begin <= CUT_FROM ? end : begin;
    while (at < end) {
        int32_t stop = 0;
        if (at + 1 - start >= SHORTEST_SENTENCE && at + 1 < end) {
            uint32_t code = codes[at];
            if (code == 0x3002 || code == 0xFF01 || code == 0xFF1F) stop = at + 1;
            else if ((code == '.' || code == '!' || code == '?') && is_space(m, codes[at + 1])) stop = at + 2;
        }
        if (stop) {
            add_sentence(m, codes, start, stop, found);
            start = at = stop;
        } else {
            at++;
        }
    }
    add_sentence(m, codes, start, end, found);
}

static void find_sentences(const Model *m, const uint16_t *codes, int32_t size, Sentences *found) {
    uint8_t gap = 2;
    found->count = found->lines = 0;
    for (int32_t at = 0, stop; at <= size; at = stop + 1) {
        for (stop = at; stop < size && codes[stop] != '\n';) stop++;
        int32_t begin = at, end = stop, first = found->count;
        while (begin < end && is_edge(codes[begin])) begin++;
        while (end > begin && is_edge(codes[end - 1])) end--;
        add_parts(m, codes, begin, end, found);
        if (found->count == first) {
            gap = 2;
            if (first) found->items[first - 1].after = 2;
            continue;
        }
        for (int32_t i = first; i < found->count; i++) {
            Sentence *each = &found->items[i];
            each->line = found->lines;
            each->bullet = at < stop && is_bullet(codes[at]);
            each->before = i == first ? gap : 0;
            each->after = i == found->count - 1;
        }
        gap = 1;
        found->lines++;
    }
    if (found->count) found->items[found->count - 1].after = 2;
}

static int32_t flags_say(const Model *m, const uint16_t *codes, const Sentences *found, int32_t place) {
    const Sentence *each = &found->items[place];
    const uint16_t *read = codes + each->begin;
    int32_t size = each->end - each->begin, last = found->count - 1, reach = size < READ ? size : READ;
    uint32_t final = codes[each->end - 1];
    int32_t digits = 0, marks = 0, asks_inside = 0, cells = 0, asks = is_question_mark(final), sum = 0;
    for (int32_t i = 0; i < reach; i++) {
        digits += kind_of(character(m, read[i])) == DIGIT;
        marks += is_mark(read[i]);
        asks_inside |= is_question_mark(read[i]);
        cells |= read[i] == '{' || read[i] == '|' || read[i] == '\t';
    }
    const int so[ASKING_FLAGS] = {
        place == 0, place == 1, place == 2, place == last, place == last - 1, place == last - 2,
        asks, final == ':' || final == 0xFF1A, kind_of(character(m, read[0])) == DIGIT, each->bullet,
        each->before == 2, each->after == 2, each->before == 0, each->after == 0,
        size < 12, size > 120, size > 200,
        digits * 8 > reach, digits == 0, marks * 8 > reach,
        final == '.' || final == '!' || final == 0x3002 || final == 0xFF01, asks_inside, cells,
        asks && place == 0, asks && place == last, 1,
    };
    for (int i = 0; i < ASKING_FLAGS; i++) sum += so[i] ? m->asking[(1 << ASKING_BITS) + i] : 0;
    return sum;
}

/* What the words of a sentence say by the weights of `cells`. */
static int32_t words_say(const Model *m, const int16_t *cells, uint16_t *codes, const Sentence *each) {
    static const uint32_t SEEDS[] = {0x9E3779B1u, 0x85EBCA77u, 0xC2B2AE3Du};
    int32_t size = each->end - each->begin < READ ? each->end - each->begin : READ;
    /* The words are read up to a pad, which for a moment stands in place of what follows. */
    uint16_t *after = codes + each->begin + size, next = *after;
    Words w;
    *after = PAD;
    pointsman_words(m, codes + each->begin, size, (Parts){0}, &w);
    *after = next;
    const uint32_t *const lines[] = {w.word, w.pair, w.beginning};
    int64_t sum = 0;
    for (int line = 0; line < 3; line++)
        for (int32_t j = 0; j <= w.count; j++) sum += cells[(lines[line][j] * SEEDS[line]) >> (32 - ASKING_BITS)];
    /* Rounded down, also below 0. */
    return (int32_t)((sum * m->inverse_roots[w.count + 1]) >> 12);
}

static int32_t score(const Model *m, uint16_t *codes, const Sentences *found, int32_t place) {
    return words_say(m, m->asking, codes, &found->items[place]) + flags_say(m, codes, found, place);
}

static int has_break(const uint16_t *codes, int32_t size) {
    int32_t found = 0;
    for (int32_t i = 0; i < size; i++) found |= codes[i] == '\n';
    return found;
}

Focus pointsman_focus(const Model *m, uint16_t *codes, int32_t size) {
    Sentences found;
    find_sentences(m, codes, size, &found);
    if (found.count < 2) return (Focus){0, size, 0, found.count, 0, CERTAIN};
    Focus focus = {.total = found.count, .points = INT32_MIN};
    for (int32_t i = 0; i < found.count; i++) {
        int32_t points = score(m, codes, &found, i);
        focus.asking += points > LEAST;
        if (points <= focus.points) continue;
        focus.points = points;
        focus.place = i;
    }
    focus.begin = found.items[focus.place].begin;
    focus.end = found.items[focus.place].end;
    return focus;
}

int32_t pointsman_asked(const Model *m, uint16_t *codes, int32_t size, uint16_t *asked) {
    if (size <= MATERIAL || (size <= LONGEST_LINE && !has_break(codes, size))) return -1;
    Sentences found;
    find_sentences(m, codes, size, &found);
    if (found.count < 2) return -1;
    int32_t most = INT32_MIN, half = MOST_SCORED / 2, all = found.count <= MOST_SCORED;
    for (int32_t i = 0; i < found.count; i++) {
        if (!all && i == half) i = found.count - half;
        int32_t points = score(m, codes, &found, i);
        found.items[i].kept = points > LEAST;
        most = points > most ? points : most;
    }
    if (most <= LEAST) return -1;
    /* A line that is not too long is read as a whole where one of its sentences asks. */
    int32_t total = 0, kept = 0;
    for (int32_t first = 0, next; first < found.count; first = next) {
        int32_t length = 0, asks = 0;
        for (next = first; next < found.count && found.items[next].line == found.items[first].line; next++) {
            length += found.items[next].end - found.items[next].begin;
            asks |= found.items[next].kept;
        }
        total += length;
        for (int32_t i = first; i < next; i++) {
            if (asks && length <= LONGEST_LINE) found.items[i].kept = 1;
            if (found.items[i].kept) kept += found.items[i].end - found.items[i].begin;
        }
    }
    if (total - kept < MATERIAL) return -1;
    int32_t used = 0;
    for (int32_t i = 0; i < found.count; i++) {
        const Sentence *each = &found.items[i];
        if (!each->kept) continue;
        if (used) asked[used++] = each->before == 0 && each[-1].kept ? ' ' : '\n';
        memcpy(asked + used, codes + each->begin, sizeof *codes * (size_t)(each->end - each->begin));
        used += each->end - each->begin;
    }
    asked[used] = PAD;
    return used;
}

int32_t pointsman_tasks(const Model *m, Text text, Place places[TASKS_MOST]) {
    uint16_t codes[TASKS_WINDOW + 1];
    int32_t size = text.length < TASKS_WINDOW ? (int32_t)text.length : TASKS_WINDOW, count = 0;
    for (int32_t i = 0; i < size; i++) codes[i] = code_at(text, i);
    codes[size] = PAD;
    Sentences found;
    find_sentences(m, codes, size, &found);
    int32_t least = TASKS_LEAST;
    for (int32_t left = found.count; left > 1; left >>= 1) least += TASKS_DOUBT;
    for (int32_t i = 0; i < found.count; i++) {
        const Sentence *each = &found.items[i];
        if (words_say(m, m->tasks, codes, each) + m->tasks[1 << ASKING_BITS] <= least) continue;
        places[count++] = (Place){each->begin, each->end};
    }
    return count;
}
