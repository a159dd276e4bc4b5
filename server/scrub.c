#include "server/scrub.h"

#include <stdlib.h>

#include "server/nodes.h"
#include "server/peer.h"

static const uint64_t answer_ns = KV_SECONDS(60); /* whoever has not answered by then is not judged */
static const uint64_t again_ns = KV_SECONDS(10);

struct scrub_job { /* a hash under way */
    struct scrub_job *next, **link;
    struct worker *w;
    uint32_t group;
    uint64_t life;
    raft_id asker;
    struct kv_key from, to;
    struct store_hash hash;
};

uint32_t scrub_judge(const uint64_t *hashes, uint32_t count, uint32_t voters, bool *majority)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t same = 0, others = 0;
        for (uint32_t k = 0; k < count; k++) {
            if (hashes[k] == hashes[i]) same++;
            else others |= 1u << k;
        }
        *majority = 2 * same > voters;
        if (*majority) return others;
    }
    *majority = false;
    return 0;
}

static void corrupt(struct group *g, uint64_t index)
{
    group_corrupt(g, "its rows are not those of the other replicas", index);
}

static void judge(struct group *g)
{
    struct group_scrub *s = &g->scrub;
    uint32_t voters = 0;
    bool majority, equal = true;
    for (uint32_t i = 1; i < s->answers; i++) equal = equal && s->hashes[i] == s->hashes[0];
    for (uint32_t i = 0; i < g->descriptor.replica_count; i++) voters += g->descriptor.replicas[i].role == DESCRIPTOR_VOTER;
    uint32_t differ = scrub_judge(s->hashes, s->answers, voters, &majority);
    if (!equal)
        JOURNAL(g->w->journal, store, ERROR, "scrub-differs", "group=%u index=%llu answers=%u voters=%u majority=%d", g->id,
                (unsigned long long)s->asked_index, s->answers, voters, majority);
    else if (!majority)
        JOURNAL(g->w->journal, store, WARN, "scrub-incomplete", "group=%u index=%llu answers=%u voters=%u", g->id,
                (unsigned long long)s->asked_index, s->answers, voters);
    else
        JOURNAL(g->w->journal, store, INFO, "scrub", "group=%u index=%llu answers=%u hash=%016llx", g->id,
                (unsigned long long)s->asked_index, s->answers, (unsigned long long)s->hashes[0]);
    s->asked_ns = 0;
    for (uint32_t i = 0; i < s->answers; i++) {
        if ((differ & 1u << i) == 0) continue;
        struct peer_scrub m = {.group = g->id, .from = g->replica, .to = s->replicas[i], .index = s->asked_index, .kind = PEER_SCRUB_DIFFERS};
        if (s->replicas[i] == g->replica) corrupt(g, s->asked_index);
        else peer_send_scrub(g->w->peers, group_node_of(g, s->replicas[i]), &m);
    }
}

static void answered(struct group *g, raft_id replica, uint64_t index, uint64_t hash)
{
    struct group_scrub *s = &g->scrub;
    if (s->asked_ns == 0 || index != s->asked_index) return;
    for (uint32_t i = 0; i < s->answers; i++)
        if (s->replicas[i] == replica) return;
    if (s->answers == DESCRIPTOR_REPLICAS_MAX) return;
    s->replicas[s->answers] = replica;
    s->hashes[s->answers++] = hash;
    if (s->answers == s->asked) judge(g);
}

/* A checkpoint was under way somewhere. Groups that met in one try part for the next. */
static void try_again(struct group *g, uint64_t index)
{
    struct group_scrub *s = &g->scrub;
    if (s->asked_ns == 0 || index != s->asked_index) return;
    uint64_t wait = g->w->config->storage_scrub / 4 < again_ns ? g->w->config->storage_scrub / 4 : again_ns;
    s->asked_ns = 0;
    s->next_ns = env_now_ns(g->w->env) + wait + wait / 8 * (g->id % 8);
}

static void answer(struct group *g, raft_id asker, uint64_t index, uint64_t hash, enum kv_err err)
{
    struct peer_scrub m = {.group = g->id, .from = g->replica, .to = asker, .index = index, .hash = hash, .kind = err == KV_OK ? PEER_SCRUB_ANSWER : PEER_SCRUB_BUSY};
    if (asker != g->replica) peer_send_scrub(g->w->peers, group_node_of(g, asker), &m);
    else if (err == KV_OK) answered(g, asker, index, hash);
    else try_again(g, index);
}

static void hashed(struct store_hash *h, enum kv_err err)
{
    struct scrub_job *j = container_of(h, struct scrub_job, hash);
    struct group *g = worker_group(j->w, j->group);
    *j->link = j->next;
    if (j->next != NULL) j->next->link = j->link;
    if (g != NULL && g->life == j->life && !g->dead) {
        if (err == KV_CORRUPT) group_corrupt(g, "a row is not what was written", h->index);
        else answer(g, j->asker, h->index, h->hash, err);
    }
    free(j);
}

void scrub_applied(struct group *g)
{
    struct worker *w = g->w;
    struct scrub_job *j = calloc(1, sizeof *j);
    uint64_t index = g->scrub.index;
    g->scrub.index = 0;
    if (j == NULL) {
        answer(g, g->scrub.asker, index, 0, KV_BUSY);
        return;
    }
    *j = (struct scrub_job){.w = w, .group = g->id, .life = g->life, .asker = g->scrub.asker, .from = g->descriptor.from, .to = g->descriptor.to, .next = w->scrubs, .link = &w->scrubs};
    j->hash = (struct store_hash){.done = hashed, .group = g->id, .range = {kv_key_slice(&j->from), kv_key_slice(&j->to)}};
    enum kv_err err = store_hash(w->store, &j->hash);
    if (err != KV_OK) {
        answer(g, j->asker, index, 0, err);
        free(j);
        return;
    }
    if (w->scrubs != NULL) w->scrubs->link = &j->next;
    w->scrubs = j;
}

static void ask(struct group *g, uint64_t now_ns)
{
    struct group_scrub *s = &g->scrub;
    uint64_t index;
    if (group_propose_noop(g, &index) != KV_OK) return;
    s->index = s->asked_index = index;
    s->asker = g->replica;
    s->asked_ns = now_ns;
    s->answers = 0;
    s->asked = 1;
    for (uint32_t i = 0; i < g->descriptor.replica_count; i++) {
        const struct descriptor_replica *r = &g->descriptor.replicas[i];
        if (r->id == g->replica || r->role != DESCRIPTOR_VOTER) continue;
        struct peer_scrub m = {.group = g->id, .from = g->replica, .to = r->id, .index = index, .kind = PEER_SCRUB_ASK};
        peer_send_scrub(g->w->peers, r->node, &m); /* arrives no later than the entry, so before it is applied */
        s->asked++;
    }
}

/* Groups take turns: a checkpoint serves one of them. */
void scrub_tick(struct group *g, uint64_t now_ns)
{
    struct group_scrub *s = &g->scrub;
    uint64_t interval = g->w->config->storage_scrub;
    if (interval == 0 || nodes_are_one(g->w) || g->w->stopping || descriptor_is_joint(&g->descriptor)) return;
    if (s->asked_ns != 0) {
        if (now_ns - s->asked_ns > answer_ns) judge(g);
        return;
    }
    if (s->term != g->lead_term) { /* anew with each leadership */
        s->term = g->lead_term;
        s->next_ns = now_ns + interval / 16 * (1 + g->id % 16);
    }
    if (now_ns < s->next_ns || g->lead_index == 0 || g->applied < g->lead_index) return;
    s->next_ns = now_ns + interval;
    ask(g, now_ns);
}

void scrub_receive(struct worker *w, uint32_t node, const struct peer_scrub *m)
{
    struct group *g = worker_group(w, m->group);
    if (g == NULL || g->dead || g->replica != m->to || group_node_of(g, m->from) != node) return;
    switch (m->kind) {
    case PEER_SCRUB_ASK:
        if (g->applied >= m->index) return; /* too late to say */
        g->scrub.index = m->index;
        g->scrub.asker = m->from;
        return;
    case PEER_SCRUB_ANSWER:
        if (group_leads(g)) answered(g, m->from, m->index, m->hash);
        return;
    case PEER_SCRUB_BUSY:
        if (group_leads(g)) try_again(g, m->index);
        return;
    case PEER_SCRUB_DIFFERS: corrupt(g, m->index); return;
    }
}

void scrub_drop(struct worker *w)
{
    while (w->scrubs != NULL) {
        struct scrub_job *j = w->scrubs;
        w->scrubs = j->next;
        free(j);
    }
}
