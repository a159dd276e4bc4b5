#ifndef JEPSEN_RECORDER_H
#define JEPSEN_RECORDER_H
#include "client/env/env.h"
#include "tools/check/history.h"

/* The history file, one JSON line an event (tools/check/history.h), in the order of what happened
 * on the one thread that runs all clients. */
enum { RECORDER_ERRORS_MAX = 24,
       RECORDER_ERROR_BYTES = 72 };
struct recorder {
    FILE *out;
    struct env *env;
    uint64_t start_ns, index;
    uint64_t counts[4];     /* by enum history_type */
    uint64_t reads[4];      /* that were answered, by enum kv_level */
    bool failed;            /* an event is missing: the history is worthless */
    struct recorder_error { /* what clients were told, cut to its first words */
        char text[RECORDER_ERROR_BYTES];
        uint64_t count;
    } errors[RECORDER_ERRORS_MAX];
    uint32_t error_count;
};

bool recorder_open(struct recorder *r, const char *path, struct env *env);
void recorder_event(struct recorder *r, const struct history_event *e, json_t *value); /* at this time, with `value`, which it takes over; NULL: null */
void recorder_error(struct recorder *r, const char *text);
/* False: not everything could be written. */
bool recorder_close(struct recorder *r);
#endif
