#include <stdlib.h>

#include "client/base/text.h"
#include "client/wire/resp.h"
#include "server/request.h"
#include "server/siblings.h"

/* Questions to a node that all of its workers answer together (KVSTATUS, KVREPLACE, KVHOT): worker 0 asks the others as it would ask nodes, and puts its own
 * answer in front of theirs. Who does not answer in time is left out. */
struct gather {
    struct worker *w;
    struct request *asker; /* NULL: gave up waiting */
    uint32_t open;
    struct kv_buf text; /* KVSTATUS: groups of the others, KVHOT: their keys, each behind a comma */
    uint64_t sum;       /* KVREPLACE */
};

static void abandon(struct request *r)
{
    struct gather *g = r->children;
    g->asker = NULL;
    r->children = NULL;
}

/* {"node":N,"hot":[..]}: what stands in the list. */
static struct kv_slice hot_list(struct kv_slice json)
{
    const uint8_t *from = json.size < 3 ? NULL : memchr(json.data, '[', json.size);
    return from == NULL ? kv_slice(NULL, 0) : kv_slice(from + 1, (size_t)(json.data + json.size - 2 - (from + 1)));
}

static void hot_merge(struct gather *g, struct request *r, struct kv_buf *out)
{
    uint64_t limit = 0, keyspace = UINT32_MAX;
    struct kv_buf own = {0};
    (void)kv_parse_u64(r->body.args[0], &limit);
    if (r->body.arg_count > 1) (void)kv_parse_u64(r->body.args[1], &keyspace);
    load_hot_json(g->w, (uint32_t)keyspace, (uint32_t)limit, &own);
    struct kv_slice list = hot_list(kv_buf_slice(&own)), others = kv_buf_slice(&g->text);
    if (list.size == 0 && others.size > 0) others = kv_slice(others.data + 1, others.size - 1);
    kv_buf_printf(out, "{\"node\":%u,\"hot\":[", g->w->node_id);
    kv_buf_append_slice(out, list);
    kv_buf_append_slice(out, others);
    kv_buf_append_text(out, "]}");
    kv_buf_free(&own);
}

static void end(struct gather *g)
{
    struct request *r = g->asker;
    struct kv_buf text = {0}, value = {0};
    if (r != NULL) {
        r->children = NULL;
        if (r->body.op == KV_OP_KVSTATUS) {
            status_json(g->w, &text, kv_buf_slice(&g->text));
        } else if (r->body.op == KV_OP_KVHOT) {
            hot_merge(g, r, &text);
        } else {
            kv_buf_printf(&text, "%llu", (unsigned long long)(g->sum + request_replace(g->w, r->body.args[0])));
        }
        resp_put_bulk(&value, kv_buf_slice(&text));
        struct kv_reply reply = {.applied = KV_APPLIED_YES, .node = g->w->node_id, .value = kv_buf_slice(&value)};
        request_finish(r, &reply);
    }
    kv_buf_free(&text);
    kv_buf_free(&value);
    kv_buf_free(&g->text);
    free(g);
}

static void answered(struct request *r, const struct kv_reply *reply)
{
    struct gather *g = r->owner;
    struct kv_slice value = reply->value;
    struct resp_value v;
    uint64_t number = 0;
    if (reply->err == KV_OK && resp_next(&value, SIZE_MAX, &v) == KV_OK && v.type == RESP_BULK && v.text.size > 0) {
        if (r->body.op == KV_OP_KVSTATUS) {
            kv_buf_append_slice(&g->text, v.text);
        } else if (r->body.op == KV_OP_KVHOT) {
            struct kv_slice list = hot_list(v.text);
            if (list.size > 0) kv_buf_append_u8(&g->text, ',');
            kv_buf_append_slice(&g->text, list);
        } else if (kv_parse_u64(v.text, &number)) {
            g->sum += number;
        }
    }
    if (--g->open == 0) end(g);
}

static bool is_of_all(const struct request *r)
{
    uint64_t number;
    if (r->body.op != KV_OP_KVHOT) return r->body.op == KV_OP_KVSTATUS || r->body.op == KV_OP_KVREPLACE;
    for (uint32_t i = 0; i < r->body.arg_count; i++) /* else worker 0 says what is wrong */
        if (!kv_parse_u64(r->body.args[i], &number) || number > (i == 0 ? REQUEST_HOT_MAX : UINT32_MAX) || (i == 0 && number == 0)) return false;
    return true;
}

bool siblings_gather(struct request *r)
{
    struct worker *w = r->w;
    if (w->siblings == NULL || !siblings_is_face(w) || !is_of_all(r)) return false;
    struct gather *g = calloc(1, sizeof *g);
    if (g == NULL || !request_own(r)) {
        free(g);
        return false;
    }
    *g = (struct gather){.w = w, .asker = r, .open = 1};
    r->state = REQUEST_FANNED;
    r->children = g;
    r->abandon = abandon;
    for (uint32_t k = 1; k < siblings_count(w); k++) {
        struct request *child = request_make(w);
        if (child == NULL) continue;
        child->done = answered;
        child->owner = g;
        child->body = (struct kv_request){.op = r->body.op, .args = r->body.args, .arg_count = r->body.arg_count, .keyspace = r->body.keyspace};
        child->deadline_ns = r->deadline_ns;
        child->partition = UINT32_MAX;
        g->open++;
        if (siblings_forward(w, sibling_way(k), child) != KV_OK) request_fail(child, KV_BUSY, NULL);
    }
    if (--g->open == 0) end(g);
    return true;
}
