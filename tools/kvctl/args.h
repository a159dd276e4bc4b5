#ifndef KVCTL_ARGS_H
#define KVCTL_ARGS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Words and options of one command line, from argv or from a line of the REPL. Pure. */
#define KVCTL_OPTIONS(X)                                                                            \
    /* X(name, letter, value, help); value "": a flag */                                            \
    X("cluster", 0, "FILE", "cluster.json that names nodes and key (KVD_CLUSTER)")                  \
    X("addr", 0, "HOST:PORT,..", "native addresses of some nodes (KVD_ADDR)")                       \
    X("key", 0, "FILE", "file of the client's secret key (KVD_KEY)")                                \
    X("timeout", 0, "DURATION", "deadline of each call, as 500ms or 5s (default 5s)")               \
    X("output", 'o', "FORMAT", "table, json or raw (default table)")                                \
    X("level", 0, "LEVEL", "of reads: linearizable, lease, bounded:MS or any")                      \
    X("quiet", 'q', "", "no progress bar, no remarks")                                              \
    X("help", 'h', "", "what the command does, with an example")                                    \
    X("ttl", 0, "DURATION", "the key expires after that time; of a token: 1s to 30d (default 1h)")  \
    X("dry-run", 0, "", "only say what stands in the way")                                          \
    X("if-absent", 0, "", "only if the key does not exist (else exit 4)")                           \
    X("version", 0, "EPOCH:INDEX", "the version the key must have")                                 \
    X("old", 0, "VALUE", "the value the key must have")                                             \
    X("prefix", 0, "P", "only keys that begin with P")                                              \
    X("from", 0, "A", "only keys from A on")                                                        \
    X("to", 0, "B", "only keys below B")                                                            \
    X("limit", 0, "N", "scan: rows, then the cursor to go on from; hot: keys (20); check: seconds") \
    X("cursor", 0, "C", "go on where an earlier scan stopped")                                      \
    X("format", 0, "FORMAT", "tsv or jsonl (default: by the file's name, else tsv)")                \
    X("restart", 0, "", "forget FILE.kvprogress and import from the beginning")                     \
    X("in-flight", 0, "N", "open requests, 1 to 1024 (default 256)")                                \
    X("model", 0, "MODEL", "register, counter, set or list (default: by the operations)")           \
    X("keyspace", 0, "NAME", "whose keys (default: default)")                                       \
    X("partition", 0, "HOW", "hash[:P], range[:KEY,KEY,..] or list:GROUP=LABEL|LABEL,..")           \
    X("replicas", 0, "N", "copies of each partition (default 3, or as many as there are nodes)")    \
    X("delimiter", 0, "C", "list: what ends a key's label (default /)")                             \
    X("default", 0, "GROUP", "list: where labels go that no group lists (default: refused)")        \
    X("at", 0, "KEY", "where the new partition begins")                                             \
    X("user", 0, "NAME", "whose password; its line is one of resp.users, and --keyspace binds it")  \
    X("zones", 0, "Z,..", "where its replicas may be; any: anywhere")                               \
    X("group", 0, "NAME=L|L", "labels that a group of a list keyspace gains; or a new group")       \
    X("no-wait", 0, "", "return as soon as the job is there")                                       \
    X("force", 0, "", "drop: end its jobs too; drain: wait for nodes to come")                      \
    X("yes", 0, "NAME", "the keyspace's name once more, instead of typing it")

enum { ARGS_WORDS_MAX = 1024,
       ARGS_OPTIONS_MAX = 40,
       ARGS_WHY_BYTES = 256 };
struct args_option {
    const char *name;
    char letter;
    const char *value; /* "": a flag */
    const char *help;
};
struct args {
    const char *words[ARGS_WORDS_MAX]; /* without options; borrowed from argv */
    uint32_t word_count;
    const char *values[ARGS_OPTIONS_MAX]; /* by index of the option; NULL: not given; "" flags */
};

/* Options may stand anywhere before "--"; "-" and negative numbers are words. False: `why` says what
 * is wrong: unknown option, missing value, given twice. */
bool args_parse(struct args *a, int argc, const char *const *argv, char why[ARGS_WHY_BYTES]);
const char *args_get(const struct args *a, const char *name); /* NULL: not given; name must exist */
const struct args_option *args_option(uint32_t index);        /* NULL past the last */

/* Cuts a line into words as a shell would: blanks separate; '..' takes everything literally; ".."
 * and plain text know \n \t \r \\ \" \' \xHH. The words are written into `storage`. Returns their
 * number, or -1 and `why`: an open quote, a bad escape, \x00 (give such bytes by stdin), too many. */
int args_split(const char *line, char *storage, size_t storage_size, const char **words, int words_max,
               char why[ARGS_WHY_BYTES]);
#endif
