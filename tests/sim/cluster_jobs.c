#include "client/base/text.h"
#include "server/exec_jobs.h"
#include "server/map.h"
#include "tests/sim/cluster_impl.h"
#include <inttypes.h>
#include <stdio.h>

/* What must hold of jobs, by every replica of partition 0 and over the whole run:
 *   one a place    no two open jobs change one partition, node or keyspace
 *   fences         the fence of a job never falls from one applied entry to a later one
 *   ends           one that has ended stays as it ended
 *   goals          a move that is done was true of its partition's replicas in some configuration since it was planned
 * Rows are read again whenever the replica has applied something. */

static bool row_read(const struct worker *w, struct kv_slice row, struct value *v)
{
    struct kv_key key;
    struct kv_slice bytes;
    return kv_key_encode(&kv_key_rule_system, row, &key) == KV_OK &&
           store_get(w->store, STORE_DATA, kv_key_slice(&key), kv_slice(NULL, 0), &bytes) == KV_OK &&
           value_read(kv_key_slice(&key), bytes, v) == KV_OK;
}

static bool job_read(const struct worker *w, uint64_t id, struct kv_arena *arena, struct kv_job *out)
{
    char row[EXEC_ROW_JOB_BYTES_MAX];
    struct value v;
    return row_read(w, exec_job_row(id, row), &v) && kv_job_decode(kv_arena_copy(arena, v.payload), arena, out) == KV_OK;
}

/* ---- what replicas a partition has had ---- */

void job_epochs_see(struct annals *a, const struct descriptor *d)
{
    struct epoch_seen *e = &a->epochs[d->conf_epoch % EPOCHS_PER_GROUP];
    if (e->conf_epoch >= d->conf_epoch) return;
    *e = (struct epoch_seen){.conf_epoch = d->conf_epoch, .is_joint = descriptor_is_joint(d)};
    for (uint32_t i = 0; i < d->replica_count; i++)
        if (d->replicas[i].role != DESCRIPTOR_LEARNER) e->voters |= (uint16_t)(1u << d->replicas[i].node);
}

/* An epoch that no check met may have been the one. Learners of other moves may stand beside. */
static bool was_met(const struct cluster *c, const struct kv_job *j)
{
    struct annals *a = c->annals[j->partition];
    uint32_t newest = a->conf_epoch;
    for (uint32_t i = 1; i <= desks_of(c); i++) { /* what a leader told before it died counts, no check having met it */
        const struct worker *w = desk_of(c, i)->worker;
        const struct partition *p = w == NULL ? NULL : map_get(w, j->partition);
        const struct descriptor *d = p == NULL ? NULL : map_descriptor(p);
        if (d == NULL) continue;
        job_epochs_see(a, d);
        if (d->conf_epoch > newest) newest = d->conf_epoch;
    }
    for (uint32_t epoch = j->conf_epoch; epoch <= newest; epoch++) {
        const struct epoch_seen *e = &a->epochs[epoch % EPOCHS_PER_GROUP];
        if (e->conf_epoch != epoch) return true;
        bool has_to = j->to == 0 || (e->voters >> j->to & 1) != 0, has_from = j->from != 0 && (e->voters >> j->from & 1) != 0;
        if (!e->is_joint && has_to && !has_from) return true;
    }
    return false;
}

/* ---- jobs ---- */

static bool job_check(struct cluster *c, const struct node *n, uint64_t applied, const struct kv_job *j, char *why, size_t why_size)
{
    struct job_seen *s = &c->jobs[j->id % JOBS_SEEN];
    if (s->id > j->id) return true;
    if (s->id < j->id) *s = (struct job_seen){.id = j->id};
    const char *broken = NULL;
    if (applied >= s->applied && (j->fence < s->fence)) broken = "its fence has fallen";
    else if (applied >= s->applied && s->state >= KV_JOB_DONE && j->state != s->state) broken = "it had ended otherwise";
    else if (applied < s->applied && j->fence > s->fence) broken = "its fence was higher before";
    bool ends = s->state < KV_JOB_DONE && kv_job_has_ended(j);
    if (broken == NULL && ends && j->kind == KV_JOB_MOVE && j->state == KV_JOB_DONE && j->partition < GROUPS_MAX && c->annals[j->partition] != NULL &&
        !was_met(c, j))
        broken = "it is done, and its replicas never were so";
    if (broken != NULL) {
        snprintf(why, why_size, "jobs: node %u at index %" PRIu64 ": job %" PRIu64 ", a %s, %s, fence %" PRIu64 " after %" PRIu64 " at %" PRIu64 ": %s", n->id,
                 applied, j->id, kv_job_kind_text(j->kind), kv_job_state_text(j->state), j->fence, s->fence, s->applied, broken);
        return false;
    }
    if (applied < s->applied) return true;
    s->applied = applied;
    s->fence = j->fence;
    s->state = j->state;
    return true;
}

static bool touch(const struct kv_job *a, const struct kv_job *b)
{
    bool of_partitions = a->kind <= KV_JOB_MERGE && b->kind <= KV_JOB_MERGE;
    bool a_other = a->kind == KV_JOB_MERGE, b_other = b->kind == KV_JOB_MERGE;
    if (of_partitions)
        return a->partition == b->partition || (a_other && a->other == b->partition) || (b_other && a->partition == b->other) ||
               (a_other && b_other && a->other == b->other);
    if (a->kind <= KV_JOB_MERGE || b->kind <= KV_JOB_MERGE) return false;
    if (a->kind == KV_JOB_DRAIN || b->kind == KV_JOB_DRAIN) return a->kind == b->kind && a->from == b->from;
    return a->keyspace == b->keyspace;
}

bool jobs_check(struct cluster *c, struct node *n, char *why, size_t why_size)
{
    const struct group *g = worker_group(n->desks[0].worker, KV_PARTITION_SYSTEM);
    struct exec_board b;
    struct value v;
    if (g == NULL || g->installing || g->rowless || g->dead || n->desks[0].worker->poisoned) return true;
    if (n->jobs_applied == g->applied && n->jobs_life == g->life) return true;
    n->jobs_applied = g->applied;
    n->jobs_life = g->life;
    if (!row_read(n->desks[0].worker, kv_str(EXEC_ROW_JOBS), &v) || !exec_board_decode(v.payload, &b)) return true;
    struct kv_arena arena = {0};
    struct kv_job *open = kv_arena_alloc(&arena, (b.open_count + 1) * sizeof *open), ended;
    bool good = true;
    for (uint32_t i = 0; good && i < b.open_count; i++) {
        good = job_read(n->desks[0].worker, b.open[i], &arena, &open[i]) && !kv_job_has_ended(&open[i]);
        if (!good) snprintf(why, why_size, "jobs: node %u: job %" PRIu64 " is on the board as open and is not", n->id, b.open[i]);
        good = good && job_check(c, n, g->applied, &open[i], why, why_size);
        for (uint32_t k = 0; good && k < i; k++) {
            good = !touch(&open[i], &open[k]);
            if (!good) snprintf(why, why_size, "jobs: node %u: jobs %" PRIu64 " and %" PRIu64 " are about the same", n->id, open[k].id, open[i].id);
        }
    }
    for (uint32_t i = b.ended_count > 8 ? b.ended_count - 8 : 0; good && i < b.ended_count; i++) /* earlier ones were looked at when they were the last */
        good = !job_read(n->desks[0].worker, b.ended[i], &arena, &ended) || job_check(c, n, g->applied, &ended, why, why_size);
    kv_arena_free(&arena);
    return good;
}

static bool board_read(const struct worker *w, struct exec_board *b)
{
    const struct group *g = w == NULL ? NULL : worker_group(w, KV_PARTITION_SYSTEM);
    struct value v;
    return g != NULL && !g->installing && !g->rowless && row_read(w, kv_str(EXEC_ROW_JOBS), &v) && exec_board_decode(v.payload, b);
}

uint64_t cluster_job_open(struct cluster *c, uint32_t node, uint64_t drawn)
{
    struct exec_board b;
    if (!board_read(face_of(c, node), &b) || b.open_count == 0) return 0;
    return b.open[drawn % b.open_count];
}

/* A drain for which there is no place, since nodes lost roles, waits for one. */
bool cluster_jobs_over(const struct cluster *c, char *why, size_t why_size)
{
    bool over = true;
    for (uint32_t i = 1; i <= c->o.nodes && over; i++) {
        const struct worker *w = face_of(c, i);
        struct exec_board b;
        if (!board_read(w, &b)) continue;
        for (uint32_t k = 0; k < b.open_count && over; k++) {
            struct kv_arena arena = {0};
            struct kv_job j;
            bool has = job_read(w, b.open[k], &arena, &j);
            over = has && j.kind == KV_JOB_DRAIN && !drains_can_end(c);
            snprintf(why, why_size, "job %" PRIu64 " is still open on node %u: a %s of partition %u from %u to %u, %s, planned at epoch %u: \"%.*s\"", b.open[k], i,
                     has ? kv_job_kind_text(j.kind) : "?", has ? j.partition : 0, has ? j.from : 0, has ? j.to : 0, has ? kv_job_state_text(j.state) : "?",
                     has ? j.conf_epoch : 0, has ? (int)j.note.size : 0, has && j.note.size > 0 ? (const char *)j.note.data : "");
            kv_arena_free(&arena);
        }
    }
    return over;
}
