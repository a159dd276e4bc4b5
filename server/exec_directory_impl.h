#ifndef SERVER_EXEC_DIRECTORY_IMPL_H
#define SERVER_EXEC_DIRECTORY_IMPL_H
#include "server/exec_directory.h"
#include "server/exec_impl.h"

/* What exec_directory.c (keyspaces made, dropped, told of) and exec_alter.c (altered) share. Those that return bool: false, stop. */
enum { DIRECTORY_WANTED_BYTES_MAX = 1 << 20 }; /* of a description */
static inline int directory_shown(struct kv_slice s)
{
    return (int)(s.size < 32 ? s.size : 32);
}
#define SHOWN(s) directory_shown(s), (s).size == 0 ? "" : (const char *)(s).data

bool directory_check_name(struct exec *x, const char *what, struct kv_slice name);
bool directory_check_list(struct exec *x, struct kv_keyspace *k);                /* delimiter, groups and the labels in them */
bool directory_refuse_twice(struct exec *x, const struct kv_keyspace *k);        /* a label that is listed twice, by name */
bool directory_load(struct exec *x, struct kv_slice name, struct exec_entry *e); /* the live row of a keyspace */
/* The names, as they are to be: without `leave`, and with `add`; size 0 for none. */
bool directory_put_names(struct exec *x, struct kv_slice names, struct kv_slice leave, struct kv_slice add);
void directory_reply(struct exec *x, const struct kv_keyspace *k);
#endif
