#include "client/kv_answer.h"

#include <stdio.h>

#include "client/base/text.h"
#include "client/wire/resp.h"

/* What a node said, as the caller is told: value, facts, whether it was applied, and in words what to do
 * next. Pure: decides nothing about tries. */

bool kv_answer_mutates(enum kv_op op)
{
    const struct kv_op_info *info = kv_op_info((uint32_t)op);
    return info != NULL && info->kind == KV_OP_KIND_W;
}

/* The others are about partitions, nodes, keyspaces. */
static bool is_about_keys(enum kv_op op)
{
    const struct kv_op_info *info = kv_op_info(op);
    return info->key_first > 0 && !kv_op_is_directory(op);
}

static const char *next_condition(enum kv_op op)
{
    if (is_about_keys(op)) return "read the key again, then decide";
    if (op == KV_OP_KVSPLIT || op == KV_OP_KVMERGE) return "kvctl keyspace show says where partitions begin, and which nodes they are on";
    return op == KV_OP_KVMOVE || op == KV_OP_KVLEAD ? "kvctl keyspace show says where its replicas are" : "";
}

static const char *next_action(enum kv_op op, enum kv_err err, bool maybe)
{
    if (maybe) return "read the key to learn whether it took effect";
    switch (err) {
    case KV_UNAVAILABLE:
    case KV_CLOSED:
    case KV_NO_LEADER:
    case KV_NOT_LEADER:
        return "check that a majority of nodes is up: kvctl status";
    case KV_TIMEOUT: return "retry, or allow more time";
    case KV_BUSY:
    case KV_THROTTLED:
        return "back off and retry";
    case KV_LOADING: return "wait until the node has recovered its data";
    case KV_NO_SPACE: return "free disk space on the node, or delete keys";
    case KV_AUTH: return "add this client's public key to the node's client.keys file and send the node SIGHUP";
    case KV_DENIED: return "ask for a key with the role this needs";
    case KV_WRONG_CLUSTER: return "check the addresses and the cluster's name and id";
    case KV_VERSION: return "use a client of the cluster's version";
    case KV_TOO_BIG: return "keys end at 480 bytes, values at the keyspace's limit (1 MiB by default)";
    case KV_CORRUPT:
    case KV_IO:
    case KV_POISONED:
        return "look into that node's log, then replace it: kvctl node replace";
    case KV_WRONG_SHARD: return "retry: the partitions are moving";
    case KV_CROSS_SHARD: return "give the keys one {hashtag}";
    case KV_NO_KEYSPACE: return "kvctl keyspace list";
    case KV_CONDITION:
    case KV_CONFLICT:
        return next_condition(op);
    case KV_OK:
    case KV_NOT_FOUND:
    case KV_MALFORMED:
    case KV_WRONG_TYPE:
    case KV_BAD_ARGUMENT:
        break;
    }
    return "";
}

/* Keys have a text for each error; of partitions, nodes and keyspaces the cause says it all. */
static bool speaks_for_itself(enum kv_op op, enum kv_err err, const char *cause)
{
    return cause[0] != 0 && !is_about_keys(op) && (err == KV_NOT_FOUND || err == KV_CONDITION || err == KV_BAD_ARGUMENT);
}

static void result_text(enum kv_op op, struct kv_result *r, const char *cause)
{
    char facts[96] = "", copy[240];
    size_t used = 0;
    snprintf(copy, sizeof copy, "%s", cause);
    char *said = strstr(copy, " (applied: "); /* a node's error for Redis clients ends so; the facts say it below */
    if (said != NULL) *said = 0;
    if (r->node != 0) used += (size_t)snprintf(facts, sizeof facts, "node %u, ", r->node);
    if (r->phase != KV_PHASE_NONE)
        used += (size_t)snprintf(facts + used, sizeof facts - used, "phase %s, ", kv_phase_text(r->phase));
    used += (size_t)snprintf(facts + used, sizeof facts - used, "%u %s", r->tries, r->tries == 1 ? "try" : "tries");
    if (kv_answer_mutates(op))
        (void)snprintf(facts + used, sizeof facts - used, ", applied: %s", kv_applied_text(r->applied));
    bool has_next = strstr(copy, "; next: ") != NULL && r->applied != KV_APPLIED_MAYBE; /* the node knew better */
    const char *next = has_next ? "" : next_action(op, r->err, r->applied == KV_APPLIED_MAYBE);
    if (!is_about_keys(op) && strncmp(copy, "ERR ", 4) == 0) memmove(copy, copy + 4, strlen(copy + 4) + 1);
    bool is_plain = speaks_for_itself(op, r->err, copy);
    (void)snprintf(r->text, sizeof r->text, "%s%s%s (%s)%s%s", is_plain ? "" : kv_err_text(r->err),
                   copy[0] != 0 && !is_plain ? ": " : "", copy, facts, next[0] != 0 ? "; next: " : "", next);
}

/* What callers need not tell apart. */
static enum kv_err outward(enum kv_err err, bool is_closing)
{
    if (err == KV_NOT_LEADER) return KV_NO_LEADER;
    if (err == KV_WRONG_SHARD) return KV_UNAVAILABLE;
    if (err == KV_CLOSED && !is_closing) return KV_UNAVAILABLE;
    return err;
}

void kv_answer_none(struct kv_call *call, enum kv_err err, bool is_closing)
{
    struct kv_result *r = &call->result;
    char cause[KV_TEXT_BYTES];
    memcpy(cause, r->text, sizeof cause);
    r->err = outward(err, is_closing);
    r->applied = call->attempt.maybe ? KV_APPLIED_MAYBE : KV_APPLIED_NO;
    r->tries = call->attempt.tries;
    r->value = kv_slice(NULL, 0);
    result_text(call->op, r, cause);
}

static enum kv_err redis_error(struct kv_slice text)
{
    struct kv_slice word = text;
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] == ' ') {
            word.size = i;
            break;
        }
    return kv_slice_eq(word, kv_str("WRONGTYPE")) ? KV_WRONG_TYPE : KV_BAD_ARGUMENT;
}

/* Takes the one RESP3 value of an OK reply apart, as far as the operation's shape is known. */
static enum kv_err value_unwrap(struct kv_call *call, char *cause, size_t cause_size)
{
    struct kv_result *r = &call->result;
    struct kv_slice in = r->value;
    struct resp_value v;
    if (in.size == 0) return KV_OK;
    if (resp_next(&in, SIZE_MAX, &v) != KV_OK) return KV_MALFORMED;
    if (v.type == RESP_ERROR || v.type == RESP_BULK_ERROR) {
        size_t word = kv_op_is_directory(call->op) && v.text.size > 4 ? 4 : 0; /* "ERR " */
        snprintf(cause, cause_size, "%.*s", (int)(v.text.size - word), (const char *)v.text.data + word);
        return redis_error(v.text);
    }
    bool kvs = call->op >= KV_OP_KVGET && call->op != KV_OP_KVSCAN;
    if (!kvs) return KV_OK;
    switch (v.type) {
    case RESP_INTEGER:
    case RESP_BOOL:
        r->number = v.number;
        r->value = v.text;
        return KV_OK;
    case RESP_BULK:
    case RESP_STATUS:
    case RESP_VERBATIM:
        r->value = v.text;
        if (v.is_null) break;
        return KV_OK;
    case RESP_NULL: break;
    case RESP_ARRAY:
    case RESP_DOUBLE:
    case RESP_BIGNUM:
    case RESP_MAP:
    case RESP_SET:
    case RESP_PUSH:
    case RESP_ATTRIBUTE:
        return KV_OK;
    case RESP_ERROR:
    case RESP_BULK_ERROR: return KV_MALFORMED; /* told above */
    }
    r->value = kv_slice(NULL, 0);
    return call->op == KV_OP_KVGET ? KV_NOT_FOUND : KV_OK;
}

/* Keeps `next` as step() left it, the end of the partition asked, unless the node stopped earlier
 * or the whole scan ends there. */
static enum kv_err scan_next(struct kv_call *call)
{
    struct kv_slice rows, cursor;
    enum kv_err err = kv_scan_rows(call->result.value, &rows, &cursor);
    if (err != KV_OK) return err;
    if (cursor.size > sizeof call->next.bytes) return KV_MALFORMED;
    if (cursor.size > 0) {
        memcpy(call->next.bytes, cursor.data, cursor.size);
        call->next.size = (uint16_t)cursor.size;
    }
    if (kv_slice_cmp(kv_key_slice(&call->next), kv_key_slice(&call->scan_to)) >= 0) call->next.size = 0;
    return KV_OK;
}

void kv_answer_facts(struct kv_result *r, const struct kv_reply *reply)
{
    r->version = reply->version;
    r->expire_ms = reply->expire_ms;
    r->node = reply->node;
    r->partition = reply->partition;
    r->epoch = reply->range_epoch;
    r->phase = reply->phase;
    r->level = reply->level;
    r->stale_ms = reply->stale_ms;
    r->retry_after_ms = reply->retry_after_ms;
}

/* What an answer that ends the call says about the effect. A refusal that apply itself decided, after
 * it had looked for the dedup record, settles also what became of earlier tries; the entry was in
 * the log, but changed nothing. */
static enum kv_applied applied_of(const struct kv_call *call, const struct kv_reply *reply, enum kv_err err)
{
    if (!kv_answer_mutates(call->op)) return KV_APPLIED_NO;
    if (err == KV_OK) return reply->applied;
    bool verdict = reply->phase == KV_PHASE_APPLY || err == KV_CONDITION || err == KV_NOT_FOUND || err == KV_WRONG_TYPE;
    if (reply->applied == KV_APPLIED_MAYBE || (call->attempt.maybe && !verdict)) return KV_APPLIED_MAYBE;
    return KV_APPLIED_NO;
}

void kv_answer_read(struct kv_call *call, const struct kv_reply *reply, bool is_closing)
{
    struct kv_result *r = &call->result;
    char cause[240] = "";
    if (reply->detail.size > 0)
        snprintf(cause, sizeof cause, "%.*s", (int)(reply->detail.size < 230 ? reply->detail.size : 230),
                 (const char *)reply->detail.data);
    r->value = reply->value;
    r->err = value_unwrap(call, cause, sizeof cause);
    if (reply->err != KV_OK) r->err = reply->err;
    if (r->err == KV_OK && call->op == KV_OP_KVSCAN) r->err = scan_next(call);
    r->applied = applied_of(call, reply, r->err);
    r->err = outward(r->err, is_closing);
    r->tries = call->attempt.tries;
    r->text[0] = 0;
    if (r->err != KV_OK) result_text(call->op, r, cause);
}

/* ---- rows of a scan ---- */

bool kv_version_parse(struct kv_slice text, struct kv_version *out)
{
    const uint8_t *colon = text.size == 0 ? NULL : memchr(text.data, ':', text.size);
    uint64_t epoch, index;
    if (colon == NULL) return false;
    size_t head = (size_t)(colon - text.data);
    if (!kv_parse_u64(kv_slice(text.data, head), &epoch) || epoch > UINT32_MAX) return false;
    if (!kv_parse_u64(kv_slice(colon + 1, text.size - head - 1), &index)) return false;
    *out = (struct kv_version){.epoch = (uint32_t)epoch, .index = index};
    return true;
}

enum kv_err kv_scan_rows(struct kv_slice value, struct kv_slice *rows, struct kv_slice *cursor)
{
    struct resp_value v;
    if (resp_next(&value, SIZE_MAX, &v) != KV_OK || v.type != RESP_ARRAY || v.number < 1 ||
        v.number % 4 != 1)
        return KV_MALFORMED;
    if (resp_next(&value, SIZE_MAX, &v) != KV_OK || v.type != RESP_BULK || v.is_null) return KV_MALFORMED;
    *cursor = v.text;
    *rows = value;
    return KV_OK;
}

enum kv_err kv_scan_row(struct kv_slice *rows, struct kv_row *out)
{
    struct resp_value v[4];
    if (rows->size == 0) return KV_NOT_FOUND;
    for (int i = 0; i < 4; i++)
        if (resp_next(rows, SIZE_MAX, &v[i]) != KV_OK) return KV_MALFORMED;
    for (int i = 0; i < 3; i++)
        if (v[i].type != RESP_BULK || v[i].is_null) return KV_MALFORMED;
    if (v[3].type != RESP_INTEGER || v[3].number < 0) return KV_MALFORMED;
    out->key = v[0].text;
    out->value = v[1].text;
    out->expire_ms = (uint64_t)v[3].number;
    return kv_version_parse(v[2].text, &out->version) ? KV_OK : KV_MALFORMED;
}
