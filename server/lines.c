#include "server/lines.h"

/* A partition's value: the round it is in, twice, and one more if a write of it was refused. */
static void *line_value(uint32_t round, bool is_refused)
{
    return (void *)((uintptr_t)round * 2 + is_refused);
}

bool lines_go_on(struct kv_map *lines, const struct kv_request *r)
{
    uintptr_t at = (uintptr_t)kv_map_get(lines, r->line);
    if (at / 2 < r->round) return kv_map_put(lines, r->line, line_value(r->round, false));
    return at % 2 == 0;
}

void lines_refuse(struct kv_map *lines, uint32_t partition)
{
    uintptr_t at = (uintptr_t)kv_map_get(lines, partition);
    if (at != 0) kv_map_put(lines, partition, line_value((uint32_t)(at / 2), true)); /* replaces: needs no memory */
}
