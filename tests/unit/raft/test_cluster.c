/* A cluster of cores on a hostile network with asynchronous disks, crashes, pauses, skewed
 * clocks and changing membership. What must hold between replicas is checked after every
 * event: election safety, log matching, leader completeness, state machine safety (the
 * paper's figure 3), and that no read, by lease or by index, is ever stale.
 *
 * A run is a pure function of its seed. RAFT_SEED=n replays one, RAFT_ROUNDS=n runs more. */
#include "tests/unit/raft/cluster.h"
#include "tests/unit/unit.h"

/* The next configuration: leave a joint one, else replace voters jointly or change learners. */
static void change_conf(struct world *w, struct node *n)
{
    struct raft_status s;
    raft_status(n->raft, clock_of(w, n), &s);
    if (s.conf_pending || w->conf_count == CONFS_MAX) return;
    struct raft_conf c = s.conf;
    if (c.old_count > 0) {
        c.old_count = 0;
        memset(c.old, 0, sizeof c.old);
    } else {
        memset(&c, 0, sizeof c);
        memcpy(c.old, s.conf.voters, sizeof c.old);
        c.old_count = s.conf.voter_count;
        uint32_t want = 1 + (uint32_t)roll(w, 5);
        uint32_t from = (uint32_t)roll(w, NODES);
        for (uint32_t i = 0; i < NODES; i++) {
            raft_id id = (raft_id)((from + i) % NODES + 1);
            if (c.voter_count < want)
                c.voters[c.voter_count++] = id;
            else if (chance(w, 40))
                c.learners[c.learner_count++] = id;
        }
    }
    raft_index first;
    if (raft_propose(n->raft, 1, true, &first, clock_of(w, n)) != RAFT_OK) return;
    w->confs[w->conf_count] = c;
    n->log[first] = (struct entry){(uint32_t)s.term, ++w->values, w->conf_count++};
}

/* What leaders fear. */
static void hunt(struct world *w, struct node *n)
{
    bool hears = chance(w, 30), speaks = chance(w, 20);
    switch (roll(w, 4)) {
    case 0: /* cut off, and the others know or do not */
        for (uint32_t i = 1; i <= NODES; i++) {
            w->cut[i][n->id] = !hears;
            w->cut[n->id][i] = !speaks;
        }
        if (chance(w, 60)) hang_up(w, n);
        break;
    case 1: /* stopped */
        n->paused_until = w->now + roll(w, 600 * MS);
        if (chance(w, 60)) hang_up(w, n);
        break;
    case 2: /* one follower cannot hear it, and campaigns */
        w->cut[n->id][1 + roll(w, NODES)] = true;
        break;
    case 3: crash(w, n); break;
    }
}

static void chaos_node(struct world *w, struct node *n)
{
    uint64_t now = clock_of(w, n);
    if (!n->up) {
        if (w->healing || chance(w, 10)) start(w, n, false);
        return;
    }
    if (n->paused_until > w->now) return;
    uint64_t what = roll(w, 1000);
    raft_index first;
    if (w->now % (1000 * MS) < w->knobs.calm * 10 * MS && !chance(w, 3)) what = 999; /* clients are rare */
    if (what < 350) {
        uint32_t count = 1 + (uint32_t)roll(w, 40);
        if (n->last + count + 200 > ENTRIES_MAX || (w->healing && what > 50)) return;
        if (raft_propose(n->raft, count, false, &first, now) == RAFT_OK)
            for (uint32_t i = 0; i < count; i++)
                n->log[first + i] =
                    (struct entry){(uint32_t)raft_term_now(n->raft), ++w->values, 0};
    } else if (what < 700 && w->read_count < READS_MAX) {
        w->reads[w->read_count] =
            (struct read){.floor = w->chosen_last, .node = n->id, .open = true};
        if (raft_read_index(n->raft, w->read_count, now) == RAFT_OK) w->read_count++;
    }
    if (happens(w, w->knobs.compact)) {
        /* Only what is durable, and not about to be overwritten, may enter a checkpoint (R8). */
        raft_index durable = n->disk.last;
        for (uint32_t i = 0; i < n->write_count; i++)
            if (n->writes[i].truncate_from != 0 && n->writes[i].truncate_from <= durable)
                durable = n->writes[i].truncate_from - 1;
        if (n->applied < durable) durable = n->applied;
        if (durable > n->disk.checkpoint) n->disk.checkpoint = durable;
        if (chance(w, 30) && n->disk.checkpoint > n->disk.base) {
            n->disk.base += roll(w, n->disk.checkpoint - n->disk.base + 1);
            raft_compacted(n->raft, n->disk.base);
        }
    }
    if (!w->healing) {
        if (happens(w, w->knobs.conf)) change_conf(w, n);
        if (happens(w, w->knobs.transfer))
            raft_transfer(n->raft, chance(w, 50) ? 0 : (raft_id)(1 + roll(w, NODES)), now);
        if (happens(w, w->knobs.pause)) n->paused_until = w->now + roll(w, 900 * MS);
        drain(w, n, NULL);
        if (happens(w, w->knobs.crash)) {
            if (chance(w, 20)) {
                raft_yield(n->raft, now);
                drain(w, n, NULL);
            }
            crash(w, n);
        }
        if (raft_role_now(n->raft) == RAFT_LEADER && happens(w, w->knobs.hunt)) hunt(w, n);
    }
    if (n->up) drain(w, n, NULL);
}

static void chaos_network(struct world *w)
{
    if (!happens(w, w->knobs.cut)) return;
    bool heal = chance(w, 40);
    uint32_t density = 5 + (uint32_t)roll(w, 40);
    for (uint32_t i = 1; i <= NODES; i++)
        for (uint32_t k = 1; k <= NODES; k++)
            w->cut[i][k] = !heal && chance(w, density); /* also one way only */
}

/* Between replicas, after every event. */
static void check_all(struct world *w)
{
    for (uint32_t i = 1; i <= NODES; i++) {
        struct node *n = &w->nodes[i];
        if (!n->up) continue;
        raft_check(n->raft);
        if (raft_role_now(n->raft) != RAFT_LEADER || !raft_lease_held(n->raft, clock_of(w, n)))
            continue;
        struct raft_status s;
        raft_status(n->raft, clock_of(w, n), &s);
        MUST(w, s.commit >= w->chosen_last); /* a lease read would be stale */
        w->stat_leases++;
    }
}

static void check_log_matching(struct world *w)
{
    for (uint32_t i = 1; i <= NODES; i++)
        for (uint32_t k = i + 1; k <= NODES; k++) {
            const struct node *a = &w->nodes[i], *b = &w->nodes[k];
            raft_index low = a->disk.base > b->disk.base ? a->disk.base : b->disk.base;
            raft_index at = a->last < b->last ? a->last : b->last;
            while (at > low && a->log[at].term != b->log[at].term)
                at--;
            for (; at > low; at--)
                MUST(w, memcmp(&a->log[at], &b->log[at], sizeof a->log[at]) == 0);
        }
}

/* What its owner knows of the nodes of others, sooner or later. */
static bool is_heard(const struct world *w, const struct node *n, raft_id id)
{
    const struct node *other = &w->nodes[id];
    return other->up && other->paused_until <= w->now && (w->healing || (!w->cut[n->id][id] && !w->cut[id][n->id]));
}

/* The owner's part in quiet groups. */
static void rest(struct world *w, struct node *n)
{
    struct raft_status s;
    uint64_t now = clock_of(w, n);
    raft_status(n->raft, now, &s);
    bool all = true;
    for (uint32_t i = 0; i < s.peer_count; i++) all = all && (s.peers[i].id == n->id || is_heard(w, n, s.peers[i].id));
    if (s.role == RAFT_LEADER && all && chance(w, 50)) raft_rest(n->raft, now);
    if (!raft_is_quiet(n->raft)) return;
    w->stat_quiet++;
    if (chance(w, 1)) raft_wake(n->raft, now);
    if (!chance(w, 10)) return;
    if (s.role != RAFT_LEADER && !is_heard(w, n, s.leader)) raft_peer_closed(n->raft, s.leader, roll(w, 20 * MS), now);
    for (uint32_t i = 0; i < s.peer_count; i++)
        if (s.peers[i].id != n->id && !is_heard(w, n, s.peers[i].id)) raft_peer_closed(n->raft, s.peers[i].id, 0, now);
}

static void step(struct world *w)
{
    struct event e = pop(w);
    w->now = e.at;
    struct node *n = &w->nodes[e.node];
    bool alive = e.node > 0 && n->up && e.life == n->life;
    if (alive && n->paused_until > w->now) { /* SIGSTOP: everything waits */
        schedule(w, n->paused_until - w->now, e.kind, e.node, e.packet);
        return;
    }
    switch (e.kind) {
    case EV_PACKET:
        deliver(w, e.packet);
        free(e.packet);
        break;
    case EV_TICK:
        if (!alive) break;
        raft_tick(n->raft, clock_of(w, n));
        rest(w, n);
        drain(w, n, NULL);
        {
            uint64_t now = clock_of(w, n), at = raft_deadline(n->raft);
            uint64_t wait = at > now ? at - now : 0; /* a quiet replica is looked at as well */
            schedule(w, MS / 2 + (wait < 7 * MS ? wait : roll(w, 7 * MS)), EV_TICK, e.node, NULL);
        }
        break;
    case EV_SYNC:
        if (!alive) break;
        n->sync_scheduled = false;
        if (n->write_count > 0) sync(w, n); /* else a snapshot took its place */
        break;
    case EV_APPLY:
        if (!alive) break;
        n->apply_scheduled = false;
        apply(w, n);
        drain(w, n, NULL);
        break;
    case EV_CHAOS:
        if (w->now % (300 * MS) < MS) check_log_matching(w);
        chaos_network(w);
        chaos_node(w, &w->nodes[1 + roll(w, NODES)]);
        schedule(w, MS / 2 + roll(w, 2 * MS), EV_CHAOS, 0, NULL);
        break;
    }
    check_all(w);
}

static bool settled(struct world *w)
{
    raft_id leader = 0;
    struct raft_status s;
    for (uint32_t i = 1; i <= NODES; i++) {
        struct node *n = &w->nodes[i];
        if (!n->up) return false;
        raft_status(n->raft, clock_of(w, n), &s);
        if (s.role == RAFT_LEADER && s.conf.old_count == 0) leader = i;
    }
    if (leader == 0) return false;
    struct node *l = &w->nodes[leader];
    raft_status(l->raft, clock_of(w, l), &s);
    for (uint32_t i = 0; i < s.peer_count; i++)
        if (w->nodes[s.peers[i].id].applied != l->last) return false;
    return true;
}

struct totals {
    uint64_t elections, commits, reads, leases, snapshots, confs, quiet;
};

static void run(uint64_t seed, bool verbose, struct totals *total)
{
    struct world *w = calloc(1, sizeof *w);
    ck_assert_ptr_nonnull(w);
    w->seed = w->random = seed;
    draw_knobs(w);
    struct raft_conf first = {.voters = {1, 2, 3}, .voter_count = 3};
    w->confs[0] = first;
    w->conf_count = 1;
    for (uint32_t i = 1; i <= NODES; i++) {
        struct node *n = &w->nodes[i];
        n->id = i;
        n->ppm = (int64_t)roll(w, 2 * w->knobs.drift_ppm + 1) - (int64_t)w->knobs.drift_ppm;
        n->memory = malloc(raft_memory());
        MUST(w, n->memory != NULL);
        start(w, n, true);
    }
    schedule(w, MS, EV_CHAOS, 0, NULL);
    while (w->now < 12000 * MS)
        step(w);

    /* Liveness: once faults end, the group agrees and serves again. */
    w->healing = true;
    uint64_t healed = w->now;
    bool agreed = false;
    while (!agreed && w->now < healed + 30000 * MS) {
        step(w);
        for (uint32_t i = 1; i <= NODES; i++) { /* the caller leaves a joint configuration */
            struct node *n = &w->nodes[i];
            struct raft_status s;
            if (!n->up || raft_role_now(n->raft) != RAFT_LEADER) continue;
            raft_status(n->raft, clock_of(w, n), &s);
            if (s.conf.old_count > 0 && !s.conf_pending) {
                change_conf(w, n);
                drain(w, n, NULL);
            }
        }
        agreed = settled(w);
    }
    if (!agreed)
        for (uint32_t i = 1; i <= NODES; i++) { /* show what is stuck */
            struct raft_status t;
            raft_status(w->nodes[i].raft, clock_of(w, &w->nodes[i]), &t);
            fprintf(stderr,
                    "%u %s%s term %llu leader %u commit %llu applied %llu last %llu base %llu %s|",
                    i, w->nodes[i].up ? "" : "down ", raft_role_text(t.role),
                    (unsigned long long)t.term, t.leader, (unsigned long long)t.commit,
                    (unsigned long long)t.applied, (unsigned long long)t.last,
                    (unsigned long long)t.compacted, t.conf_pending ? "pending " : "");
            for (uint32_t k = 0; k < t.conf.voter_count; k++)
                fprintf(stderr, " %u", t.conf.voters[k]);
            fprintf(stderr, " |");
            for (uint32_t k = 0; k < t.conf.old_count; k++)
                fprintf(stderr, " %u", t.conf.old[k]);
            fprintf(stderr, " |");
            for (uint32_t k = 0; k < t.peer_count; k++)
                fprintf(stderr, " %u:%llu-%llu%s", t.peers[k].id,
                        (unsigned long long)t.peers[k].match, (unsigned long long)t.peers[k].next,
                        t.peers[k].snapshot ? "s" : "");
            fprintf(stderr, "\n");
        }
    MUST(w, agreed);
    check_log_matching(w);
    if (verbose)
        printf(
            "seed %llu: %llu elections, %llu commits, %llu reads (%llu refused), %llu snapshots, "
            "%llu configurations, %llu crashes, %llu quiet, %llu messages, healed in %llu ms\n",
            (unsigned long long)seed, (unsigned long long)w->stat_elections,
            (unsigned long long)w->stat_commits, (unsigned long long)w->stat_reads,
            (unsigned long long)w->stat_refused, (unsigned long long)w->stat_snapshots,
            (unsigned long long)w->stat_confs, (unsigned long long)w->stat_crashes,
            (unsigned long long)w->stat_quiet, (unsigned long long)w->stat_packets, (unsigned long long)((w->now - healed) / MS));
    total->elections += w->stat_elections;
    total->commits += w->stat_commits;
    total->reads += w->stat_reads;
    total->leases += w->stat_leases;
    total->snapshots += w->stat_snapshots;
    total->confs += w->stat_confs;
    total->quiet += w->stat_quiet;
    while (w->heap_count > 0)
        free(pop(w).packet);
    for (uint32_t i = 1; i <= NODES; i++) {
        for (uint32_t k = 0; k < w->nodes[i].write_count; k++)
            write_free(&w->nodes[i].writes[k]);
        free(w->nodes[i].memory);
    }
    free(w);
}

START_TEST(random_clusters_stay_safe_and_recover)
{
    struct totals total = {0};
    const char *seed = getenv("RAFT_SEED"), *rounds = getenv("RAFT_ROUNDS");
    if (seed != NULL) {
        run(strtoull(seed, NULL, 10), true, &total);
        return;
    }
    uint64_t count = rounds != NULL ? strtoull(rounds, NULL, 10) : 150;
    for (uint64_t i = 1; i <= count; i++)
        run(i, getenv("RAFT_VERBOSE") != NULL, &total);
    /* Runs in which nothing happens prove nothing. */
    ck_assert(total.elections > 3 * count && total.commits > 100 * count);
    ck_assert(total.reads > 10 * count && total.leases > 100 * count);
    ck_assert(total.snapshots > count && total.confs > count && total.quiet > count);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft cluster");
    TCase *tcase = tcase_create("random");
    tcase_set_timeout(tcase, 0);
    tcase_add_test(tcase, random_clusters_stay_safe_and_recover);
    suite_add_tcase(suite, tcase);
    return unit_finish(suite);
}
