#ifndef SERVER_JOURNAL_H
#define SERVER_JOURNAL_H
#include "client/base/buf.h"
#include "client/base/err.h"

/* The node's own log lines (not the Raft log): structured, one line an event, levels by
 * module, changeable at run time. `text`: "2026-11-24T00:00:00.000Z info raft leader-elected
 * group=3 term=7"; `json`: one object a line. Rate-limited per call site: at most 20 lines a
 * second, then one line says how many were left out. */
#define JOURNAL_MODULES(X) X(main) X(raft) X(store) X(peer) X(client) X(admin)
#define JOURNAL_MODULE_NAME(name) " " #name
#define JOURNAL_MODULES_TEXT "modules are" JOURNAL_MODULES(JOURNAL_MODULE_NAME)
enum journal_module {
#define X(name) JOURNAL_##name,
    JOURNAL_MODULES(X)
#undef X
    JOURNAL_MODULE_COUNT
};
enum journal_level { JOURNAL_ERROR, JOURNAL_WARN, JOURNAL_INFO, JOURNAL_DEBUG };

struct journal {
    enum journal_level levels[JOURNAL_MODULE_COUNT];
    bool json;
    uint32_t node;
    uint64_t (*wall_ns)(void *context);
    void (*write)(void *context, struct kv_slice line); /* with its newline */
    /* NULL, or told of every event, whatever the levels say: coverage marks of the simulator. */
    void (*event)(void *context, enum journal_module module, const char *event);
    void *context;
};
struct journal_site { /* static at each call site; the one writable static, touched by one worker */
    uint64_t second;
    uint32_t count, dropped;
};

/* "info" for all modules or "raft=debug,peer=warn". KV_BAD_ARGUMENT: nothing changed, `why` names the word. */
enum kv_err journal_set(struct journal *j, const char *levels, const char **why);
/* The levels as journal_set() takes them: one word if all are the same. */
enum { JOURNAL_TEXT_BYTES = 128 };
void journal_text(const struct journal *j, char text[JOURNAL_TEXT_BYTES]);
/* Fields by printf after the event name: `"group=%u term=%llu"`. Values with spaces are the
 * caller's to quote with "%s" in double quotes. */
void journal_line(struct journal *j, struct journal_site *site, enum journal_module module, enum journal_level level,
                  const char *event, const char *format, ...) __attribute__((format(printf, 6, 7)));
static inline bool journal_on(const struct journal *j, enum journal_module module, enum journal_level level)
{
    return level <= j->levels[module] || j->event != NULL;
}
#define JOURNAL(j, module, level, event, ...)                                                          \
    do {                                                                                               \
        static _Thread_local struct journal_site journal_site_;                                        \
        if (journal_on((j), JOURNAL_##module, JOURNAL_##level))                                        \
            journal_line((j), &journal_site_, JOURNAL_##module, JOURNAL_##level, (event), __VA_ARGS__); \
    } while (0)
#endif
