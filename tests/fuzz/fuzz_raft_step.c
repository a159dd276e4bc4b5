/* One replica of the consensus core against peers that send anything. Its caller keeps the
 * contract of raft.h; the messages keep none. Nothing may crash, and raft_check() must hold. */
#include "raft/raft.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CONF_BITS = 65536,
       STEPS_MAX = 2000 };
#define MS UINT64_C(1000000)

struct input {
    const uint8_t *at, *end;
};
static uint8_t byte(struct input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

/* Mostly small, sometimes anything. */
static uint64_t number(struct input *in)
{
    uint8_t first = byte(in);
    if (first < 0xf0) return first % 40;
    if (first == 0xff) return UINT64_MAX;
    uint64_t n = 0;
    for (int i = 0; i < 8; i++)
        n = n << 8 | byte(in);
    return n;
}

struct world {
    struct raft *raft;
    uint64_t now, sequence;
    raft_index applying, applied, compacted;
    uint8_t is_conf[CONF_BITS]; /* by index, as the log says */
    struct raft_run runs[8];    /* of the APPEND just stepped */
    struct raft_msg message;
    raft_index proposed;
    bool proposed_conf;
};

static struct raft_conf draw_conf(struct input *in)
{
    struct raft_conf c = {0};
    c.voter_count = byte(in) % 5;
    c.old_count = byte(in) % 4;
    c.learner_count = byte(in) % 3;
    for (uint8_t i = 0; i < c.voter_count; i++)
        c.voters[i] = byte(in) % 8;
    for (uint8_t i = 0; i < c.old_count; i++)
        c.old[i] = byte(in) % 8;
    for (uint8_t i = 0; i < c.learner_count; i++)
        c.learners[i] = byte(in) % 8;
    return c;
}

static void note_appended(struct world *w, const struct raft_ready *o)
{
    for (uint32_t i = 0; i < o->append_count; i++) {
        raft_index at = o->append_first + i, from = w->message.index + 1;
        bool conf = w->proposed_conf && at == w->proposed;
        if (o->role != RAFT_LEADER && w->message.type == RAFT_APPEND)
            for (uint32_t k = 0; k < w->message.run_count && k < 8; from += w->runs[k++].count)
                if (at >= from && at < from + w->runs[k].count) conf = w->runs[k].is_conf;
        if (at < CONF_BITS) w->is_conf[at] = conf;
    }
}

static void drain(struct world *w)
{
    struct raft_ready o;
    for (int turn = 0; raft_ready(w->raft, &o); turn++) {
        assert(turn < 1000); /* or it would never end */
        w->sequence = o.sequence;
        assert(o.send_durable_count == 0 || o.must_sync);
        note_appended(w, &o);
        for (uint32_t i = 0; i < o.send_count; i++) {
            uint64_t sum = 0;
            for (uint32_t k = 0; k < o.send[i].run_count; k++)
                sum += o.send[i].runs[k].count;
            assert(o.send[i].type != RAFT_APPEND || sum == o.send[i].entry_count);
        }
        if (o.apply_first != 0) w->applying = o.apply_last;
        raft_advance(w->raft);
    }
    raft_check(w->raft);
}

static void apply(struct world *w, struct input *in)
{
    raft_index to = w->applied + number(in);
    while (w->applied < w->applying && w->applied < to) {
        w->applied++;
        if (w->applied < CONF_BITS && w->is_conf[w->applied]) {
            struct raft_conf c = draw_conf(in);
            if (raft_conf_is_valid(&c)) raft_conf_applied(w->raft, &c);
        }
        raft_applied(w->raft, w->applied);
    }
}

static void step(struct world *w, struct input *in)
{
    struct raft_msg *m = &w->message;
    *m = (struct raft_msg){
        .type = (enum raft_msg_type)(byte(in) % 15), .from = byte(in) % 8, .to = 1};
    m->term = number(in);
    m->index = number(in);
    m->index_term = number(in);
    m->commit = number(in);
    m->context = number(in);
    uint8_t flags = byte(in);
    m->reject = flags & 1;
    m->transfer = flags & 2;
    if (flags & 4) m->term = raft_term_now(w->raft); /* or most messages would be outdated */
    if (flags & 8) m->from = raft_leader_now(w->raft);
    if (m->type == RAFT_APPEND) {
        m->run_count = byte(in) % 8;
        for (uint32_t i = 0; i < m->run_count; i++) {
            w->runs[i] = (struct raft_run){number(in), (uint32_t)number(in), byte(in) & 1};
            m->entry_count += w->runs[i].count;
        }
        m->runs = w->runs;
        if (flags & 16) m->entry_count = (uint32_t)number(in);
    }
    raft_step(w->raft, m, w->now);
}

static void restore(struct world *w, struct input *in)
{
    raft_index index = number(in);
    raft_term term = number(in);
    struct raft_conf c = draw_conf(in);
    if (raft_role_now(w->raft) == RAFT_LEADER || index >= CONF_BITS || term == 0 ||
        term >= CONF_BITS || !raft_conf_is_valid(&c) || !raft_needs_snapshot(w->raft, index, term))
        return;
    raft_restored(w->raft, index, term, &c, w->now);
    w->applied = w->applying = w->compacted = index;
}

static void act(struct world *w, struct input *in)
{
    raft_index first;
    switch (byte(in) % 16) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4: step(w, in); break;
    case 5:
        w->now += (number(in) & 0xffff) * 10 * MS;
        raft_tick(w->raft, w->now);
        break;
    case 6:
        w->proposed_conf = byte(in) & 1;
        if (raft_propose(w->raft, w->proposed_conf ? 1 : 1 + byte(in) % 16, w->proposed_conf,
                         &first, w->now) == RAFT_OK)
            w->proposed = first;
        break;
    case 7: raft_read_index(w->raft, number(in), w->now); break;
    case 8: raft_transfer(w->raft, byte(in) % 8, w->now); break;
    case 9: raft_durable(w->raft, w->sequence - (w->sequence > 3 ? byte(in) % 4 : 0)); break;
    case 10: apply(w, in); break;
    case 11:
        w->compacted += number(in) % 40;
        if (w->compacted > w->applied) w->compacted = w->applied;
        raft_compacted(w->raft, w->compacted);
        break;
    case 12: restore(w, in); break;
    case 13:
        if (byte(in) & 1) raft_peer_closed(w->raft, byte(in) % 8, byte(in) * MS, w->now);
        else raft_rest(w->raft, w->now);
        raft_beat(w->raft, w->now);
        break;
    case 14:
        raft_snapshot_done(w->raft, byte(in) % 8, byte(in) & 1);
        raft_sent(w->raft, byte(in) % 8, number(in), byte(in) % 4);
        raft_unreachable(w->raft, byte(in) % 8);
        break;
    case 15:
        if (byte(in) == 77) raft_yield(w->raft, w->now);
        if (byte(in) == 78) raft_wake(w->raft, w->now);
        (void)raft_lease_held(w->raft, w->now);
        assert(raft_deadline(w->raft) > 0);
        break;
    }
    drain(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    uint8_t first = byte(&in);
    struct raft_options o = {
        .id = 1,
        .election_ns = 300 * MS,
        .heartbeat_ns = 50 * MS,
        .lease_ns = first & 1 ? 200 * MS : 0,
        .stagger_ns = 20 * MS,
        .drift_ppm = 500,
        .window_entries = 64,
        .batch_entries = 16,
        .seed = first,
        .prevote = first & 2,
        .check_quorum = first & 4,
    };
    struct raft_conf c = {.voters = {1, 2, 3}, .voter_count = first & 8 ? 1 : 3};
    struct raft_boot b = {.conf = c, .fresh = first & 16};
    struct world *w = calloc(1, sizeof *w);
    void *memory = malloc(raft_memory());
    if (w != NULL && memory != NULL) {
        w->now = 1000 * MS;
        w->raft = raft_init(memory, &o, &b, w->now);
        for (int i = 0; in.at < in.end && i < STEPS_MAX; i++)
            act(w, &in);
    }
    free(memory);
    free(w);
    return 0;
}
