#include "server/request_impl.h"

#include <stdio.h>

#include "client/base/text.h"
#include "client/wire/resp.h"
#include "server/group.h"
#include "server/jobs.h"
#include "server/load.h"
#include "server/siblings.h"

/* Questions about this node or the cluster that are answered here, without a partition. */

uint32_t request_replace(struct worker *w, struct kv_slice digits)
{
    uint64_t node = 0, id;
    uint32_t marked = 0, cursor = 0;
    void *v;
    if (!kv_parse_u64(digits, &node) || node == w->node_id) return 0;
    while (kv_map_next(&w->groups, &cursor, &id, &v)) {
        struct group *g = v;
        if (!group_leads(g)) continue;
        for (uint32_t i = 0; i < g->descriptor.replica_count; i++)
            if (g->descriptor.replicas[i].node == node) {
                member_lost(g, g->descriptor.replicas[i].id);
                marked++;
            }
    }
    return marked;
}

bool request_answer_here(struct request *r)
{
    struct worker *w = r->w;
    struct kv_reply reply = {.applied = KV_APPLIED_YES, .node = w->node_id};
    struct kv_buf text = {0}, value = {0};
    char levels[256] = "", unknown[256]; /* `why` may point into `levels` */
    const char *why = NULL;
    switch (r->body.op) {
    case KV_OP_KVMAP: status_map(w, &text); break;
    case KV_OP_KVSTATUS:
        if (siblings_is_face(w)) status_json(w, &text, kv_slice(NULL, 0));
        else status_groups(w, &text);
        break;
    case KV_OP_KVLEFT: {
        uint64_t id;
        if (kv_parse_u64(r->body.args[0], &id) && id <= UINT32_MAX) kv_buf_printf(&text, "%u", jobs_left(w, (uint32_t)id));
        else reply.err = KV_BAD_ARGUMENT;
        break;
    }
    case KV_OP_KVPING:
        if (r->body.arg_count > 0) kv_buf_append_slice(&text, r->body.args[0]);
        break;
    case KV_OP_KVHOT: {
        uint64_t limit = 0, keyspace = UINT32_MAX;
        bool good = kv_parse_u64(r->body.args[0], &limit) && limit >= 1 && limit <= REQUEST_HOT_MAX;
        if (r->body.arg_count > 1) good = good && kv_parse_u64(r->body.args[1], &keyspace) && keyspace <= UINT32_MAX;
        if (!good) reply.err = KV_BAD_ARGUMENT;
        else if (siblings_is_face(w)) load_hot_json(w, (uint32_t)keyspace, (uint32_t)limit, &text, kv_slice(NULL, 0));
        else load_hot_lines(w, (uint32_t)keyspace, (uint32_t)limit, &text);
        if (!good) why = "KVHOT limit [keyspace]: a number of keys, 1 to 1000, and the id of a keyspace";
        break;
    }
    case KV_OP_KVLOGLEVEL: {
        struct kv_slice a = r->body.args[0];
        if (a.size < sizeof levels) memcpy(levels, a.data, a.size);
        reply.err = a.size < sizeof levels ? worker_log_levels(w, levels, &why) : KV_TOO_BIG;
        if (reply.err == KV_OK) kv_buf_append_text(&text, "OK");
        if (reply.err != KV_BAD_ARGUMENT) break;
        snprintf(unknown, sizeof unknown, "%.*s; " JOURNAL_MODULES_TEXT ", levels error warn info debug",
                 (int)(strcspn(why, ",") < 32 ? strcspn(why, ",") : 32), why);
        why = unknown;
        break;
    }
    case KV_OP_KVREPLACE: kv_buf_printf(&text, "%u", request_replace(w, r->body.args[0])); break;
    default: return false;
    }
    if (reply.err != KV_OK && why != NULL) reply.detail = kv_str(why);
    resp_put_bulk(&value, kv_buf_slice(&text));
    reply.value = kv_buf_slice(&value);
    request_finish(r, &reply);
    kv_buf_free(&text);
    kv_buf_free(&value);
    return true;
}
