#include <stdlib.h>

#include "client/base/text.h"
#include "client/wire/resp.h"
#include "server/request.h"
#include "server/siblings.h"

/* Questions to a node that all of its workers answer together: worker 0 asks the others as it would ask nodes, and puts its own
 * answer in front of theirs. Who does not answer in time is left out. */
struct gather {
    struct worker *w;
    struct request *asker; /* NULL: gave up waiting */
    uint32_t open;
    struct kv_buf text; /* KVSTATUS: groups of the others */
    uint64_t sum;       /* KVREPLACE */
};

static void abandon(struct request *r)
{
    struct gather *g = r->children;
    g->asker = NULL;
    r->children = NULL;
}

static void end(struct gather *g)
{
    struct request *r = g->asker;
    struct kv_buf text = {0}, value = {0};
    if (r != NULL) {
        r->children = NULL;
        if (r->body.op == KV_OP_KVSTATUS) {
            status_json(g->w, &text, kv_buf_slice(&g->text));
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
        } else if (kv_parse_u64(v.text, &number)) {
            g->sum += number;
        }
    }
    if (--g->open == 0) end(g);
}

bool siblings_gather(struct request *r)
{
    struct worker *w = r->w;
    if (w->siblings == NULL || !siblings_is_face(w) || (r->body.op != KV_OP_KVSTATUS && r->body.op != KV_OP_KVREPLACE)) return false;
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
