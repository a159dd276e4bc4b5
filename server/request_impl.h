#ifndef SERVER_REQUEST_IMPL_H
#define SERVER_REQUEST_IMPL_H
#include "server/request.h"

/* What request.c (lives of requests, waiting, deadlines), request_route.c (where they go) and request_here.c (what is
 * answered without a partition) share. */
bool request_is_of_system(const struct request *r); /* of partition 0 */
void request_reroute(struct request *r);            /* by its keys again: their partition may be another one by now */
bool request_answer_here(struct request *r);        /* false: it is no such operation */
#endif
