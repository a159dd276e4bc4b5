#ifndef SERVER_EXEC_DIRECTORY_H
#define SERVER_EXEC_DIRECTORY_H
#include "client/wire/message.h"
#include "server/exec.h"

/* What partition 0 knows of keyspaces, as rows of its own range keyspace, by user key:
 *
 *   k/NAME       an encoded Keyspace; k/default is there once that was altered
 *   a/keyspace   the next id, as digits; absent: EXEC_KEYSPACE_FIRST
 *   a/partition  how many partition ids were given out behind those of `default`; absent: none. Splits count too
 *   a/names      the names there are, each ended by a line feed, in order of their ids; the version of
 *                this row is the version of the directory
 *
 * Ids are given in order and never again: one below the next that is not there was dropped. */
enum { EXEC_KEYSPACE_FIRST = KV_KEYSPACE_DEFAULT + 1 };
enum { EXEC_ROW_NAME_BYTES_MAX = KV_NAME_BYTES_MAX + 2 };
struct kv_slice exec_keyspace_row(struct kv_slice name, uint8_t out[EXEC_ROW_NAME_BYTES_MAX]); /* "k/NAME" */
#define EXEC_ROW_KEYSPACE  "a/keyspace"
#define EXEC_ROW_PARTITION "a/partition"
#define EXEC_ROW_NAMES     "a/names"
/* For other commands: the keyspace's row as it was, or is to be; one that is gone stays so. False: stop. */
bool exec_keyspace_restore(struct exec *x, struct kv_slice name, struct kv_slice row);
/* Where new partitions may live, from partition 0's descriptor; returns `out`. */
const struct exec_place *exec_place_read(const struct descriptor *d, struct exec_place *out);
/* The partition that was number `at` of a keyspace at its creation; its list of labels is left out. */
void exec_partition(const struct kv_keyspace *k, uint32_t at, struct descriptor *out);
/* That list, appended to `out`: of one of a list keyspace. False: out of memory. */
bool exec_partition_list(const struct kv_keyspace *k, uint32_t at, struct kv_buf *out);
/* How many partitions the command would bring forth, at most: each needs room in the log. */
uint32_t exec_births_max(enum kv_op op, const struct kv_slice *args, uint32_t arg_count);
/* The next name of a/names; false: no more. */
bool exec_names_next(struct kv_slice *names, struct kv_slice *name);
/* Keyspace `default` as it is until it is altered, without a row: it is there from the first start on. */
extern const struct kv_keyspace exec_keyspace_default;
#endif
