#ifndef KVCTL_H
#define KVCTL_H
#include <stdio.h>

#include "client/base/key.h"
#include "client/kv.h"
#include "tools/kvctl/args.h"
#include "tools/kvctl/target.h"

/* What every command of kvctl shares. Data goes to stdout, everything else to stderr. */
enum kvctl_exit {
    EXIT_OK = 0,
    EXIT_INTERNAL = 1,
    EXIT_USAGE = 2,
    EXIT_NOT_FOUND = 3,
    EXIT_CONDITION = 4,
    EXIT_AUTH = 5,
    EXIT_NO_QUORUM = 6,
    EXIT_TIMEOUT = 7,
    EXIT_THROTTLED = 8
};
enum kvctl_format { FORMAT_TABLE,
                    FORMAT_JSON,
                    FORMAT_RAW };

struct kvctl {
    struct kv *kv; /* NULL until a command needs it */
    struct target target;
    enum kvctl_format format;
    enum kv_level level;
    uint32_t bounded_ms;
    uint32_t timeout_ms;
    char keyspace[KV_NAME_BYTES_MAX + 1]; /* "": default */
    bool timeout_given, quiet;
    bool progress;       /* stderr is a terminal and nobody asked for quiet */
    const char *command; /* for error lines */
};

struct command {
    const char *name;     /* one or two words */
    const char *operands; /* for people */
    const char *summary;
    const char *options; /* names of its own options, blank-separated */
    const char *example;
    uint32_t words_min, words_max; /* behind the name */
    int (*run)(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
    bool online; /* asks a cluster */
};
#define GLOBAL_OPTIONS "cluster addr key keyspace timeout output level quiet help"
/* The table of commands.c, ended by a NULL name. */
extern const struct command commands[];
const struct command *command_find(const struct args *a, uint32_t *name_words); /* NULL: none */
/* Runs one parsed line: checks options and words, prints help. Returns the exit code. */
int command_run(struct kvctl *k, const struct args *a);
/* Takes the options of the whole program; false: said why. */
bool command_globals(struct kvctl *k, const struct args *a);
void command_help(const struct command *c, FILE *out);
void commands_help(FILE *out);

/* Opens the connection once. An exit code other than EXIT_OK has been explained on stderr. */
int kvctl_open(struct kvctl *k);
void kvctl_close(struct kvctl *k);
/* One line on stderr: "kvctl: COMMAND: ..". */
void kvctl_say(const struct kvctl *k, const char *format, ...) __attribute__((format(printf, 2, 3)));
int kvctl_usage(const struct kvctl *k, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Explains a failed result and returns its exit code. */
int kvctl_fail(const struct kvctl *k, const struct kv_result *r);
int kvctl_fail_at(const struct kvctl *k, const char *place, const struct kv_result *r); /* "FILE:LINE: " first */
int kvctl_exit(enum kv_err err, enum kv_applied applied);

/* A word as bytes: "-" reads stdin whole, into `buf`. False: said why on stderr. */
bool kvctl_value(const struct kvctl *k, const char *word, struct kv_buf *buf, struct kv_slice *out);

int put_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int get_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int del_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int cas_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int incr_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int scan_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int import_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int export_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int keyspace_create_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int keyspace_list_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int keyspace_show_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int keyspace_drop_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int keyspace_split_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int keyspace_merge_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int explain_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int partition_move_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int partition_lead_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int keyspace_alter_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int job_list_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int job_show_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int job_set_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int job_wait_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int hot_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int status_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int ready_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int node_list_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int node_show_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int node_token_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int node_state_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int node_replace_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int log_level_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int passwd_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int completion_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int history_check_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int version_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count);
int repl_run(struct kvctl *k);
#endif
