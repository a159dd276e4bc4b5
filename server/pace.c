#include "server/pace.h"
#include "server/siblings.h"

#include <stdlib.h>

#include "server/request.h"

struct held { /* in r->memory, in place of the arguments */
    struct kv_reply reply;
    uint8_t bytes[];
};

static uint64_t service_ns(const struct worker *w)
{
    return KV_SECONDS(1) / w->config->service_rate;
}

/* What nodes ask among themselves, and what is asked of nodes, is not an operation of users. */
static bool is_users(const struct request *r)
{
    bool is_data = r->body.op < KV_OP_NOOP && !kv_op_is_directory(r->body.op) && r->body.keyspace != KV_KEYSPACE_SYSTEM;
    return siblings_is_face(r->w) && !r->internal && is_data && r->body.op != KV_OP_KVAWAIT;
}

bool pace_admit(struct request *r)
{
    struct worker *w = r->w;
    struct pace *p = &w->pace;
    if (w->config->service_rate == 0 || r->is_admitted || !is_users(r)) return true;
    uint64_t wait_ns = service_ns(w) * p->admitted;
    if (worker_event_now_ns(w) + wait_ns > r->deadline_ns) {
        request_fail(r, KV_BUSY, "limit.service_rate: its turn would come after its deadline");
        return false;
    }
    r->is_admitted = true;
    p->admitted++;
    return true;
}

void pace_excuse(struct request *r)
{
    r->w->pace.admitted--;
    r->is_admitted = false;
}

static void give(struct request *r)
{
    struct held *h = r->memory;
    struct kv_reply reply = h->reply;
    pace_excuse(r);
    request_finish(r, &reply);
}

static void give_head(struct pace *p)
{
    struct request *r = p->head;
    p->head = r->queue_next;
    if (p->head == NULL) p->tail = NULL;
    r->queue_next = NULL;
    give(r);
}

static void timer_set(struct worker *w, uint64_t now_ns)
{
    struct pace *p = &w->pace;
    w->env->ops->timer_start(w->env, &p->timer, p->next_ns > now_ns ? p->next_ns - now_ns : 0);
}

/* A timer that came late gives all that is due since: the rate holds however coarse the clock of the loop is. */
static void due(struct env_timer *t)
{
    struct worker *w = container_of(t, struct worker, pace.timer);
    struct pace *p = &w->pace;
    worker_clock_forget(w);
    uint64_t now_ns = env_now_ns(w->env);
    while (p->head != NULL && p->next_ns <= now_ns) {
        p->next_ns += service_ns(w);
        give_head(p);
    }
    if (p->head != NULL) timer_set(w, now_ns);
    worker_turn(w);
}

void pace_init(struct worker *w)
{
    w->pace.timer.fire = due;
}

bool pace_hold(struct request *r, const struct kv_reply *reply)
{
    struct worker *w = r->w;
    struct pace *p = &w->pace;
    struct held *h = w->stopping ? NULL : malloc(sizeof *h + reply->value.size + reply->detail.size);
    if (h == NULL) {
        pace_excuse(r);
        return false;
    }
    h->reply = *reply;
    h->reply.value.data = h->bytes;
    h->reply.detail.data = h->bytes + reply->value.size;
    if (reply->value.size > 0) memcpy(h->bytes, reply->value.data, reply->value.size);
    if (reply->detail.size > 0) memcpy(h->bytes + reply->value.size, reply->detail.data, reply->detail.size);
    free(r->memory); /* the arguments; the reply may have pointed into them */
    r->memory = h;
    r->state = REQUEST_PACED;
    r->queue_next = NULL;
    if (p->tail != NULL) {
        p->tail->queue_next = r;
    } else {
        uint64_t now_ns = env_now_ns(w->env);
        p->head = r;
        if (p->next_ns < now_ns + service_ns(w)) p->next_ns = now_ns + service_ns(w);
        timer_set(w, now_ns);
    }
    p->tail = r;
    return true;
}

void pace_close(struct worker *w)
{
    if (w->pace.timer.heap_index != 0) w->env->ops->timer_stop(w->env, &w->pace.timer);
}

void pace_drain(struct worker *w)
{
    while (w->pace.head != NULL) give_head(&w->pace);
    pace_close(w);
}
