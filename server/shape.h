#ifndef SERVER_SHAPE_H
#define SERVER_SHAPE_H
#include "server/node.h"
#include "server/shaping.h"

/* The coordinator's eyes for shaping.h: what partitions are, from descriptors and from what their leaders told. */
struct shape { /* zero: nothing seen */
    struct shaping_limits limits;
    struct shaping_partition *partitions; /* as map_at(); owned */
    uint32_t count, known;                /* known: of how many the leaders have told */
    uint64_t load_all;
};
/* `nodes`: so many may lead something. False: out of memory. */
bool shape_see(struct worker *w, uint32_t nodes, uint64_t now_ns, struct shape *out);
/* What should be split or merged now; it counts as asked for. Those partitions are busy from here on. */
uint32_t shape_plan(struct worker *w, struct shape *s, uint64_t now_ns, struct shaping_step *steps, uint32_t steps_max);
/* Where a step's partitions part or meet: an encoded key, valid until the loop's next turn. */
struct kv_slice shape_key(const struct worker *w, const struct shaping_step *step);
void shape_free(struct shape *s);
#endif
