#include <stdio.h>
#include <string.h>

#include "client/base/key.h"
#include "storage/checkpoint_lmdb.h"
#include "storage/value.h"

/* Damage that no checksum can see: a row of a stopped node's state gets another value, well formed.
 *
 *   rewrite_row DIR KEY VALUE     exit 0: done, 3: no such row in the state, 1: failed */
int main(int argc, char **argv)
{
    struct checkpoint *c;
    struct checkpoint_view *view;
    struct kv_key key;
    struct kv_slice row;
    struct value v;
    uint8_t bytes[4096];
    if (argc != 4 || strlen(argv[3]) > sizeof bytes - VALUE_HEADER_BYTES) return 1;
    if (kv_key_hash(KV_KEYSPACE_DEFAULT, kv_str(argv[2]), &key) != KV_OK) return 1;
    if (checkpoint_lmdb_create(&(struct checkpoint_lmdb_options){.directory = argv[1]}, &c, NULL, 0) != KV_OK) return 1;
    enum kv_err err = c->ops->view_open(c, &view);
    if (err == KV_OK) {
        err = c->ops->get(view, STORE_DATA, kv_key_slice(&key), kv_slice(NULL, 0), &row);
        if (err == KV_OK) err = value_read(kv_key_slice(&key), row, &v);
        v.payload = kv_str(argv[3]);
        if (err == KV_OK) value_header_write(kv_key_slice(&key), &v, bytes);
        c->ops->view_close(view);
    }
    memcpy(bytes + VALUE_HEADER_BYTES, argv[3], strlen(argv[3]));
    struct store_row out = {.class = STORE_DATA,
                            .key = kv_key_slice(&key),
                            .value = kv_slice(bytes, VALUE_HEADER_BYTES + strlen(argv[3]))};
    if (err == KV_OK) err = c->ops->begin(c);
    if (err == KV_OK) {
        err = c->ops->put(c, &out);
        if (err == KV_OK) err = c->ops->commit(c);
        c->ops->abort(c);
    }
    c->ops->destroy(c);
    if (err != KV_OK) fprintf(stderr, "rewrite_row: %s\n", kv_err_text(err));
    return err == KV_OK ? 0 : err == KV_NOT_FOUND ? 3 : 1;
}
