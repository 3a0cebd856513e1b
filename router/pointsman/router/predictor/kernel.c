/* The predictor's arithmetic for one excerpt, in one pass: what `features.py` and `model.py` do with NumPy.
 *
 * Stands beside them as a faster way to the same number; a property test holds the two together. Between two requests
 * the gateway touches more memory than the caches hold, so what counts here is how few cache lines are read and that
 * their misses overlap. Reads what it is given, allocates nothing, knows no Python.
 */
#include "kernel.h"

#include <math.h>
#include <string.h>

/* The finaliser of MurmurHash3: cheaper than a table of all letters, which would have to come from memory. */
static inline uint32_t spread(uint32_t folded) {
    uint32_t mixed = folded + LETTER_SALT;
    mixed = (mixed ^ mixed >> 16) * 0x85EBCA6Bu;
    mixed = (mixed ^ mixed >> 13) * 0xC2B2AE35u;
    return mixed ^ mixed >> 16;
}

static inline Letter computed(const Model *m, uint32_t code) {
    uint32_t found = character(m, code);
    return (Letter){spread((code + found) & 0xFFFF), kind_of(found)};
}

static inline Letter letter_of(const Model *m, uint32_t code) {
    return code < ASCII ? m->ascii[code] : computed(m, code);
}

void pointsman_prepare(Model *m) {
    for (uint32_t code = 0; code < ASCII; code++) m->ascii[code] = computed(m, code);
    for (int32_t count = 1, root = 4096; count < READ + 2; count++) {
        while (root * root > (1 << 24) / count) root--;
        m->inverse_roots[count] = root;
    }
}

void pointsman_words(const Model *m, const uint16_t *codes, int32_t size, Parts parts, Words *w) {
    const Letter pad = letter_of(m, PAD);
    int32_t count = 0, last_from = 1, first_to = 1, focus_from = 1, focus_to = 1, numbers = 0, i = 0;
    Letter letter = letter_of(m, codes[0]);
    w->word[0] = w->beginning[0] = pad.hash;
    while (i < size) {
        if (letter.kind == SPACE) {
            letter = letter_of(m, codes[++i]);
            continue;
        }
        uint32_t kind = letter.kind, hash = letter.hash, beginning = hash, power = BASE;
        last_from += i < parts.closing;
        first_to += i < parts.opening;
        focus_from += i < parts.focus_begin;
        focus_to += i < parts.focus_end;
        numbers += kind == DIGIT;
        letter = letter_of(m, codes[++i]);
        if (kind != SINGLE) {
            int32_t begins_until = i + BEGINNING - 1;
            for (; letter.kind == kind; letter = letter_of(m, codes[++i])) {
                hash += letter.hash * power;
                power *= BASE;
                beginning = i < begins_until ? hash : beginning;
            }
        }
        count++;
        w->word[count] = hash;
        w->beginning[count] = beginning;
    }
    for (int32_t run = 1; run <= MAX_RUN; run++) w->word[count + run] = pad.hash;
    for (int32_t j = 0; j <= count; j++) w->pair[j] = w->word[j] + w->word[j + 1] * BASE;
    if (parts.closing == 0) last_from = 0;
    w->count = count;
    w->numbers = numbers;
    w->last_from = last_from < count ? last_from : count; /* the last lines may begin inside the last word */
    w->first_to = first_to;
    w->focus_from = focus_from < focus_to ? focus_from : focus_to - 1; /* a sentence may consist of what is no word */
    w->focus_to = focus_to;
}

static inline uint32_t may_be_phrase(const Model *m, uint32_t place) {
    uint32_t bit = place >> (32 - FILTER_BITS);
    return m->filter[bit >> 3] >> (bit & 7) & 1;
}

/* How often the lexicon's headings are met: anywhere, in the last lines, in the first lines, beside a
 * document, in the sentence that asks.
 */
static void count_phrases(const Model *m, const Words *w, int document, uint32_t hits[PARTS * MAX_HEADINGS]) {
    for (int32_t j = 0; j < w->count + 2; j++) {
        uint32_t hashes[MAX_RUN], hash = 0, power = 1, any = 0;
        for (int32_t run = 0; run < MAX_RUN; run++, power *= BASE) {
            hashes[run] = hash += w->word[j + run] * power;
            any |= may_be_phrase(m, hash * m->multiplier);
        }
        if (!any) continue;
        for (int32_t run = 0; run < MAX_RUN; run++) {
            uint32_t place = hashes[run] * m->multiplier;
            if (!may_be_phrase(m, place)) continue;
            uint32_t entry = m->buckets[place >> (32 - BUCKET_BITS)];
            if (!entry || m->phrases[entry] != hashes[run]) continue;
            uint32_t *hit = hits + m->headings[entry];
            hit[0]++;
            hit[m->heading_count] += j >= w->last_from;
            hit[2 * m->heading_count] += j < w->first_to;
            hit[3 * m->heading_count] += document;
            hit[4 * m->heading_count] += j >= w->focus_from && j < w->focus_to;
        }
    }
}

static inline double heading_says(const Model *m, const uint32_t *hits, uint32_t h) {
    return (hits[h] < MOST_HITS ? hits[h] : MOST_HITS) * m->counts[h];
}

/* What the lexicon's phrases say. */
static double phrases_say(const Model *m, const Words *w, int document) {
    uint32_t hits[PARTS * MAX_HEADINGS] = {0};
    double sum = 0;
    count_phrases(m, w, document, hits);
    for (uint32_t h = 0; h < PARTS * m->heading_count; h++)
        if (hits[h]) sum += heading_says(m, hits, h);
    return sum;
}

static inline int ends_clause(uint32_t code) {
    int ascii = (code == ',') | (code == '.') | (code == ';') | (code == '?') | (code == '!');
    int wide = (code == 0xFF0C) | (code == 0xFF1B) | (code == 0xFF1F) | (code == 0xFF01);
    return ascii | wide | (code == 0x3001) | (code == 0x3002);
}

static int32_t breaks_of(const Excerpt *e) {
    int32_t breaks = 0;
    for (int32_t i = 0; i < e->size; i++) breaks += e->codes[i] == '\n';
    return breaks;
}

/* What a text looks like before a word of it is read, as `features._shape`. */
static uint32_t shape_of(const Excerpt *e) {
    int32_t breaks = breaks_of(e), length = (e->size >= 60) + (e->size >= 200), lines = (breaks >= 1) + (breaks >= 4);
    return (uint32_t)(length + 3 * (e->document ? 1 : 0) + 6 * lines);
}

/* The counts that are about the whole text, as `features.of_the_whole`. */
static void count_whole(const Excerpt *e, const Words *w, double values[WHOLE_COUNTS]) {
    int32_t words = w->count, breaks = breaks_of(e), clauses = 0;
    for (int32_t i = 0; i < e->size; i++) clauses += ends_clause(e->codes[i]);
    uint32_t last = e->size ? e->codes[e->size - 1] : 0;
    double size = e->size ? e->size : 1;
    values[0] = log1p(size);
    values[1] = log1p(words);
    values[2] = log1p(breaks);
    values[3] = e->document ? 1 : 0;
    values[4] = size / (words ? words : 1);
    values[5] = last == '?' || last == 0xFF1F || last == 0x061F ? 1 : 0;
    values[6] = size < 12 ? 1 : 0;
    values[7] = log1p(e->closing);
    values[8] = log1p(e->opening);
    values[9] = e->closing / size;
    values[10] = e->opening / size;
    values[11] = log1p(w->numbers);
    values[12] = log1p(clauses);
    const Focus *focus = &e->focus;
    double points = focus->points / (double)UNIT;
    values[13] = log1p(focus->end - focus->begin);
    values[14] = (focus->end - focus->begin) / size;
    values[15] = points > MOST_POINTS ? MOST_POINTS : points < -MOST_POINTS ? -MOST_POINTS : points;
    values[16] = log1p(focus->asking);
    values[17] = focus->place == 0;
    values[18] = log1p(focus->total > 1 ? focus->total - 1 : 0);
}

/* What the counts that are about the whole text say. */
static double whole_says(const Model *m, const Excerpt *e, const Words *w) {
    double values[WHOLE_COUNTS], sum = 0;
    count_whole(e, w, values);
    for (int i = 0; i < WHOLE_COUNTS; i++) sum += values[i] * m->counts[PARTS * m->heading_count + (uint32_t)i];
    return sum;
}

/* What a cell weighs, as `table.weights_of`: of the four entries of its bucket the lowest that bears its mark counts,
 * and one that bears it because it is empty is of step 0, which weighs nothing.
 */
static inline float weight_of(const Model *m, uint32_t cell) {
    const uint64_t each = 0x0001000100010001u;
    uint64_t bucket = m->table[cell >> MARK_BITS], mark = cell & ((1u << MARK_BITS) - 1);
    uint64_t other = (bucket ^ mark * (each << 8)) & 0xFF * (each << 8);
    uint64_t same = (other - each) & ~other & 0x8000 * each; /* its lowest bit is right, those above it may not be */
    uint32_t entry = (uint32_t)(bucket >> (__builtin_ctzll(same | 1ull << 63) & 0x30));
    return m->steps[same ? entry & 0xFF : 0];
}

/* The sum of `count` weights; in four parts, so that one addition need not wait for the last. */
static double sum_of(const Model *m, const uint32_t *cells, uint32_t count) {
    double sums[4] = {0};
    uint32_t i = 0;
    for (; i + 4 <= count; i += 4)
        for (uint32_t part = 0; part < 4; part++) sums[part] += weight_of(m, cells[i + part]);
    for (; i < count; i++) sums[0] += weight_of(m, cells[i]);
    return sums[0] + sums[1] + (sums[2] + sums[3]);
}

/* The table cells of every hashed feature, group by group, and how many each group has. */
typedef struct {
    uint32_t cells[MAX_GROUPS * (1 + LONGEST)], sizes[MAX_GROUPS];
} Cells;

/* The hashes of two words with others between them, as `features._far`; returns how many they are. */
static int32_t far_hashes(const uint32_t *word, int32_t from, int32_t to, uint32_t *hashes) {
    int32_t count = 0;
    if (to > from + FAR_WORDS) to = from + FAR_WORDS;
    for (int32_t j = from; j < to; j++)
        for (int32_t k = j + NEAREST; k <= j + FARTHEST && k < to; k++) hashes[count++] = word[j] + word[k] * FARTHER;
    if (!count) hashes[count++] = 0;
    return count;
}

/* Hashes that groups take features from. `earlier`: where each of them stood last before, or -1. `first`, `places`:
 * those `count` that did not stand before, and where they stand; behind their places is one after all others.
 */
typedef struct {
    const uint32_t *hashes;
    uint32_t first[1 + LONGEST], count;
    int16_t earlier[1 + LONGEST], places[2 + LONGEST];
} Line;

/* Makes the line of the first `size` of `hashes`, at least one. */
static void set_line(const Model *m, Line *line, const uint32_t *hashes, int32_t size) {
    uint32_t bits = 6, count = 0;
    int16_t seen[SEEN], last[1 + LONGEST]; /* by hash which of `first` it is; where each of those stood last */
    while (1 << bits < 8 * size) bits++; /* sparse: a branch that is foretold wrongly costs more than memory */
    memset(seen, 0xFF, sizeof *seen << bits);
    for (int32_t j = 0; j < size; j++) {
        uint32_t hash = hashes[j], place = hash * m->secret >> (32 - bits);
        while (seen[place] >= 0 && line->first[seen[place]] != hash) place = (place + 1) & ((1u << bits) - 1);
        int known = seen[place] >= 0;
        int32_t which = known ? seen[place] : (int32_t)count;
        line->earlier[j] = known ? last[which] : -1;
        line->first[count] = hash;
        line->places[count] = (int16_t)j;
        seen[place] = (int16_t)which;
        last[which] = (int16_t)j;
        count += !known;
    }
    line->places[count] = INT16_MAX;
    line->hashes = hashes;
    line->count = count;
}

/* The cells of what stands from `from` to `to`, each hash once; returns how many they are. */
static uint32_t line_cells(const Line *line, int32_t from, int32_t to, uint32_t seed, uint32_t *cells) {
    uint32_t count = 0;
    if (from == 0) {
        while (line->places[count] < to) count++;
        for (uint32_t i = 0; i < count; i++) cells[i] = line->first[i] * seed >> (32 - CELL_BITS);
        return count;
    }
    for (int32_t j = from; j < to; j++) {
        cells[count] = line->hashes[j] * seed >> (32 - CELL_BITS);
        count += line->earlier[j] < from; /* one that stood there before is written over by the next */
    }
    return count;
}

/* Asks for the weight of each cell, so that whoever adds them up later need not wait for each by itself. */
static void find_cells(const Model *m, const Words *w, const Words *around, uint32_t shape, Cells *found) {
    uint32_t skip[1 + LONGEST]; /* hashes of each word with the next but one */
    uint32_t far[FAR_WORDS * (FARTHEST - NEAREST + 1)];
    int32_t all = w->count + 1, all_around = around->count + 1;
    int32_t all_far = far_hashes(w->word, w->focus_from, w->focus_to, far);
    Line lines[LINE_FAR + 1], lines_around[LINE_BEGINNING + 1];
    for (int32_t j = 0; j < all; j++) skip[j] = w->word[j] + w->word[j + 2] * SKIPPING;
    set_line(m, &lines[LINE_WORD], w->word, all);
    set_line(m, &lines[LINE_PAIR], w->pair, all);
    set_line(m, &lines[LINE_BEGINNING], w->beginning, all);
    set_line(m, &lines[LINE_SKIP], skip, all);
    set_line(m, &lines[LINE_FAR], far, all_far);
    set_line(m, &lines_around[LINE_WORD], around->word, all_around);
    set_line(m, &lines_around[LINE_PAIR], around->pair, all_around);
    set_line(m, &lines_around[LINE_BEGINNING], around->beginning, all_around);
    const Place parts[] = {[PART_ALL] = {0, all},
                           [PART_CLOSING] = {w->last_from, all},
                           [PART_OPENING] = {0, w->first_to},
                           [PART_FOCUS] = {w->focus_from, w->focus_to},
                           [PART_AROUND] = {0, all_around}};
    uint32_t used = 0;
    for (uint32_t g = 0; g < m->group_count; g++) {
        const Group *group = &m->groups[g];
        uint32_t seed = group->seed * (group->shaped ? 2 * shape + 1 : 1), *cells = found->cells + used;
        const Line *line = (group->part == PART_AROUND ? lines_around : lines) + group->line;
        Place part = group->line == LINE_FAR ? (Place){0, all_far} : parts[group->part]; /* far: of the focus alone */
        uint32_t count = line_cells(line, part.begin, part.end, seed, cells);
        for (uint32_t i = 0; i < count; i++) __builtin_prefetch(m->table + (cells[i] >> MARK_BITS));
        used += found->sizes[g] = count;
    }
}

static inline double group_says(const Model *m, uint32_t g, const uint32_t *cells, uint32_t size) {
    return sum_of(m, cells, size) / sqrt(size) * m->groups[g].scale;
}

static void words_of(const Model *m, const Excerpt *e, Words *w, Words *around) {
    Parts parts = {e->opening, e->size - e->closing, e->focus.begin, e->focus.end}, none = {0};
    pointsman_words(m, e->codes, e->size, parts, w);
    pointsman_words(m, e->around, e->around_size, none, around);
}

static inline double tempered(const Model *m, double sum) { return m->bend * asinh(sum / m->bend); }

double pointsman_probability(const Model *m, const Excerpt *e) {
    Words w, around;
    Cells found;
    words_of(m, e, &w, &around);
    /* First ask for every weight, then do other work, then add them up: the misses overlap. */
    find_cells(m, &w, &around, shape_of(e), &found);
    double score = m->bias + whole_says(m, e, &w) + phrases_say(m, &w, e->document);
    const uint32_t *cell = found.cells;
    for (uint32_t g = 0; g < m->group_count; cell += found.sizes[g++]) score += group_says(m, g, cell, found.sizes[g]);
    double odds = tempered(m, score);
    if (odds >= 0) return 1 / (1 + exp(-odds));
    return exp(odds) / (1 + exp(odds));
}

uint32_t pointsman_contributions(const Model *m, const Excerpt *e, double contributions[MAX_CONTRIBUTIONS]) {
    Words w, around;
    Cells found;
    uint32_t hits[PARTS * MAX_HEADINGS] = {0}, used = 0;
    double values[WHOLE_COUNTS];
    words_of(m, e, &w, &around);
    find_cells(m, &w, &around, shape_of(e), &found);
    count_phrases(m, &w, e->document, hits);
    count_whole(e, &w, values);
    const uint32_t *cell = found.cells;
    for (uint32_t g = 0; g < m->group_count; cell += found.sizes[g++])
        contributions[used++] = group_says(m, g, cell, found.sizes[g]);
    for (uint32_t h = 0; h < PARTS * m->heading_count; h++) contributions[used++] = heading_says(m, hits, h);
    for (int i = 0; i < WHOLE_COUNTS; i++)
        contributions[used++] = values[i] * m->counts[PARTS * m->heading_count + (uint32_t)i];
    contributions[used++] = m->bias;
    double sum = 0;
    for (uint32_t i = 0; i < used; i++) sum += contributions[i];
    double counting = sum ? tempered(m, sum) / sum : 1;
    for (uint32_t i = 0; i < used; i++) contributions[i] *= counting;
    return used;
}
