/* The predictor's arithmetic for one text, in one pass: what `features.py` and `model.py` do with NumPy.
 *
 * Stands beside them as a faster way to the same number; a property test holds the two together. Optional: where
 * no compiler was at hand when Pointsman was installed, NumPy does the work. Reads what it is given, allocates
 * nothing, knows no Python.
 */
#include <math.h>
#include <stdint.h>

/* Of which source this was compiled: a library left over from another one is not used. */
uint32_t pointsman_fingerprint(void) { return FINGERPRINT; }

enum { ROOM = 1024, MAX_COUNTS = 512 };

/* A group of hashed features, as `features.Group`; `part`: 0 the whole text, 1 its closing, 2 its opening. */
typedef struct {
    int32_t line, part;
    uint32_t seed;
    double scale;
} Group;

typedef struct {
    /* for each code point up to `limit`: its hash and its token kind */
    const uint32_t *letters;
    const uint8_t *kinds;
    /* powers of the rolling hashes and their inverses, ROOM of each at least */
    const uint32_t *powers, *inverses;
    /* the lexicon: a hash table without collisions; entry 0 is none */
    const uint16_t *buckets;
    const uint32_t *phrases;
    const uint8_t *headings;
    /* the weights */
    const float *table;
    const double *counts;
    const Group *groups;
    uint32_t multiplier;
    int32_t limit, group_count, heading_count, table_shift, bucket_shift, max_run, beginning;
    int32_t before, after, space, single, most_hits;
} Model;

/* How many of the ascending `starts` lie before `position`. */
static int32_t words_before(const int32_t *starts, int32_t count, int32_t position) {
    int32_t low = 0;
    while (low < count && starts[low] < position) low++;
    return low;
}

/*
 * The log-odds of thinking that words and phrases add up to, without bias and counts of the whole; NAN where the
 * text is too long. `codes`: `length` code points, pads included; `opening`, `closing`: characters of the text
 * that are its first and its last lines; `words`: set to the number of words.
 */
double pointsman_score(const Model *m, const uint32_t *codes, int32_t length, int32_t opening, int32_t closing,
                       int32_t *words) {
    uint32_t prefix[ROOM + 1], chain[ROOM + 1], word[ROOM], beginning[ROOM];
    uint8_t kinds[ROOM], hits[MAX_COUNTS] = {0};
    int32_t starts[ROOM], ends[ROOM], begun = 0, count = 0;
    double score = 0;

    if (length > ROOM || length < m->before + m->after || 3 * m->heading_count > MAX_COUNTS) return NAN;
    prefix[0] = 0;
    for (int32_t i = 0; i < length; i++) {
        uint32_t code = codes[i] > (uint32_t)m->limit ? (uint32_t)m->limit : codes[i];
        kinds[i] = m->kinds[code];
        prefix[i + 1] = prefix[i] + m->letters[code] * m->powers[i];
    }
    for (int32_t i = 1; i < length - 1; i++) {
        if (kinds[i] == m->space) continue;
        int alone = kinds[i] == m->single;
        if (alone || kinds[i] != kinds[i - 1]) starts[begun++] = i;
        if (alone || kinds[i] != kinds[i + 1]) ends[count++] = i + 1;
    }

    chain[0] = 0;
    for (int32_t j = 0; j < count; j++) {
        int32_t start = starts[j], end = ends[j], head = start + m->beginning < end ? start + m->beginning : end;
        word[j] = (prefix[end] - prefix[start]) * m->inverses[start];
        beginning[j] = (prefix[head] - prefix[start]) * m->inverses[start];
        chain[j + 1] = chain[j] + word[j] * m->powers[j];
    }

    int32_t size = length - m->before - m->after, text_end = m->before + size, width = count - m->max_run + 1;
    int32_t first = words_before(starts, count, m->before - 1), stop = words_before(starts, count, text_end);
    int32_t last_from = words_before(starts, count, closing == size ? m->before - 1 : text_end - closing);
    if (last_from > stop - 1) last_from = stop - 1; /* the last lines may begin inside the last word */
    int32_t first_to = words_before(starts, count, m->before + opening);
    *words = stop - first - 1;

    for (int32_t g = 0; g < m->group_count; g++) {
        const Group *group = &m->groups[g];
        int32_t from = group->part == 1 ? last_from : first, to = group->part == 2 ? first_to : stop;
        int32_t run = group->line + 1;
        double sum = 0;
        if (to > width) to = width;
        if (to <= from) return NAN;
        for (int32_t j = from; j < to; j++) {
            uint32_t hash = group->line == m->max_run ? beginning[j]
                            : run == 1                ? word[j]
                                                      : (chain[j + run] - chain[j]) * m->inverses[j];
            sum += m->table[(hash * group->seed) >> m->table_shift];
        }
        score += sum / sqrt((double)(to - from)) * group->scale;
    }

    for (int32_t j = 0; j < width; j++) {
        for (int32_t run = 1; run <= m->max_run; run++) {
            uint32_t hash = run == 1 ? word[j] : (chain[j + run] - chain[j]) * m->inverses[j];
            uint16_t entry = m->buckets[(hash * m->multiplier) >> m->bucket_shift];
            if (!entry || m->phrases[entry] != hash) continue;
            uint8_t *hit = hits + m->headings[entry];
            hit[0] += hit[0] < m->most_hits;
            if (j >= last_from) hit[m->heading_count] += hit[m->heading_count] < m->most_hits;
            if (j < first_to) hit[2 * m->heading_count] += hit[2 * m->heading_count] < m->most_hits;
        }
    }
    for (int32_t h = 0; h < 3 * m->heading_count; h++) score += hits[h] * m->counts[h];
    return score;
}
