#ifndef KV_ANSWER_H
#define KV_ANSWER_H
#include "client/kv_client.h"

/* From a node's reply to the result of a call. `is_closing`: the client itself is being closed, so that
 * KV_CLOSED means that and not a connection. */

/* Whether the operation changes anything, so that `applied` has a meaning. */
bool kv_answer_mutates(enum kv_op op);
/* Node, partition, phase .. of any reply, also of one after which the call goes on. */
void kv_answer_facts(struct kv_result *r, const struct kv_reply *reply);
/* The result of a reply that ends the call; of a page of a scan also where the next one starts. */
void kv_answer_read(struct kv_call *call, const struct kv_reply *reply, bool is_closing);
/* The result of a call that ends without such a reply. The cause of its last try is in result.text. */
void kv_answer_none(struct kv_call *call, enum kv_err err, bool is_closing);
#endif
