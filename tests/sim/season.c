#include "client/base/hash.h"
#include "tests/sim/swarm_impl.h"

/* What may happen changes every few seconds: a bug that needs the same blow three times in a row,
 * each right behind the same moment, is met in a season that knows little else; one that needs
 * many things at once in a season that knows them all. A season has its own chance, so that faults
 * left out of a story (kvsim --minimize) do not change the weather. */

static uint64_t below(struct swarm *w, uint64_t n)
{
    return kv_random_next(&w->season_random) % n;
}

static uint64_t power(struct swarm *w, uint32_t from, uint32_t to)
{
    return UINT64_C(1) << (from + below(w, to - from + 1));
}

/* Where faults lie in wait: behind some moments of one topic, or behind any. */
static uint64_t moments_draw(struct swarm *w, bool narrow)
{
    enum sim_topic topic = narrow ? (enum sim_topic)below(w, SIM_TOPIC_NONE) : SIM_TOPIC_NONE;
    uint64_t bits = 0;
    for (uint32_t m = 0; m < SIM_MARK_COUNT; m++) {
        enum sim_topic its = sim_mark_topic((enum sim_mark)m);
        bool chosen = topic == SIM_TOPIC_NONE ? below(w, 5) == 0 : below(w, 2) == 0;
        if (chosen && its != SIM_TOPIC_NONE && (topic == SIM_TOPIC_NONE || its == topic)) bits |= UINT64_C(1) << m;
    }
    return bits;
}

static void swap(struct swarm_season *s, uint64_t i, uint64_t k)
{
    enum swarm_fault f = s->faults[i];
    s->faults[i] = s->faults[k];
    s->faults[k] = f;
}

static void shuffle(struct swarm *w, struct swarm_season *s)
{
    for (uint32_t i = s->fault_kinds; i-- > 1;) swap(s, i, below(w, i + 1));
}

/* What takes a node from the others at one blow comes first, the rest in the order drawn. */
static void blows_first(struct swarm_season *s)
{
    uint32_t blows = 0;
    for (uint32_t i = 0; i < s->fault_kinds; i++) {
        enum swarm_fault f = s->faults[i];
        if (f == SWARM_KILL || f == SWARM_POWER || f == SWARM_PAUSE || f == SWARM_SPLIT || f == SWARM_ISOLATE || f == SWARM_COORDINATOR)
            swap(s, i, blows++);
    }
}

static void season_draw(struct swarm *w)
{
    const struct swarm_plan *p = &w->plan;
    struct swarm_season *s = &w->season;
    bool narrow = below(w, 2) == 0;
    *s = (struct swarm_season){.fault_kinds = p->fault_kinds};
    memcpy(s->faults, p->faults, sizeof s->faults);
    shuffle(w, s);
    uint32_t few = 1 + (uint32_t)below(w, 3);
    if (narrow && below(w, 3) != 0) blows_first(s);
    if (narrow && few < s->fault_kinds) s->fault_kinds = few;
    s->gap_ns = power(w, 26, 32); /* 67 ms .. 4.3 s between faults */
    s->again_ppm = below(w, 2) == 0 ? (uint32_t)below(w, 600000) : 0;
    s->ambush_marks = moments_draw(w, narrow);
    s->ambush_ppm = (uint32_t)power(w, narrow ? 17 : 11, 20);
    s->ambush_alike = below(w, 2) == 0;
    s->ambush_delay_ns = power(w, 10, 24);
}

static void season_turns(struct sim_event *e)
{
    struct swarm *w = container_of(e, struct swarm, next_season);
    if (w->healed || w->plan.fault_kinds == 0) return;
    season_draw(w);
    sim_after(w->sim, NULL, e, power(w, 31, 33)); /* 2 s .. 9 s */
}

void swarm_season_begin(struct swarm *w)
{
    w->season_random = w->random ^ UINT64_C(0x9e3779b97f4a7c15);
    w->next_season.fire = season_turns;
    season_turns(&w->next_season);
}
