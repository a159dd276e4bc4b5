#include <stdio.h>
#include <stdlib.h>

#include "client/base/text.h"
#include "client/wire/resp.h"
#include "server/birth.h"
#include "server/request.h"

/* KVSPLIT, at the node that was asked: an id from partition 0's allocator, then SPLIT in the partition
 * that holds the key. An id that nobody uses in the end costs nothing. A split that was repeated after a
 * "maybe" finds that a partition begins there and says so. */
struct split {
    struct worker *w;
    struct request *asker; /* NULL: gave up waiting */
    struct kv_key key;
    char id[24];
    struct kv_slice args[2];
    uint32_t partition, range_epoch; /* of who asks for it as of an epoch; 0: of who does not */
};

static void abandon(struct request *r)
{
    struct split *s = r->children;
    s->asker = NULL;
    r->children = NULL;
}

static void finish(struct split *s, const struct kv_reply *reply)
{
    if (s->asker != NULL) {
        s->asker->children = NULL;
        struct kv_reply out = *reply;
        request_finish(s->asker, &out);
    }
    free(s);
}

static void step(struct split *s, enum kv_op op, uint32_t keyspace, void (*done)(struct request *r, const struct kv_reply *reply))
{
    struct request *r = request_make(s->w);
    if (r == NULL) {
        finish(s, &(struct kv_reply){.err = KV_BUSY, .applied = KV_APPLIED_NO, .node = s->w->node_id, .retry_after_ms = 20});
        return;
    }
    uint64_t now = env_now_ns(s->w->env), deadline = s->asker == NULL ? now : s->asker->deadline_ns;
    r->done = done;
    r->owner = s;
    r->internal = true;
    r->body = (struct kv_request){.op = op,
                                  .args = s->args,
                                  .arg_count = 2,
                                  .keyspace = keyspace,
                                  .pinned = op == KV_OP_SPLIT && s->range_epoch != 0,
                                  .partition = s->partition,
                                  .range_epoch = s->range_epoch,
                                  .roams = true, /* told at once that there is no leader, rather than when the asker has given up */
                                  .deadline_ms = (uint32_t)(deadline > now ? (deadline - now) / 1000000u + 1 : 1)};
    request_start(r);
}

static void split_done(struct request *r, const struct kv_reply *reply)
{
    finish(r->owner, reply);
}

static void id_done(struct request *r, const struct kv_reply *reply)
{
    struct split *s = r->owner;
    struct kv_slice value = reply->value;
    struct resp_value v;
    if (reply->err != KV_OK || s->asker == NULL) {
        finish(s, reply);
        return;
    }
    if (resp_next(&value, SIZE_MAX, &v) != KV_OK || v.type != RESP_INTEGER || v.number < 1 ||
        v.number > INT32_MAX - KV_PARTITIONS_DEFAULT) {
        finish(s, &(struct kv_reply){.err = KV_TOO_BIG, .node = s->w->node_id, .detail = kv_str("no partition ids are left")});
        return;
    }
    int n = snprintf(s->id, sizeof s->id, "%lld", (long long)v.number + KV_PARTITIONS_DEFAULT);
    s->args[0] = kv_key_slice(&s->key);
    s->args[1] = kv_slice(s->id, (size_t)n);
    step(s, KV_OP_SPLIT, s->key.size < 4 ? 0 : kv_key_keyspace(kv_key_slice(&s->key)), split_done);
}

void split_start(struct request *r)
{
    struct kv_slice key = r->body.args[0];
    struct split *s = calloc(1, sizeof *s);
    if (s == NULL || key.size > sizeof s->key.bytes) {
        free(s);
        request_fail(r, key.size > KV_KEY_BYTES_MAX ? KV_TOO_BIG : KV_BUSY, NULL);
        return;
    }
    s->w = r->w;
    s->asker = r;
    if (r->body.pinned) {
        s->partition = r->body.partition;
        s->range_epoch = r->body.range_epoch;
    }
    s->key.size = (uint16_t)key.size;
    if (key.size > 0) memcpy(s->key.bytes, key.data, key.size);
    r->state = REQUEST_FANNED;
    r->children = s;
    r->abandon = abandon;
    s->args[0] = kv_str("a/partition");
    s->args[1] = kv_str("1");
    step(s, KV_OP_KVINCR, KV_KEYSPACE_SYSTEM, id_done);
}
