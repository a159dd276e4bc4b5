#include <stdlib.h>

#include "client/base/text.h"
#include "client/wire/resp.h"
#include "server/jobs.h"
#include "server/request.h"
#include "server/siblings.h"

/* Questions to a node that all of its workers answer together: worker 0 asks the others as it would ask nodes, and puts its own answer to theirs.
 *
 *   KVSTATUS, KVHOT      lines of JSON: of who does not answer in time they are left out
 *   KVREPLACE, KVLEFT    numbers, their sum: KVLEFT fails if one is missing, since "none is left" is what is acted upon */
struct gather {
    struct worker *w;
    struct request *asker; /* NULL: gave up waiting */
    uint32_t open;
    bool is_short; /* somebody has not answered */
    struct kv_buf lines;
    uint64_t sum;
};

static bool is_sum(const struct request *r)
{
    return r->body.op == KV_OP_KVREPLACE || r->body.op == KV_OP_KVLEFT;
}

static void abandon(struct request *r)
{
    struct gather *g = r->children;
    g->asker = NULL;
    r->children = NULL;
}

static void own_put(struct gather *g, const struct request *r, struct kv_buf *out)
{
    struct kv_slice others = kv_buf_slice(&g->lines);
    uint64_t number = 0, keyspace = UINT32_MAX;
    if (r->body.arg_count > 0) (void)kv_parse_u64(r->body.args[0], &number);
    if (r->body.arg_count > 1) (void)kv_parse_u64(r->body.args[1], &keyspace);
    if (r->body.op == KV_OP_KVSTATUS) status_json(g->w, out, others);
    else if (r->body.op == KV_OP_KVHOT) load_hot_json(g->w, (uint32_t)keyspace, (uint32_t)number, out, others);
    else if (r->body.op == KV_OP_KVLEFT) kv_buf_printf(out, "%llu", (unsigned long long)(g->sum + jobs_left(g->w, (uint32_t)number)));
    else kv_buf_printf(out, "%llu", (unsigned long long)(g->sum + request_replace(g->w, r->body.args[0])));
}

static void end(struct gather *g)
{
    struct request *r = g->asker;
    struct kv_buf text = {0}, value = {0};
    if (r != NULL) r->children = NULL;
    if (r != NULL && g->is_short && r->body.op == KV_OP_KVLEFT) {
        request_fail(r, KV_UNAVAILABLE, "a worker of the node does not answer");
    } else if (r != NULL) {
        own_put(g, r, &text);
        resp_put_bulk(&value, kv_buf_slice(&text));
        struct kv_reply reply = {.applied = KV_APPLIED_YES, .node = g->w->node_id, .value = kv_buf_slice(&value)};
        request_finish(r, &reply);
    }
    kv_buf_free(&text);
    kv_buf_free(&value);
    kv_buf_free(&g->lines);
    free(g);
}

static void answered(struct request *r, const struct kv_reply *reply)
{
    struct gather *g = r->owner;
    struct kv_slice value = reply->value;
    struct resp_value v;
    uint64_t number = 0;
    bool is_good = reply->err == KV_OK && resp_next(&value, SIZE_MAX, &v) == KV_OK && v.type == RESP_BULK;
    if (is_good && is_sum(r)) is_good = kv_parse_u64(v.text, &number);
    if (!is_good) g->is_short = true;
    else if (is_sum(r)) g->sum += number;
    else kv_buf_append_slice(&g->lines, v.text);
    if (--g->open == 0) end(g);
}

/* Else worker 0 says what is wrong. */
static bool is_of_all(const struct request *r)
{
    uint64_t number;
    if (r->body.op == KV_OP_KVSTATUS) return true;
    if (r->body.op != KV_OP_KVHOT) return is_sum(r) && kv_parse_u64(r->body.args[0], &number) && number <= UINT32_MAX;
    for (uint32_t i = 0; i < r->body.arg_count; i++)
        if (!kv_parse_u64(r->body.args[i], &number) || number > (i == 0 ? REQUEST_HOT_MAX : UINT32_MAX) || (i == 0 && number == 0)) return false;
    return true;
}

bool siblings_gather(struct request *r)
{
    struct worker *w = r->w;
    if (w->siblings == NULL || !siblings_is_face(w) || !is_of_all(r)) return false;
    struct gather *g = calloc(1, sizeof *g);
    if (g == NULL) {
        request_fail(r, KV_BUSY, "out of memory");
        return true;
    }
    if (!request_own(r)) { /* which has answered it */
        free(g);
        return true;
    }
    *g = (struct gather){.w = w, .asker = r, .open = 1};
    r->state = REQUEST_FANNED;
    r->children = g;
    r->abandon = abandon;
    for (uint32_t k = 1; k < siblings_count(w); k++) {
        struct request *child = request_make(w);
        if (child == NULL) {
            g->is_short = true;
            continue;
        }
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
