#ifndef CHECK_HISTORY_H
#define CHECK_HISTORY_H
#include "client/base/buf.h"
#include "client/base/err.h"
#include <jansson.h>
#include <stdio.h>

/* What clients saw: an ordered list of events, in memory, as JSON lines, or as EDN.
 *
 *   {"index":0,"process":3,"type":"invoke","f":"write","key":"k1","value":7,"time":123456}
 *
 * `type` is invoke, ok, fail (surely not applied) or info (nobody knows; the process ends
 * there, its client goes on under a new number). `time` (ns) is optional and only printed. `index`, if
 * any event has one, all have, each its own: the order of the events; else that of the lines. A missing `key` is one key for all. An
 * invoke without a completion counts as info. EDN is Jepsen's: one map a line or one
 * vector of maps, the same names as keywords; lines whose process is not a number
 * (:nemesis) are skipped. `value`: write v; cas [old, new]; add, append v; incr a number;
 * read: what it returned, null for an absent key. The ok of an incr may carry
 * [delta, result], then the result is checked too. A read's `level` in its invoke is bounded or any, else (absent,
 * linearizable, lease) it must be linearizable; `stale_ms` says how old a bounded one may be: what was asked, and in the
 * completion what the reply claims, of which the lesser holds. */
enum history_f {
    HISTORY_READ,
    HISTORY_WRITE,
    HISTORY_CAS,
    HISTORY_ADD,
    HISTORY_INCR,
    HISTORY_APPEND,
    HISTORY_TXN
};
enum history_type { HISTORY_INVOKE,
                    HISTORY_OK,
                    HISTORY_FAIL,
                    HISTORY_INFO };
enum { HISTORY_FS = HISTORY_TXN + 1,
       HISTORY_EVENTS_MAX = 1 << 26,
       HISTORY_LINE_BYTES_MAX = 16 << 20 };

enum history_level { HISTORY_STRONG,
                     HISTORY_BOUNDED,
                     HISTORY_ANY };

struct history_event {
    int64_t process;
    enum history_type type;
    enum history_f f;
    const char *key;   /* NULL: none */
    json_t *value;     /* borrowed; NULL: null */
    const char *error; /* of a completion; NULL: none */
    uint64_t time_ns;
    enum history_level level; /* of the invoke of a read */
    uint32_t stale_ms;        /* of a bounded read; 0 in a completion: it claims to be current */
};

struct history_op { /* an invoke and its completion */
    int64_t process;
    enum history_f f;
    enum history_type outcome;    /* OK, FAIL or INFO */
    uint32_t key;                 /* index into keys */
    uint32_t call, ret;           /* places among the events; ret of an INFO: HISTORY_NEVER */
    uint32_t completed;           /* place of the completion, whatever it says; HISTORY_NEVER: none */
    uint32_t call_line, ret_line; /* from 1; 0: no completion */
    uint64_t call_ns, ret_ns;
    enum history_level level;
    uint32_t stale_ms; /* level BOUNDED */
    json_t *value;     /* owned: the completion's if it is ok and has one, else the invoke's */
    char *error;       /* owned by the history: "error" of the completion, or NULL */
};
#define HISTORY_NEVER UINT32_MAX

struct history {
    struct history_op *ops; /* in order of call */
    uint32_t op_count, op_capacity;
    char **keys;
    uint32_t key_count, key_capacity;
    uint32_t event_count;
    /* private: which op each process has open; keys by name */
    struct history_open {
        int64_t process;
        uint32_t op; /* HISTORY_NEVER: none */
    } * open;
    uint32_t open_count, open_capacity;
    json_t *key_index;
};

struct history *history_create(void); /* NULL: out of memory */
void history_free(struct history *h);
/* Appends one event; `line` is what messages name (0: the count of events). KV_MALFORMED (why says
 * what), KV_TOO_BIG, KV_NO_SPACE (memory). */
enum kv_err history_add(struct history *h, const struct history_event *e, uint32_t line, char *why, size_t why_size);
/* Reads a file of either form, told apart by the first byte that is not blank ('{' followed
 * by '"' or '}' is JSON). KV_MALFORMED: `why` is "FILE:LINE: reason"; KV_NOT_FOUND, KV_IO, KV_TOO_BIG. */
enum kv_err history_load(struct history *h, const char *path, char *why, size_t why_size);

/* One event as a line, for whoever records. */
void history_write_json(FILE *out, uint64_t index, const struct history_event *e);
void history_write_edn(FILE *out, uint64_t index, const struct history_event *e);
/* All of a history, events in their order. */
void history_save(const struct history *h, FILE *out, bool edn);

const char *history_f_text(enum history_f f);
const char *history_type_text(enum history_type t);
bool history_f_find(const char *text, enum history_f *f);
bool history_type_find(const char *text, enum history_type *t);

/* Parses one EDN value at *at into JSON (keywords and symbols become strings, sets and
 * lists arrays, map keys strings; tags are dropped). NULL: malformed, `why` set, or the
 * end (*at at the end, why empty). Depth at most 64. */
json_t *edn_parse(const char **at, const char *end, uint32_t *line, char *why, size_t why_size);
void edn_write(FILE *out, const json_t *value);
#endif
