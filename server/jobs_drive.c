#include <stdio.h>

#include "client/base/text.h"
#include "server/group.h"
#include "server/jobs_impl.h"
#include "server/keyspaces.h"
#include "server/map.h"
#include "server/nodes.h"
#include "server/peer.h"
#include "server/request.h"

/* What each kind of job does next, from what descriptors show. The map may be behind, never ahead: what seems not done is asked for again,
 * and whoever is asked knows that it is done. What is asked for names an epoch, so it takes effect on that alone. */
enum { POLL_MS = 1000,     /* how much of a copy is there */
       SETTLED_S = 5,      /* a leader of partition 0 has heard of all partitions by then */
       UNHEARD_S = 30,     /* what nobody tells of for so long is not there */
       FRUITLESS_S = 60 }; /* then the coordinator gives its own move or split up, to plan another */

/* So long an earlier runner's request may still be on its way to where it takes effect. */
static bool is_quiet(const struct run *run, uint64_t now_ns)
{
    return run->fence == 1 || now_ns - run->claimed_ns > KV_MS(2 * JOBS_ASK_MS);
}

static bool has_led_for(const struct jobs *jobs, uint64_t now_ns, uint64_t seconds)
{
    const struct group *g = worker_group(jobs->w, KV_PARTITION_SYSTEM);
    return g != NULL && now_ns - g->led_ns > KV_SECONDS(seconds);
}

static bool is_undone(const struct kv_job *j)
{
    return j->state == KV_JOB_CANCELLING || j->state == KV_JOB_PAUSED;
}

/* Leaders told of partitions that have every key of it between them: one that is not among these has none. */
static bool others_have_all(const struct worker *w, uint32_t keyspace)
{
    const struct kv_keyspace *k = keyspaces_find(w, keyspace);
    return k != NULL && map_is_whole(w, k);
}

/* Its partition does not exist any more, or never did as far as anybody says. True: the job has ended, or waits to know. */
static bool lacks_partition(struct jobs *jobs, struct run *run, const struct kv_job *j, const struct partition *p, uint64_t now_ns)
{
    char note[JOBS_NOTE_BYTES];
    bool is_gone = keyspaces_is_gone(jobs->w, j->keyspace) || map_has_ended(jobs->w, p != NULL ? p->id : j->partition);
    if (p != NULL && map_descriptor(p) != NULL && !is_gone) return false;
    is_gone = is_gone || has_led_for(jobs, now_ns, UNHEARD_S) || (has_led_for(jobs, now_ns, SETTLED_S) && others_have_all(jobs->w, j->keyspace));
    (void)snprintf(note, sizeof note, is_gone ? "partition %u is not there any more" : "waiting to hear of partition %u", j->partition);
    if (is_gone) jobs_end(jobs, run, j, j->automatic || j->state == KV_JOB_CANCELLING ? KV_JOB_CANCELLED : KV_JOB_FAILED, KV_NOT_FOUND, note);
    else jobs_step(jobs, run, j, j->done, j->total, "steps", note);
    return true;
}

/* ---- moves ---- */

struct replicas {                  /* of a partition, as a move sees them */
    bool from, to, learner, joint; /* a voter on either; a learner on `to`; both configurations in force */
};

static struct replicas replicas_of(const struct descriptor *d, const struct kv_job *j)
{
    struct replicas r = {.joint = descriptor_is_joint(d)};
    for (uint32_t i = 0; i < d->replica_count; i++) {
        bool is_learner = d->replicas[i].role == DESCRIPTOR_LEARNER;
        r.from = r.from || (!is_learner && d->replicas[i].node == j->from);
        r.to = r.to || (!is_learner && d->replicas[i].node == j->to);
        r.learner = r.learner || (is_learner && d->replicas[i].node == j->to);
    }
    return r;
}

static void ask_move(struct jobs *jobs, struct run *run, const struct kv_job *j, uint32_t from, uint32_t to, uint32_t conf_epoch)
{
    char text[4][24];
    struct kv_slice args[4];
    const uint32_t numbers[4] = {j->partition, from, to, conf_epoch};
    for (uint32_t i = 0; i < 4; i++) {
        (void)snprintf(text[i], sizeof text[i], "%u", numbers[i]);
        args[i] = kv_str(text[i]);
    }
    jobs_ask(jobs, run, &(struct jobs_ask){.op = KV_OP_KVMOVE, .args = args, .arg_count = 4, .keyspace = KV_KEYSPACE_DEFAULT});
    run->has_asked = true;
    run->again_ns = env_now_ns(jobs->w->env) + KV_MS(POLL_MS);
}

/* A node that will not be there, or is to lose what it has, is no place for what the coordinator moves by itself. */
static bool is_no_place(const struct worker *w, uint32_t node, uint32_t partition, uint64_t now_ns)
{
    const struct nodes_entry *n = nodes_find(w, node);
    if (n == NULL || n->state == KV_NODE_REMOVED || n->state == KV_NODE_DRAINING || !nodes_may_hold(w, node, partition)) return true;
    return node != w->node_id && peer_gone_ns(w->peers, node, now_ns) >= w->config->coordinator_dead;
}

static bool is_unknown(const struct worker *w, uint32_t node) /* 0 stands for none */
{
    return node != 0 && nodes_find(w, node) == NULL;
}

static void move_note(const struct worker *w, const struct run *run, const struct kv_job *j, const struct replicas *r, uint64_t now_ns, char note[JOBS_NOTE_BYTES])
{
    note[0] = '\0';
    if (j->to != 0 && j->to != w->node_id && peer_gone_ns(w->peers, j->to, now_ns) > 0)
        (void)snprintf(note, JOBS_NOTE_BYTES, "waiting for node %u, which is not connected", j->to);
    else if (!r->joint && run->err != KV_OK) (void)snprintf(note, JOBS_NOTE_BYTES, "%s", run->note);
}

static void move_back(struct jobs *jobs, struct run *run, const struct kv_job *j, const struct descriptor *d, const struct replicas *r, uint64_t now_ns)
{
    if (r->learner) ask_move(jobs, run, j, j->to, 0, d->conf_epoch);
    else if (j->state != KV_JOB_PAUSED && is_quiet(run, now_ns)) jobs_end(jobs, run, j, KV_JOB_CANCELLED, KV_OK, j->state == KV_JOB_CANCELLING ? "" : run->note);
}

static void drive_move(struct jobs *jobs, struct run *run, const struct kv_job *j, uint64_t now_ns)
{
    struct worker *w = jobs->w;
    const struct partition *p = map_get(w, j->partition);
    char note[JOBS_NOTE_BYTES];
    if (lacks_partition(jobs, run, j, p, now_ns)) return;
    const struct descriptor *d = map_descriptor(p);
    struct replicas r = replicas_of(d, j);
    /* Not by what an earlier epoch was like, which is all that a map behind the plan knows. */
    bool is_met = d->conf_epoch >= j->conf_epoch && !r.joint && !r.learner && (j->to == 0 || r.to) && (j->from == 0 || !r.from);
    bool is_fruitless = j->automatic && !r.learner && !r.joint && run->err != KV_OK &&
                        (run->err == KV_NOT_FOUND || now_ns - run->claimed_ns > KV_SECONDS(FRUITLESS_S)); /* not found: who it is to leave has left */
    bool gives_up = is_fruitless || (j->automatic && j->to != 0 && is_no_place(w, j->to, j->partition, now_ns));
    if (!j->automatic && (is_unknown(w, j->from) || is_unknown(w, j->to))) {
        jobs_end(jobs, run, j, KV_JOB_FAILED, KV_NOT_FOUND, "the cluster has no such node; next: kvctl node list");
        return;
    }
    if (!j->automatic && j->to != 0 && !r.joint && !r.learner && !is_met && !nodes_may_hold(w, j->to, j->partition)) {
        jobs_end(jobs, run, j, KV_JOB_FAILED, KV_CONDITION,
                 j->partition == KV_PARTITION_SYSTEM ? "that node has not the role coordinator; next: kvctl node list"
                                                     : "that node has not the role storage; next: kvctl node list");
        return;
    }
    if (is_met || (r.learner && MUTANT(job_done_early))) {
        jobs_end(jobs, run, j, KV_JOB_DONE, KV_OK, "");
        return;
    }
    if (!r.joint && (is_undone(j) || gives_up)) {
        move_back(jobs, run, j, d, &r, now_ns);
        return;
    }
    if (!r.joint && j->from != 0 && r.from && r.to) {
        jobs_end(jobs, run, j, KV_JOB_FAILED, KV_CONDITION, "a voter of it is on that node already");
        return;
    }
    bool is_refused = run->err == KV_NOT_FOUND || (j->to == 0 && run->err == KV_CONDITION); /* the quorum would go with it */
    if (!r.joint && !r.learner && is_refused && !j->automatic) {
        jobs_end(jobs, run, j, KV_JOB_FAILED, run->err, run->note);
        return;
    }
    move_note(w, run, j, &r, now_ns, note);
    if (run->total > 0) jobs_step(jobs, run, j, run->sent, run->total, "bytes", note);
    else jobs_step(jobs, run, j, r.joint ? 2 : r.learner, 3, "steps", note);
    if (!run->asks && !r.joint) ask_move(jobs, run, j, j->from, j->to, d->conf_epoch);
}

/* ---- splits and merges ---- */

static bool begins_at(const struct descriptor *d, struct kv_slice key)
{
    return kv_slice_eq(kv_key_slice(&d->from), key);
}

/* Wrong in itself, or no longer so by the partition's own word; the rest may be otherwise in a moment. */
static bool is_final(const struct run *run)
{
    return run->err == KV_BAD_ARGUMENT || run->err == KV_TOO_BIG || run->err == KV_NOT_FOUND;
}

static void ask_at(struct jobs *jobs, struct run *run, enum kv_op op, struct kv_slice key, const struct descriptor *d)
{
    jobs_ask(jobs, run, &(struct jobs_ask){.op = op, .args = &key, .arg_count = 1, .keyspace = d->keyspace, .partition = d->id, .range_epoch = d->range_epoch});
    run->has_asked = true;
    run->again_ns = env_now_ns(jobs->w->env) + KV_MS(JOBS_AGAIN_MS);
}

/* The map shows the place as it was before the split or merge was planned, so where partitions begin there says nothing. True: the job waits to hear
 * more, or, if nobody tells of it, has ended. */
static bool is_behind(struct jobs *jobs, struct run *run, const struct kv_job *j, const struct descriptor *d, uint64_t now_ns)
{
    char note[JOBS_NOTE_BYTES];
    if (d->range_epoch >= j->range_epoch || is_undone(j)) return false;
    bool gives_up = has_led_for(jobs, now_ns, UNHEARD_S) && now_ns - run->claimed_ns > KV_SECONDS(UNHEARD_S);
    (void)snprintf(note, sizeof note, "%s the partition there as of range epoch %u", gives_up ? "nobody tells of" : "waiting to hear of", j->range_epoch);
    if (gives_up) jobs_end(jobs, run, j, j->automatic ? KV_JOB_CANCELLED : KV_JOB_FAILED, KV_NOT_FOUND, note);
    else jobs_step(jobs, run, j, j->done, j->total, "steps", note);
    return true;
}

static void cancel_at_rest(struct jobs *jobs, struct run *run, const struct kv_job *j, uint64_t now_ns)
{
    if (j->state == KV_JOB_CANCELLING && is_quiet(run, now_ns)) jobs_end(jobs, run, j, KV_JOB_CANCELLED, KV_OK, "");
}

static void drive_split(struct jobs *jobs, struct run *run, const struct kv_job *j, uint64_t now_ns)
{
    const struct partition *p = map_find(jobs->w, j->key);
    if (lacks_partition(jobs, run, j, p, now_ns)) return;
    const struct descriptor *d = map_descriptor(p);
    if (is_behind(jobs, run, j, d, now_ns)) return;
    if (begins_at(d, j->key) && d->range_epoch >= j->range_epoch) {
        struct kv_job s = *j;
        s.result = d->id;
        bool was_so = d->range_epoch == j->range_epoch || (run->fence == 1 && !run->has_asked);
        if (was_so) jobs_end(jobs, run, j, KV_JOB_FAILED, KV_CONDITION, "a partition begins at that key already");
        else jobs_end(jobs, run, &s, KV_JOB_DONE, KV_OK, "");
    } else if (is_undone(j)) {
        cancel_at_rest(jobs, run, j, now_ns);
    } else if (is_final(run) || (j->automatic && run->err != KV_OK && now_ns - run->claimed_ns > KV_SECONDS(FRUITLESS_S))) {
        jobs_end(jobs, run, j, j->automatic ? KV_JOB_CANCELLED : KV_JOB_FAILED, run->err, run->note);
    } else {
        jobs_step(jobs, run, j, 0, 1, "steps", run->err == KV_OK ? "" : run->note);
        if (!run->asks) ask_at(jobs, run, KV_OP_KVSPLIT, j->key, d);
    }
}

static void drive_merge(struct jobs *jobs, struct run *run, const struct kv_job *j, uint64_t now_ns)
{
    const struct partition *p = map_find(jobs->w, j->key);
    if (lacks_partition(jobs, run, j, p, now_ns)) return;
    const struct descriptor *d = map_descriptor(p);
    if (is_behind(jobs, run, j, d, now_ns)) return;
    bool begins = begins_at(d, j->key), is_met = !begins && (run->has_asked || run->fence > 1) && d->range_epoch > j->range_epoch;
    if (is_met) {
        jobs_end(jobs, run, j, KV_JOB_DONE, KV_OK, "");
    } else if (!begins) {
        if (has_led_for(jobs, now_ns, UNHEARD_S) || (run->fence == 1 && !run->has_asked))
            jobs_end(jobs, run, j, KV_JOB_FAILED, KV_CONDITION, "no partition begins at that key");
    } else if (is_undone(j)) {
        if (d->frozen_merge == 0) cancel_at_rest(jobs, run, j, now_ns);
    } else if (is_final(run) || (run->err == KV_CONDITION && (j->automatic || run->has_asked))) {
        jobs_end(jobs, run, j, j->automatic ? KV_JOB_CANCELLED : KV_JOB_FAILED, run->err, run->note);
    } else {
        jobs_step(jobs, run, j, 0, 1, "steps", run->err == KV_OK ? "" : run->note);
        if (!run->asks && d->frozen_merge == 0) ask_at(jobs, run, KV_OP_KVMERGE, j->key, d);
    }
}

/* ---- what the coordinator's moves do in the end ---- */

static bool holds(const struct descriptor *d, uint32_t node)
{
    for (uint32_t i = 0; i < d->replica_count; i++)
        if (d->replicas[i].node == node) return true;
    return false;
}

static bool is_in_zones(const struct kv_slice *zones, uint32_t zone_count, const struct nodes_entry *n)
{
    for (uint32_t i = 0; n != NULL && i < zone_count; i++)
        if (kv_slice_eq(kv_str(n->zone), zones[i])) return true;
    return zone_count == 0;
}

static bool may_take(const struct nodes_entry *n, uint32_t partition)
{
    return n->state == KV_NODE_UP && kv_node_has(n->roles, nodes_role_for(partition));
}

static bool has_place(const struct worker *w, const struct descriptor *d)
{
    const struct kv_keyspace *k = keyspaces_find(w, d->keyspace);
    const struct nodes_entry *n;
    for (uint32_t i = 0; (n = nodes_at(w, i)) != NULL; i++)
        if (may_take(n, d->id) && !holds(d, n->id) && (k == NULL || is_in_zones(k->zones, k->zone_count, n))) return true;
    return false;
}

/* By the map of the node that is asked, as for a removal. */
bool jobs_refuse_drain(struct request *r)
{
    enum { NAMED = 6 };
    const struct worker *w = r->w;
    const struct partition *p;
    const struct nodes_entry *n;
    uint64_t id;
    uint32_t stuck = 0;
    char names[NAMED * 12 + 4] = "", text[320];
    size_t size = 0;
    if (r->body.op != KV_OP_KSNODE || r->body.arg_count != 3 || !kv_slice_eq(r->body.args[1], kv_str("draining")) ||
        !kv_slice_eq(r->body.args[2], kv_str("JOB")) || !kv_parse_u64(r->body.args[0], &id) || id > UINT32_MAX)
        return false;
    n = nodes_find(w, (uint32_t)id);
    if (n == NULL || n->state == KV_NODE_DRAINING || n->state == KV_NODE_REMOVED) return false;
    for (uint32_t i = 0; (p = map_at(w, i)) != NULL; i++) {
        const struct descriptor *d = map_descriptor(p);
        if (!holds(d, (uint32_t)id) || has_place(w, d)) continue;
        if (stuck++ < NAMED) size += (size_t)snprintf(names + size, sizeof names - size, "%s%u", stuck > 1 ? ", " : "", d->id);
    }
    if (stuck == 0) return false;
    (void)snprintf(text, sizeof text, "%u partition%s of node %u ha%s no other node to go to (%s%s); next: add a node, or kvctl node drain %u --force waits for one", stuck,
                   stuck == 1 ? "" : "s", (uint32_t)id, stuck == 1 ? "s" : "ve", names, stuck > NAMED ? " .." : "", (uint32_t)id);
    request_fail(r, KV_CONDITION, text);
    return true;
}

static bool is_zoned(const struct worker *w, const struct descriptor *d)
{
    const struct kv_keyspace *k = keyspaces_find(w, d->keyspace);
    return k != NULL && k->zone_count > 0;
}

static void drive_drain(struct jobs *jobs, struct run *run, const struct kv_job *j, uint64_t now_ns)
{
    struct worker *w = jobs->w;
    const struct partition *p;
    uint64_t left = 0, stuck = 0;
    char note[JOBS_NOTE_BYTES] = "";
    if (!has_led_for(jobs, now_ns, SETTLED_S) || j->state == KV_JOB_PAUSED) return;
    for (uint32_t i = 0; (p = map_at(w, i)) != NULL; i++) {
        const struct descriptor *d = map_descriptor(p);
        if (!holds(d, j->from)) continue;
        left++;
        if (has_place(w, d)) continue;
        if (stuck++ == 0) (void)snprintf(note, sizeof note, "partition %u has no other node %sto go to; next: add a node, or kvctl node uncordon another", d->id, is_zoned(w, d) ? "of its zones " : "");
    }
    uint64_t total = left > j->total ? left : j->total;
    if (left == 0) jobs_end(jobs, run, j, KV_JOB_DONE, KV_OK, "");
    else jobs_step(jobs, run, j, total - left, total, "replicas", note);
}

/* ---- labels that a list keyspace gains ---- */

static const struct partition *last_of(const struct worker *w, uint32_t keyspace)
{
    struct kv_key end;
    kv_key_end(KV_KEY_LIST, keyspace, &end);
    const struct partition *p = map_ending(w, kv_key_slice(&end));
    return p != NULL && map_descriptor(p)->keyspace == keyspace ? p : NULL;
}

/* First its partition knows them, then everybody. */
static void teach(struct jobs *jobs, struct run *run, const struct kv_job *j, const struct kv_keyspace *after)
{
    const struct partition *p = last_of(jobs->w, j->keyspace);
    if (run->has_listed) {
        struct kv_job s = *j;
        s.result = 1;
        jobs_step(jobs, run, &s, j->done, j->total, "partitions", "its labels are listed");
        return;
    }
    if (p == NULL || run->asks) return;
    const struct descriptor *d = map_descriptor(p);
    char id[16];
    struct kv_buf list = {0};
    uint32_t first = d->from.size < KV_KEY_PREFIX_BYTES_MAX ? 0 : kv_key_slot(kv_key_slice(&d->from));
    descriptor_list_encode(&after->rule, first, UINT16_MAX + 1, &list);
    struct kv_slice args[2] = {kv_slice(id, (size_t)snprintf(id, sizeof id, "%u", d->id)), kv_buf_slice(&list)};
    if (!list.failed) jobs_ask(jobs, run, &(struct jobs_ask){.op = KV_OP_KVLABELS, .args = args, .arg_count = 2, .keyspace = KV_KEYSPACE_DEFAULT});
    kv_buf_free(&list);
}

/* Each run of a group's new labels becomes a partition of its own, one after the other. True: they all are. */
static bool part(struct jobs *jobs, const struct kv_job *j, const struct kv_keyspace *before, const struct kv_keyspace *after, uint64_t now_ns)
{
    uint32_t old = before->rule.label_count + before->rule.has_rest;
    for (uint32_t i = 0; i < after->group_count; i++)
        for (uint32_t n = 0; n < after->groups[i].label_count; n++) {
            struct kv_key key;
            if (after->groups[i].labels[n].bucket < old) continue;
            kv_key_bucket_start(j->keyspace, after->groups[i].labels[n].bucket, &key);
            const struct partition *p = map_find(jobs->w, kv_key_slice(&key));
            if (p == NULL) return false;
            const struct descriptor *d = map_descriptor(p);
            if (begins_at(d, kv_key_slice(&key))) break; /* the group's others stand behind it */
            if (!jobs_are_on(jobs->w, p->id) && now_ns - jobs->parted_ns > KV_SECONDS(1)) {
                jobs->parted_ns = now_ns;
                jobs_open(jobs->w, &(struct kv_job){.kind = KV_JOB_SPLIT, .partition = p->id, .keyspace = j->keyspace, .key = kv_key_slice(&key), .range_epoch = d->range_epoch, .reason = kv_str("labels")});
            }
            return false;
        }
    return true;
}

/* True: there were none to come, or they are there. */
static bool has_labels(struct jobs *jobs, struct run *run, const struct kv_job *j, uint64_t now_ns)
{
    struct kv_arena arena = {0};
    struct kv_keyspace before, after;
    bool has = j->after.size == 0;
    if (!has && kv_keyspace_decode(j->before, &arena, &before) == KV_OK && kv_keyspace_decode(j->after, &arena, &after) == KV_OK) {
        if (j->result == 0) teach(jobs, run, j, &after);
        else has = part(jobs, j, &before, &after, now_ns);
    }
    kv_arena_free(&arena);
    return has;
}

/* Nodes there that could have a replica now. */
static uint32_t places(const struct worker *w, uint32_t partition, const struct kv_slice *zones, uint32_t zone_count)
{
    const struct nodes_entry *n;
    uint32_t count = 0;
    for (uint32_t i = 0; (n = nodes_at(w, i)) != NULL; i++) {
        bool is_away = n->id != w->node_id && !peer_connected(w->peers, n->id);
        count += may_take(n, partition) && !is_away && is_in_zones(zones, zone_count, n);
    }
    return count;
}

/* Why its replicas cannot be as they are wanted; "": there are nodes for them. */
static void lack_note(const struct worker *w, const struct kv_keyspace *k, char note[JOBS_NOTE_BYTES])
{
    enum { ROOM = 50 }; /* for the last words */
    uint32_t count = places(w, k->first_partition, k->zones, k->zone_count);
    note[0] = '\0';
    if (count >= k->replicas) return;
    size_t size = (size_t)snprintf(note, JOBS_NOTE_BYTES, "%u replicas need as many nodes;", k->replicas);
    if (k->zone_count == 0) size += (size_t)snprintf(note + size, JOBS_NOTE_BYTES - size, " %u may take one", count);
    for (uint32_t i = 0; i < k->zone_count; i++) {
        struct kv_slice zone = k->zones[i];
        if (size + zone.size + ROOM > JOBS_NOTE_BYTES) break;
        size += (size_t)snprintf(note + size, JOBS_NOTE_BYTES - size, "%s %.*s has %u", i == 0 ? " zone" : ",", (int)zone.size, (const char *)zone.data, places(w, k->first_partition, &zone, 1));
    }
    (void)snprintf(note + size, JOBS_NOTE_BYTES - size, "; next: add nodes, or alter it again");
}

static void drive_alter(struct jobs *jobs, struct run *run, const struct kv_job *j, uint64_t now_ns)
{
    struct worker *w = jobs->w;
    const struct kv_keyspace *k = keyspaces_find(w, j->keyspace);
    const struct partition *p;
    uint64_t total = 0, good = 0;
    char note[JOBS_NOTE_BYTES] = "";
    if (!has_led_for(jobs, now_ns, SETTLED_S) || k == NULL || j->state == KV_JOB_PAUSED) return;
    for (uint32_t i = 0; (p = map_at(w, i)) != NULL; i++) {
        const struct descriptor *d = map_descriptor(p);
        if (d->keyspace != j->keyspace) continue;
        bool is_good = d->replica_count == k->replicas;
        for (uint32_t r = 0; is_good && r < d->replica_count; r++)
            is_good = d->replicas[r].role == DESCRIPTOR_VOTER && is_in_zones(k->zones, k->zone_count, nodes_find(w, d->replicas[r].node));
        total++;
        good += is_good;
    }
    lack_note(w, k, note);
    if (!w->config->coordinator_enabled) (void)snprintf(note, sizeof note, "waiting for a coordinator: coordinator.enabled is off on node %u", w->node_id);
    if (!has_labels(jobs, run, j, now_ns)) return;
    if (good == total) jobs_end(jobs, run, j, KV_JOB_DONE, KV_OK, "");
    else jobs_step(jobs, run, j, good, total, "partitions", note);
}

/* Each node is asked in turn; over when a round found nothing. */
static void drive_drop(struct jobs *jobs, struct run *run, const struct kv_job *j)
{
    struct worker *w = jobs->w;
    char id[16], note[JOBS_NOTE_BYTES] = "";
    const struct nodes_entry *n = nodes_at(w, run->cursor);
    for (; n != NULL && n->state == KV_NODE_REMOVED; n = nodes_at(w, run->cursor)) run->cursor++;
    uint64_t left = run->sent, total = left > j->total ? left : j->total;
    if (n == NULL) {
        run->cursor = 0;
        run->sent = 0;
        run->again_ns = env_now_ns(w->env) + KV_MS(JOBS_AGAIN_MS);
        if (left == 0) jobs_end(jobs, run, j, KV_JOB_DONE, KV_OK, "");
        else jobs_step(jobs, run, j, total - left, total, "replicas", "");
        return;
    }
    if (n->id != w->node_id && !peer_connected(w->peers, n->id)) {
        (void)snprintf(note, sizeof note, "waiting for node %u, which is not connected", n->id);
        jobs_step(jobs, run, j, j->done, j->total, "replicas", note);
        return;
    }
    struct kv_slice arg = kv_slice(id, (size_t)snprintf(id, sizeof id, "%u", j->keyspace));
    jobs_ask(jobs, run, &(struct jobs_ask){.op = KV_OP_KVLEFT, .args = &arg, .arg_count = 1, .node = n->id});
}

void jobs_drive(struct jobs *jobs, struct run *run, const struct kv_job *j, uint64_t now_ns)
{
    switch (j->kind) {
    case KV_JOB_MOVE: drive_move(jobs, run, j, now_ns); break;
    case KV_JOB_SPLIT: drive_split(jobs, run, j, now_ns); break;
    case KV_JOB_MERGE: drive_merge(jobs, run, j, now_ns); break;
    case KV_JOB_DRAIN: drive_drain(jobs, run, j, now_ns); break;
    case KV_JOB_DROP: drive_drop(jobs, run, j); break;
    case KV_JOB_ALTER: drive_alter(jobs, run, j, now_ns); break;
    }
}
