/* What the predictor's kernel is made of: `excerpt.c` says what is read, `kernel.c` judges it, `binding.c` is what
 * Python calls.
 */
#ifndef POINTSMAN_KERNEL_H
#define POINTSMAN_KERNEL_H

#include <stdint.h>

/* Lengths in characters, as in `excerpt.py`. */
enum { HEAD = 400, TAIL = 200, LONGEST = HEAD + TAIL + 1, REACH = 2000, OPENING = 120, CLOSING = 160 };

/* What features are, as in `features.py`, in the order of `kernel_tables.KernelNumbers`: Python's must be the same. */
#define POINTSMAN_NUMBERS \
    {LIMIT,     BLOCK_BITS, PAD,         SPACE,       SINGLE,   BASE, LETTER_SALT, MAX_RUN, \
     BEGINNING, CELL_BITS,  MARK_BITS,   BUCKET_BITS, FILTER_BITS, MOST_HITS, SKIPPING, FARTHER}
enum { LIMIT = 0xFFFF, BLOCK_BITS = 6, PAD = 0, SPACE = 0, DIGIT = 2, SINGLE = 3 };
enum { BASE = 0x01000193, LETTER_SALT = 0x51ED270B };
/* Cells and the table that holds their weights, as in `table.py`: a bucket has `WAYS` entries of 16 bits. */
enum { CELL_BITS = 26, MARK_BITS = 8, WAYS = 4, ENTRIES = WAYS << (CELL_BITS - MARK_BITS), STEPS = 256 };
#define SKIPPING 0xA183F3BBu
#define FARTHER 0xE99D5DF9u
enum { MAX_RUN = 4, BEGINNING = 4, BUCKET_BITS = 17, FILTER_BITS = 16, MOST_HITS = 3 };
enum { LINE_WORD = 0, LINE_PAIR = 1, LINE_BEGINNING = MAX_RUN, LINE_SKIP = MAX_RUN + 1, LINE_FAR };
enum { NEAREST = 3, FARTHEST = 8, FAR_WORDS = 80 };
enum { PART_ALL = 0, PART_CLOSING = 1, PART_OPENING = 2, PART_FOCUS = 3, PART_AROUND = 4 };

/* What asks in a text, as in `asking.py`; `UNIT` is what counts 1 in a score. */
enum { ASKING_BITS = 14, ASKING_FLAGS = 26, ASKING_SIZE = (1 << ASKING_BITS) + ASKING_FLAGS, UNIT = 256 };
enum { LEAST = 0, MATERIAL = 20, LONGEST_LINE = 600, MOST_SCORED = 200, CUT_FROM = 60, SHORTEST_SENTENCE = 20 };
enum { READ = 160, CERTAIN = 2 * UNIT, MOST_POINTS = 4 };

/* What sets a task in a system prompt, as in `standing_task.py`: one weight behind those of the cells. */
enum { TASKS_SIZE = (1 << ASKING_BITS) + 1, TASKS_LEAST = UNIT / 2, TASKS_DOUBT = 177 };
enum { TASKS_WINDOW = 801, TASKS_MOST = TASKS_WINDOW / 2 + 2 };

/* How much room there is. */
enum { MAX_GROUPS = 24, MAX_HEADINGS = 80, MAX_TAGS = 1024, ASCII = 128, WHOLE_COUNTS = 19, PARTS = 5, SEEN = 8192 };
enum { WINDOW = 2 * REACH + 1 };
enum { MAX_CONTRIBUTIONS = MAX_GROUPS + PARTS * MAX_HEADINGS + WHOLE_COUNTS + 1 };

/* A group of hashed features, as `features.Group`. */
typedef struct {
    uint32_t line, part, seed, shaped;
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
    double counts[PARTS * MAX_HEADINGS + WHOLE_COUNTS];
    double bias;
    double bend; /* see `tempering.py` */
    /* Odd, and known to no client, who otherwise could write words that all fall into one place. */
    uint32_t secret;
    /* Characters: `blocks` says which block of `characters` a code point lies in; see `features.KernelArrays`. */
    const uint16_t *blocks;
    const uint32_t *characters;
    /* The lexicon: a bit for each two buckets, whether they hold a phrase; the buckets; the phrases, 0 being none. */
    const uint8_t *filter;
    const uint16_t *buckets;
    const uint32_t *phrases;
    const uint8_t *headings;
    /* What `asking.Weights` are: of the cells, and of the flags after them. */
    const int16_t *asking;
    /* The same of what sets a task: of the cells, and of every sentence. */
    const int16_t *tasks;
    /* `table.Table`: its buckets, and the weight of each step. */
    const uint64_t *table;
    const float *steps;
    /* The names of documents' tags as far as they are ASCII, a bar before and after each. */
    char tags[MAX_TAGS];
    /* What the characters of most texts are, once more. */
    Letter ascii[ASCII];
    /* 4096 / sqrt(count), a whole number. */
    int32_t inverse_roots[READ + 2];
} Model;

/* A string of `length` code points of `width` bytes each: 1, 2 or 4. */
typedef struct {
    const void *data;
    int width;
    int64_t length;
} Text;

/* As `asking.Focus`. */
typedef struct {
    int32_t begin, end, place, total, asking, points;
} Focus;

/* Where something stands among characters. */
typedef struct {
    int32_t begin, end;
} Place;

/* What is read of a text, as `excerpt.Excerpt`; `codes`: the `size` characters of its text, each at most
 * `LIMIT`, and a pad; `around`: the same of what it was told from.
 */
typedef struct {
    uint16_t codes[LONGEST + 1], around[LONGEST + 1];
    int32_t size, around_size, opening, closing;
    int document;
    Focus focus;
} Excerpt;

/* Which parts of some characters count once more: the end of the first lines, the begin of the last, and both borders
 * of the sentence that asks.
 */
typedef struct {
    int32_t opening, closing, focus_begin, focus_end;
} Parts;

/* The words of some characters, a pad before them and pads after them. */
typedef struct {
    /* Hashes of each word, of each with the next, and of the words' beginnings. */
    uint32_t word[1 + LONGEST + MAX_RUN], pair[1 + LONGEST], beginning[1 + LONGEST];
    /* Words of the text; the first of its last lines, the end of its first lines, and the borders of the sentence that
     * asks, the pad before them counted.
     */
    int32_t count, last_from, first_to, focus_from, focus_to;
    /* How many of the words are numbers. */
    int32_t numbers;
} Words;

/* Makes what a model derives from its other fields; the last step of building one. */
void pointsman_prepare(Model *model);

/* Whether there may be a marked document in `text` to leave out first: that is for Python. */
int pointsman_may_hold_document(const Model *model, Text text);

/* Cuts `excerpt` out of `text`; `document`: whether marked documents were left out of it. */
void pointsman_excerpt(const Model *model, Text text, int document, Excerpt *excerpt);

/* Reads the words of `size` characters, at most `LONGEST`, after which a pad stands. */
void pointsman_words(const Model *model, const uint16_t *codes, int32_t size, Parts parts, Words *words);

/* Writes the lines of `size` characters that ask, at most `WINDOW` of both, to `asked`, as `asking.asked`;
 * both have room for a pad, and `codes` stay as they are. Returns how
 * many characters those are (a pad follows), or -1 where nothing worth leaving out stands beside them.
 */
int32_t pointsman_asked(const Model *model, uint16_t *codes, int32_t size, uint16_t *asked);

/* The sentence of an excerpt that asks the most, as `asking.focus`; a pad follows the `size` characters. */
Focus pointsman_focus(const Model *model, uint16_t *codes, int32_t size);

/* Where the sentences stand that set a task, of the first `TASKS_WINDOW` characters of `text`; returns how many. */
int32_t pointsman_tasks(const Model *model, Text text, Place places[TASKS_MOST]);

/* P(think) of an excerpt, in [0, 1]. Its size, opening and closing must be in range. */
double pointsman_probability(const Model *model, const Excerpt *excerpt);

/* What each thing contributes to the log-odds of an excerpt: the groups, the counts, the bias, in this order. Returns
 * how many they are; together they are the log-odds of `pointsman_probability`.
 */
uint32_t pointsman_contributions(const Model *model, const Excerpt *excerpt, double contributions[MAX_CONTRIBUTIONS]);

/* A character: what is added to its code to fold it (16 bits), its token kind, and whether it is white space. */
static inline uint32_t character(const Model *m, uint32_t code) {
    uint32_t block = m->blocks[code >> BLOCK_BITS], mask = (1u << BLOCK_BITS) - 1;
    return m->characters[(block << BLOCK_BITS) + (code & mask)];
}

/* The code point of `text` at `place`; all from the model's limit on are one. */
static inline uint16_t code_at(Text text, int64_t place) {
    uint32_t code;
    if (text.width == 1) return ((const uint8_t *)text.data)[place];
    if (text.width == 2) code = ((const uint16_t *)text.data)[place];
    else code = ((const uint32_t *)text.data)[place];
    return (uint16_t)(code < LIMIT ? code : LIMIT);
}

static inline uint32_t kind_of(uint32_t character) { return character >> 16 & 0xFF; }

static inline int is_space(const Model *m, uint32_t code) { return (int)(character(m, code) >> 24); }

#endif
