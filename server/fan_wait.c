#include "server/fan_impl.h"

#include "client/base/text.h"
#include "client/wire/resp.h"
#include "server/map.h"

/* KVAWAIT: of every partition the asker has written to, how many followers hold that; or of all there are. */

/* No answer means that no follower is known to hold it. */
void fan_ack_take(struct fan *f, const struct kv_reply *reply)
{
    struct kv_slice at = reply->value;
    struct resp_value v;
    bool known = reply->err == KV_OK && resp_next(&at, SIZE_MAX, &v) == KV_OK && v.type == RESP_INTEGER && v.number >= 0;
    uint64_t count = known ? (uint64_t)v.number : 0;
    if (count < f->sum) f->sum = count;
}

/* Its parts always answer in time, so it has no deadline of its own. */
static void wait_prepare(struct fan *f)
{
    int64_t ms = 0;
    (void)kv_parse_i64(f->parent->body.args[1], &ms); /* checked before */
    f->want = (uint64_t)ms;
    f->sum = UINT64_MAX;
    f->parent->deadline_ns = UINT64_MAX;
}

/* KVAWAIT of everything: one part per partition of users, of whatever keyspace. */
static void fan_await_all(struct request *r, const struct kv_key_rule *rule)
{
    struct worker *w = r->w;
    uint32_t count = 0, used = 0;
    const struct partition *p;
    for (uint32_t i = 0; (p = map_at(w, i)) != NULL; i++) count += p->id != KV_PARTITION_SYSTEM;
    if (count == 0) {
        request_absent(r);
        return;
    }
    struct fan *f = fan_make(r, rule, count);
    if (f == NULL) return;
    wait_prepare(f);
    for (uint32_t i = 0; (p = map_at(w, i)) != NULL; i++)
        if (p->id != KV_PARTITION_SYSTEM) fan_part_set(&f->parts[used++], map_descriptor(p));
    fan_send(f);
}

static bool is_known(const struct worker *w, uint32_t id)
{
    const struct partition *p = map_get(w, id);
    return p != NULL && map_descriptor(p) != NULL;
}

void fan_wait(struct request *r, const struct kv_key_rule *rule)
{
    struct worker *w = r->w;
    uint32_t n = r->body.arg_count, parts = (n - 2) / 2;
    int64_t number;
    for (uint32_t i = 0; i < n; i++)
        if (n % 2 != 0 || !kv_parse_i64(r->body.args[i], &number) || number < 0 || number > INT64_MAX / 2) {
            request_fail(r, KV_BAD_ARGUMENT, "KVAWAIT replicas ms [partition index]..");
            return;
        }
    (void)kv_parse_i64(r->body.args[1], &number);
    if (number > UINT32_MAX / 2) {
        request_fail(r, KV_BAD_ARGUMENT, "KVAWAIT: too long");
        return;
    }
    if (parts == 0) {
        fan_await_all(r, rule);
        return;
    }
    for (uint32_t i = 0; i < parts; i++) {
        (void)kv_parse_i64(r->body.args[2 + 2 * i], &number);
        if (number > UINT32_MAX || !is_known(w, (uint32_t)number)) {
            request_absent(r);
            return;
        }
    }
    struct fan *f = fan_make(r, rule, parts);
    if (f == NULL) return;
    wait_prepare(f);
    for (uint32_t i = 0; i < parts; i++) {
        (void)kv_parse_i64(r->body.args[2 + 2 * i], &number);
        f->parts[i].partition = (uint32_t)number;
        f->parts[i].range_epoch = map_descriptor(map_get(w, (uint32_t)number))->range_epoch;
        f->parts[i].mark = r->body.args[3 + 2 * i];
    }
    fan_send(f);
}
