#ifndef CHECK_CHECK_H
#define CHECK_CHECK_H
#include "tools/check/history.h"

/* Judges a history, key by key (linearizability is local: Herlihy and Wing, section 3.2).
 *
 *   register  read, write, cas    linearizable, the absent value first
 *   counter   incr, read          linearizable, 0 first (an absent key reads as 0)
 *   set       add, read           linearizable, grow-only; an element twice is a violation
 *   list      append, read        linearizable; an element twice is a violation; values unique
 *
 * Reads of level bounded or any are judged beside that (stale.h).
 *
 * An ok took effect once between its invoke and its completion; a fail never; an info, or
 * an invoke without completion, once at any time after its invoke, or never. */
enum check_model { CHECK_INFER,
                   CHECK_REGISTER,
                   CHECK_COUNTER,
                   CHECK_SET,
                   CHECK_LIST,
                   CHECK_MODELS };
enum check_verdict {
    CHECK_VALID,
    CHECK_VIOLATION,
    CHECK_UNDECIDED,   /* the search passed its limit, or memory ran out */
    CHECK_MALFORMED,   /* a value that its model cannot have */
    CHECK_UNSUPPORTED, /* transactions, models mixed on one key, append values not unique */
};
enum { CHECK_LIMIT_DEFAULT = 20000000 };

struct check_options {
    enum check_model model; /* CHECK_INFER: each key by the operations on it */
    uint64_t limit;         /* states of the search per key; 0 = CHECK_LIMIT_DEFAULT */
    bool (*stop)(void *);   /* NULL, or asked now and then: true ends the search of a key undecided */
    void *stop_arg;
    bool no_shrink; /* the whole key as failing sub-history */
};
struct check_result {
    enum check_verdict verdict;
    enum check_model model; /* of the key that failed */
    uint32_t key;           /* index of that key */
    uint32_t line;          /* of a MALFORMED or UNSUPPORTED: where it stands */
    char why[256];
    uint32_t *ops; /* owned: the smallest failing sub-history found, indices in order of call */
    uint32_t op_count;
    uint64_t states; /* searched */
    uint32_t keys;   /* judged */
};

/* The first violation ends it; an undecided key only decides if no other key fails. */
void check_history(const struct history *h, const struct check_options *o, struct check_result *out);
void check_result_free(struct check_result *r);
/* For people: the verdict and, for a violation, each operation with its lines and times. */
void check_print(const struct history *h, const struct check_result *r, const char *path, FILE *out);
/* For programs: one object, its `failing` the operations of the sub-history with their lines. */
void check_print_json(const struct history *h, const struct check_result *r, FILE *out);

const char *check_verdict_text(enum check_verdict v);
const char *check_model_text(enum check_model m);
bool check_model_find(const char *text, enum check_model *m);
#endif
