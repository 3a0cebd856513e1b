/* What the predictor's kernel is made of: `excerpt.c` says what is read, `kernel.c` judges it, `binding.c` is what
 * Python calls.
 */
#ifndef POINTSMAN_KERNEL_H
#define POINTSMAN_KERNEL_H

#include <stdint.h>

/* Lengths in characters, as in `excerpt.py`. */
enum { HEAD = 400, TAIL = 200, LONGEST = HEAD + TAIL + 1, REACH = 2000, OPENING = 120, CLOSING = 160 };

/* What features are, as in `features.py`, in the order of `features.KernelNumbers`: Python's must be the same. */
#define POINTSMAN_NUMBERS \
    {LIMIT,     BLOCK_BITS, PAD,         SPACE,       SINGLE,   BASE, LETTER_SALT, MAX_RUN, \
     BEGINNING, TABLE_BITS, BUCKET_BITS, FILTER_BITS, MOST_HITS}
enum { LIMIT = 0xFFFF, BLOCK_BITS = 6, PAD = 0, SPACE = 0, SINGLE = 3 };
enum { BASE = 0x01000193, LETTER_SALT = 0x51ED270B };
enum { MAX_RUN = 4, BEGINNING = 4, TABLE_BITS = 18, BUCKET_BITS = 17, FILTER_BITS = 16, MOST_HITS = 3 };
enum { LINE_WORD = 0, LINE_PAIR = 1, LINE_BEGINNING = MAX_RUN };
enum { PART_ALL = 0, PART_CLOSING = 1, PART_OPENING = 2 };

/* How much room there is. */
enum { MAX_GROUPS = 16, MAX_HEADINGS = 80, MAX_TAGS = 1024, ASCII = 128, WHOLE_COUNTS = 11 };
enum { MAX_CONTRIBUTIONS = MAX_GROUPS + 3 * MAX_HEADINGS + WHOLE_COUNTS + 1 };

/* A group of hashed features, as `features.Group`. */
typedef struct {
    uint32_t line, part, seed;
    float scale;
} Group;

/* A character as a part of words: its hash once folded, and its token kind. */
typedef struct {
    uint32_t hash, kind;
} Letter;

typedef struct {
    uint32_t multiplier, heading_count;
    uint32_t group_count;
    Group groups[MAX_GROUPS];
    double counts[3 * MAX_HEADINGS + WHOLE_COUNTS];
    double bias;
    /* Characters: `blocks` says which block of `characters` a code point lies in; see `features.KernelArrays`. */
    const uint16_t *blocks;
    const uint32_t *characters;
    /* The lexicon: a bit for each two buckets, whether they hold a phrase; the buckets; the phrases, 0 being none. */
    const uint8_t *filter;
    const uint16_t *buckets;
    const uint32_t *phrases;
    const uint8_t *headings;
    const float *table;
    /* The names of documents' tags as far as they are ASCII, a bar before and after each. */
    char tags[MAX_TAGS];
    /* What the characters of most texts are, once more. */
    Letter ascii[ASCII];
} Model;

/* A string of `length` code points of `width` bytes each: 1, 2 or 4. */
typedef struct {
    const void *data;
    int width;
    int64_t length;
} Text;

/* What is read of a text, as `excerpt.Excerpt`; `codes`: the `size` characters of its text, each at most
 * `LIMIT`, and a pad.
 */
typedef struct {
    uint16_t codes[LONGEST + 1];
    int32_t size, opening, closing;
    int64_t length, lines;
    int document;
} Excerpt;

/* Makes what a model derives from its other fields; the last step of building one. */
void pointsman_prepare(Model *model);

/* Cuts `excerpt` out of `text`. Returns 0 where there may be a document to leave out: that is for Python. */
int pointsman_excerpt(const Model *model, Text text, Excerpt *excerpt);

/* P(think) of an excerpt, in [0, 1]. Its size, opening and closing must be in range. */
double pointsman_probability(const Model *model, const Excerpt *excerpt);

/* How far each thing moves the log-odds of an excerpt: the groups, the counts, the bias, in this order. Returns how
 * many they are; together they are the log-odds of `pointsman_probability`.
 */
uint32_t pointsman_contributions(const Model *model, const Excerpt *excerpt, double contributions[MAX_CONTRIBUTIONS]);

/* Appends the characters of `text` in [from, to) to those of `excerpt`, which must have the room. */
void pointsman_append(Excerpt *excerpt, Text text, int64_t from, int64_t to);

/* A character: what is added to its code to fold it (16 bits), its token kind, and whether it is white space. */
static inline uint32_t character(const Model *m, uint32_t code) {
    uint32_t block = m->blocks[code >> BLOCK_BITS], mask = (1u << BLOCK_BITS) - 1;
    return m->characters[(block << BLOCK_BITS) + (code & mask)];
}

static inline uint32_t kind_of(uint32_t character) { return character >> 16 & 0xFF; }

static inline int is_space(const Model *m, uint32_t code) { return (int)(character(m, code) >> 24); }

#endif
