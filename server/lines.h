#ifndef SERVER_LINES_H
#define SERVER_LINES_H
#include "client/base/map.h"
#include "client/wire/message.h"

/* The receiving end of lines of writes (README.md, "Writes stand in line"): of one way on which requests come, by partition.
 * A round is refused as a whole from its first refusal on; the next one begins when all of it came back to the sender. */
bool lines_go_on(struct kv_map *lines, const struct kv_request *r); /* false: refuse it too, also where memory is short */
void lines_refuse(struct kv_map *lines, uint32_t partition);
#endif
