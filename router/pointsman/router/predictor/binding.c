/* The predictor's kernel as a Python type: takes the tables and weights over once, and then a string a call.
 *
 * Stands between `native.py` and the rest of the kernel. All that Python hands over is checked here, so that the
 * kernel needs no check of its own; the characters of a string are read where they lie.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernel.h"

typedef struct {
    PyObject_HEAD
    Model model;
    void *memory;
} Kernel;

static int refuse(const char *why) {
    PyErr_SetString(PyExc_ValueError, why);
    return 0;
}

enum { BLOCKS, CHARACTERS, FILTER, BUCKETS, PHRASES, HEADINGS, ASKING, TASKS, TABLE, STEP_WEIGHTS, ARRAYS };
static const size_t ITEM[ARRAYS] = {2, 4, 1, 2, 4, 1, 2, 2, 2, 4};

/* Whether no table leads outside another, whatever text is read. */
static int fits(const Model *m, const Py_ssize_t *sizes, Py_ssize_t counts) {
    if (!(m->bend > 0)) return refuse("a bend that is not above 0");
    if (m->heading_count > MAX_HEADINGS) return refuse("more headings than there is room for");
    if (counts != PARTS * (Py_ssize_t)m->heading_count + WHOLE_COUNTS) return refuse("too many or too few counts");
    if (sizes[TABLE] != ENTRIES) return refuse("too many or too few weights");
    if (sizes[STEP_WEIGHTS] != STEPS) return refuse("too many or too few steps");
    if (sizes[ASKING] != ASKING_SIZE) return refuse("too many or too few weights of what asks");
    if (sizes[TASKS] != TASKS_SIZE) return refuse("too many or too few weights of what sets a task");
    if (sizes[BUCKETS] != 1 << BUCKET_BITS) return refuse("too many or too few buckets");
    if (sizes[FILTER] * 8 != 1 << FILTER_BITS) return refuse("a filter of the wrong size");
    if (sizes[BLOCKS] != (LIMIT >> BLOCK_BITS) + 1) return refuse("too many or too few blocks");
    if (sizes[PHRASES] != sizes[HEADINGS]) return refuse("not as many phrases as headings of theirs");
    for (Py_ssize_t i = 0; i < sizes[BLOCKS]; i++)
        if (((Py_ssize_t)m->blocks[i] + 1) << BLOCK_BITS > sizes[CHARACTERS])
            return refuse("a block that is not there");
    for (Py_ssize_t i = 0; i < sizes[BUCKETS]; i++)
        if (m->buckets[i] >= sizes[PHRASES]) return refuse("a phrase that is not there");
    for (Py_ssize_t i = 0; i < sizes[HEADINGS]; i++)
        if (m->headings[i] >= m->heading_count) return refuse("a heading that is not there");
    for (uint32_t i = 0; i < m->group_count; i++) {
        uint32_t line = m->groups[i].line;
        int known = line == LINE_WORD || line == LINE_PAIR || line == LINE_BEGINNING || line == LINE_SKIP;
        uint32_t part = m->groups[i].part, parts = line >= LINE_SKIP ? PART_FOCUS : PART_AROUND;
        if (line == LINE_FAR ? part != PART_FOCUS : !known || part > parts) return refuse("a group that is not there");
    }
    return 1;
}

/* Copies the tables into one stretch of memory, where the system can one huge page: one address to translate. */
static int take_over(Kernel *kernel, const Py_buffer *arrays, Py_ssize_t *sizes) {
    const size_t huge = 2u << 20, line = 64;
    size_t total = 0;
    for (int i = 0; i < ARRAYS; i++) {
        if (arrays[i].len == 0 || (size_t)arrays[i].len % ITEM[i] || (size_t)arrays[i].len > huge * 64)
            return refuse("an array of the wrong size");
        sizes[i] = arrays[i].len / (Py_ssize_t)ITEM[i];
        total += ((size_t)arrays[i].len + line - 1) / line * line;
    }
    total = (total + huge - 1) / huge * huge;
    if (posix_memalign(&kernel->memory, huge, total)) {
        PyErr_NoMemory();
        return 0;
    }
#ifdef MADV_HUGEPAGE
    madvise(kernel->memory, total, MADV_HUGEPAGE);
#endif
    const void *placed[ARRAYS];
    char *at = kernel->memory;
    for (int i = 0; i < ARRAYS; i++) {
        placed[i] = memcpy(at, arrays[i].buf, (size_t)arrays[i].len);
        at += ((size_t)arrays[i].len + line - 1) / line * line;
    }
    Model *m = &kernel->model;
    m->blocks = placed[BLOCKS];
    m->characters = placed[CHARACTERS];
    m->filter = placed[FILTER];
    m->buckets = placed[BUCKETS];
    m->phrases = placed[PHRASES];
    m->headings = placed[HEADINGS];
    m->asking = placed[ASKING];
    m->tasks = placed[TASKS];
    m->table = placed[TABLE];
    m->steps = placed[STEP_WEIGHTS];
    return 1;
}

/* From what keeps the places of the interpreter's own strings from being foretold: anew in each process, unless
 * PYTHONHASHSEED says otherwise.
 */
static int set_secret(Model *m) {
    PyObject *string = PyUnicode_FromString("secret");
    Py_hash_t hash = string ? PyObject_Hash(string) : -1;
    Py_XDECREF(string);
    m->secret = (uint32_t)hash | 1;
    return hash != -1;
}

/* Kernel(numbers, multiplier, heading_count, groups, *arrays, counts, bias, bend, tags): buffers laid out as in
 * `kernel.h`. The arrays are not a tuple: CPython makes no room to note the buffers of a nested one, so that of more
 * than eight it writes past the end of where it notes them.
 */
static PyObject *kernel_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    Py_buffer numbers, groups, counts, arrays[ARRAYS];
    unsigned multiplier, headings;
    double bias, bend;
    const char *tags;
    if (keywords && PyDict_GET_SIZE(keywords)) {
        PyErr_SetString(PyExc_TypeError, "Kernel takes no keywords");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "y*IIy*y*y*y*y*y*y*y*y*y*y*y*dds", &numbers, &multiplier, &headings, &groups,
                          &arrays[BLOCKS], &arrays[CHARACTERS], &arrays[FILTER], &arrays[BUCKETS], &arrays[PHRASES],
                          &arrays[HEADINGS], &arrays[ASKING], &arrays[TASKS], &arrays[TABLE], &arrays[STEP_WEIGHTS],
                          &counts, &bias, &bend, &tags))
        return NULL;
    Kernel *kernel = (Kernel *)type->tp_alloc(type, 0);
    int good = kernel != NULL;
    if (good) {
        Model *m = &kernel->model;
        Py_ssize_t sizes[ARRAYS];
        static const uint32_t OURS[] = POINTSMAN_NUMBERS;
        good = numbers.len == (Py_ssize_t)sizeof OURS && !memcmp(numbers.buf, OURS, sizeof OURS) &&
               groups.len <= (Py_ssize_t)sizeof m->groups && groups.len % (Py_ssize_t)sizeof(Group) == 0 &&
               counts.len <= (Py_ssize_t)sizeof m->counts && strlen(tags) < sizeof m->tags;
        if (!good) {
            refuse("the features are not those that the kernel was written for");
        } else {
            m->multiplier = multiplier;
            m->heading_count = headings;
            memcpy(m->groups, groups.buf, (size_t)groups.len);
            memcpy(m->counts, counts.buf, (size_t)counts.len);
            m->group_count = (uint32_t)((size_t)groups.len / sizeof(Group));
            m->bias = bias;
            m->bend = bend;
            memcpy(m->tags, tags, strlen(tags) + 1);
            good = set_secret(m) && take_over(kernel, arrays, sizes) &&
                   fits(m, sizes, counts.len / (Py_ssize_t)sizeof(double));
            if (good) pointsman_prepare(m);
        }
    }
    PyBuffer_Release(&numbers);
    PyBuffer_Release(&groups);
    PyBuffer_Release(&counts);
    for (int i = 0; i < ARRAYS; i++) PyBuffer_Release(&arrays[i]);
    if (!good) Py_CLEAR(kernel);
    return (PyObject *)kernel;
}

static void kernel_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    free(((Kernel *)self)->memory);
    type->tp_free(self);
    Py_DECREF(type);
}

/* `string` as the kernel reads it; 0 with an exception set where it is no string. */
static int text_of(PyObject *string, Text *text) {
    if (!PyUnicode_Check(string)) {
        PyErr_Format(PyExc_TypeError, "expected a string, not %.100s", Py_TYPE(string)->tp_name);
        return 0;
    }
    if (PyUnicode_READY(string) < 0) return 0;
    *text = (Text){PyUnicode_DATA(string), (int)PyUnicode_KIND(string), PyUnicode_GET_LENGTH(string)};
    return 1;
}

static PyObject *kernel_probability(PyObject *self, PyObject *string) {
    const Model *model = &((Kernel *)self)->model;
    Text text;
    Excerpt excerpt;
    if (!text_of(string, &text)) return NULL;
    if (pointsman_may_hold_document(model, text)) Py_RETURN_NONE;
    pointsman_excerpt(model, text, 0, &excerpt);
    return PyFloat_FromDouble(pointsman_probability(model, &excerpt));
}

/* Cuts the excerpt out of what Python has left of a text, and reads whatever else `format` asks for; 0 with an
 * exception set where that is not to be had.
 */
static int excerpt_of_rest(const Model *model, PyObject *args, const char *format, Excerpt *excerpt, int *other) {
    PyObject *string;
    Text text;
    int document;
    if (!PyArg_ParseTuple(args, format, &string, &document, other) || !text_of(string, &text)) return 0;
    pointsman_excerpt(model, text, document, excerpt);
    return 1;
}

static PyObject *kernel_of_rest(PyObject *self, PyObject *args) {
    const Model *model = &((Kernel *)self)->model;
    Excerpt excerpt;
    int none;
    if (!excerpt_of_rest(model, args, "Op", &excerpt, &none)) return NULL;
    return PyFloat_FromDouble(pointsman_probability(model, &excerpt));
}

static PyObject *kernel_excerpt_of_rest(PyObject *self, PyObject *args) {
    const Model *model = &((Kernel *)self)->model;
    Excerpt excerpt;
    int none;
    if (!excerpt_of_rest(model, args, "Op", &excerpt, &none)) return NULL;
    PyObject *read = PyUnicode_FromKindAndData(PyUnicode_2BYTE_KIND, excerpt.codes, excerpt.size);
    const Focus *focus = &excerpt.focus;
    return Py_BuildValue("NiiO(iiiiii)N", read, excerpt.opening, excerpt.closing,
                         excerpt.document ? Py_True : Py_False, focus->begin, focus->end, focus->place, focus->total,
                         focus->asking, focus->points,
                         PyUnicode_FromKindAndData(PyUnicode_2BYTE_KIND, excerpt.around, excerpt.around_size));
}

/* The `limit` strongest of an excerpt's contributions, and all others added up under the place after the last. */
static PyObject *strongest(const Model *model, const Excerpt *excerpt, int limit) {
    double contributions[MAX_CONTRIBUTIONS], rest = 0;
    uint32_t places[MAX_CONTRIBUTIONS], left = 0, count = pointsman_contributions(model, excerpt, contributions);
    for (uint32_t place = 0; place < count; place++) /* most headings are not met */
        if (contributions[place] != 0) places[left++] = place;
    PyObject *found = PyList_New(0), *pair;
    for (int i = 0; found && left && i < limit; i++) {
        uint32_t best = 0;
        for (uint32_t j = 1; j < left; j++)
            if (fabs(contributions[places[j]]) > fabs(contributions[places[best]])) best = j;
        pair = Py_BuildValue("Id", places[best], contributions[places[best]]);
        if (!pair || PyList_Append(found, pair)) Py_CLEAR(found);
        Py_XDECREF(pair);
        places[best] = places[--left];
    }
    if (!found) return NULL;
    for (uint32_t j = 0; j < left; j++) rest += contributions[places[j]];
    pair = Py_BuildValue("Id", count, rest);
    if (!pair || PyList_Append(found, pair)) Py_CLEAR(found);
    Py_XDECREF(pair);
    return found;
}

static PyObject *kernel_evidence(PyObject *self, PyObject *args) {
    const Model *model = &((Kernel *)self)->model;
    PyObject *string;
    Text text;
    Excerpt excerpt;
    int limit;
    if (!PyArg_ParseTuple(args, "Oi", &string, &limit) || !text_of(string, &text)) return NULL;
    if (pointsman_may_hold_document(model, text)) Py_RETURN_NONE;
    pointsman_excerpt(model, text, 0, &excerpt);
    return strongest(model, &excerpt, limit);
}

static PyObject *kernel_evidence_of_rest(PyObject *self, PyObject *args) {
    const Model *model = &((Kernel *)self)->model;
    Excerpt excerpt;
    int limit;
    if (!excerpt_of_rest(model, args, "Opi", &excerpt, &limit)) return NULL;
    return strongest(model, &excerpt, limit);
}

static PyObject *kernel_tasks(PyObject *self, PyObject *string) {
    Text text;
    Place places[TASKS_MOST];
    if (!text_of(string, &text)) return NULL;
    int32_t count = pointsman_tasks(&((Kernel *)self)->model, text, places);
    PyObject *found = PyList_New(count);
    for (int32_t i = 0; found && i < count; i++) {
        PyObject *pair = Py_BuildValue("ii", places[i].begin, places[i].end);
        if (!pair) Py_CLEAR(found);
        else PyList_SET_ITEM(found, i, pair);
    }
    return found;
}

static PyMethodDef METHODS[] = {
    {"probability", kernel_probability, METH_O,
     "probability(text) -> float | None\n\nP(think) of a text; None where it may hold a document to leave out."},
    {"probability_of_rest", kernel_of_rest, METH_VARARGS,
     "probability_of_rest(text, document) -> float\n\nP(think) of what `excerpt.without_documents` has left."},
    {"excerpt_of_rest", kernel_excerpt_of_rest, METH_VARARGS,
     "excerpt_of_rest(text, document) -> tuple[str, int, int, bool, tuple, str]\n\nWhat `excerpt.excerpt_of_rest` cuts out."},
    {"evidence", kernel_evidence, METH_VARARGS,
     "evidence(text, limit) -> list[tuple[int, float]] | None\n\n"
     "The strongest contributions to the log-odds by their place, strongest first; see `native.Kernel`."},
    {"evidence_of_rest", kernel_evidence_of_rest, METH_VARARGS,
     "evidence_of_rest(text, document, limit) -> list[tuple[int, float]]\n\n"
     "`evidence` of what `excerpt.without_documents` has left."},
    {"tasks", kernel_tasks, METH_O,
     "tasks(text) -> list[tuple[int, int]]\n\nWhere the sentences stand that set a task; see `standing_task`."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot SLOTS[] = {
    {Py_tp_new, kernel_new},
    {Py_tp_dealloc, kernel_dealloc},
    {Py_tp_methods, METHODS},
    {0, NULL},
};

static PyType_Spec SPEC = {
    .name = "pointsman.router.predictor._kernel.Kernel",
    .basicsize = sizeof(Kernel),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = SLOTS,
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, .m_name = "_kernel", .m_doc = "The predictor's compiled kernel.", .m_size = -1};

PyMODINIT_FUNC PyInit__kernel(void) {
    PyObject *module = PyModule_Create(&MODULE), *type = PyType_FromSpec(&SPEC);
    /* Of which sources this was compiled: a library left over from others is not used. */
    if (!module || !type || PyModule_AddStringConstant(module, "FINGERPRINT", FINGERPRINT) ||
        PyModule_AddObjectRef(module, "Kernel", type))
        Py_CLEAR(module);
    Py_XDECREF(type);
    return module;
}
