#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "client/base/text.h"
#include "client/env/env_uv.h"
#include "client/kv_client.h"

/* The blocking face: one env on libuv, one asynchronous client, one call at a time, the loop
 * turned until that call is done. Between calls the loop stands still; pool.c knows that a loop
 * that slept must not judge its peers. */
struct kv {
    struct env_uv *uv;
    struct kv_client *client;
    struct kv_call call;
    struct kv_buf value; /* keeps the last result's bytes */
    bool is_done, is_closed;
    enum kv_level level;
    uint32_t bounded_ms, timeout_ms;
};

/* ---- open and close ---- */

enum kv_err kv_key_file(const char *path, uint8_t secret[32], char why[KV_TEXT_BYTES])
{
    enum kv_err err = KV_IO;
    char text[80];
    struct stat st;
    why[0] = 0;
    FILE *f = fopen(path, "rbe");
    if (f == NULL) {
        err = errno == ENOENT ? KV_NOT_FOUND : errno == EACCES ? KV_DENIED
                                                               : KV_IO;
        snprintf(why, KV_TEXT_BYTES, "%s: %s", path, strerror(errno));
        return err;
    }
    if (fstat(fileno(f), &st) != 0) {
        snprintf(why, KV_TEXT_BYTES, "%s: %s", path, strerror(errno));
        goto close;
    }
    if ((st.st_mode & 077) != 0) {
        err = KV_DENIED;
        snprintf(why, KV_TEXT_BYTES, "%s: a secret key that others may read; chmod 600 it", path);
        goto close;
    }
    size_t size = fread(text, 1, sizeof text, f);
    while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == '\r')) size--;
    if (!kv_hex_decode(kv_slice(text, size), secret, 32)) {
        err = KV_MALFORMED;
        snprintf(why, KV_TEXT_BYTES, "%s: not a key file (64 hex digits)", path);
        goto close;
    }
    err = KV_OK;
close:
    memset(text, 0, sizeof text);
    fclose(f);
    return err;
}

static bool addresses_parse(const char *text, struct kv_client_options *o)
{
    while (*text != 0) {
        size_t size = strcspn(text, ",");
        if (o->seed_count == KV_ADDRESSES_MAX) return false;
        if (!pool_addr_parse(kv_slice(text, size), &o->seeds[o->seed_count++])) return false;
        text += size;
        if (*text == ',') text++;
    }
    return o->seed_count > 0;
}

enum kv_err kv_open(const struct kv_options *o, struct kv **out, char why[KV_TEXT_BYTES])
{
    struct kv_client_options c = {.timeout_ms = o->timeout_ms, .in_flight_max = o->in_flight_max};
    uint8_t secret[32];
    enum kv_err err = KV_OK;
    why[0] = 0;
    memcpy(c.cluster_id, o->cluster_id, sizeof c.cluster_id);
    if (!addresses_parse(o->addresses != NULL ? o->addresses : "127.0.0.1:7401", &c)) {
        snprintf(why, KV_TEXT_BYTES, "%s: not a list of up to %d HOST:PORT with literal addresses or localhost",
                 o->addresses, KV_ADDRESSES_MAX);
        return KV_BAD_ARGUMENT;
    }
    if (o->cluster_name != NULL) {
        if (strlen(o->cluster_name) >= sizeof c.cluster_name) {
            snprintf(why, KV_TEXT_BYTES, "a cluster name has at most %d bytes", HELLO_NAME_BYTES_MAX);
            return KV_BAD_ARGUMENT;
        }
        memcpy(c.cluster_name, o->cluster_name, strlen(o->cluster_name));
    }
    if (o->keyspace != NULL) {
        if (!kv_name_is_valid(kv_str(o->keyspace))) {
            snprintf(why, KV_TEXT_BYTES, "'%.80s' is no keyspace: a letter, then letters, digits, - _ . up to %d bytes", o->keyspace,
                     KV_NAME_BYTES_MAX);
            return KV_BAD_ARGUMENT;
        }
        memcpy(c.keyspace_name, o->keyspace, strlen(o->keyspace));
        if (strcmp(o->keyspace, "default") == 0) c.keyspace_name[0] = 0; /* known without a map */
    }
    memcpy(secret, o->key, sizeof secret);
    if (o->key_file != NULL) err = kv_key_file(o->key_file, secret, why);
    if (err != KV_OK) return err;
    channel_identity_make(&c.identity, secret);
    memset(secret, 0, sizeof secret);

    struct kv *kv = calloc(1, sizeof *kv);
    if (kv == NULL) {
        snprintf(why, KV_TEXT_BYTES, "out of memory");
        return KV_NO_SPACE;
    }
    kv->level = o->level;
    kv->bounded_ms = o->bounded_ms;
    kv->timeout_ms = o->timeout_ms;
    kv_buf_init(&kv->value, 0);
    err = env_uv_create(&kv->uv);
    if (err == KV_OK) {
        c.env = env_uv_env(kv->uv);
        err = kv_client_create(&c, &kv->client);
    }
    memset(&c.identity, 0, sizeof c.identity);
    if (err != KV_OK) {
        snprintf(why, KV_TEXT_BYTES, "%s", kv_err_text(err));
        kv_close(kv);
        return err;
    }
    *out = kv;
    return KV_OK;
}

static void sync_closed(void *context)
{
    ((struct kv *)context)->is_closed = true;
}

void kv_close(struct kv *kv)
{
    if (kv == NULL) return;
    if (kv->client != NULL) {
        kv_client_close(kv->client, sync_closed, kv);
        while (!kv->is_closed) env_uv_run_once(kv->uv);
    }
    if (kv->uv != NULL) env_uv_destroy(kv->uv);
    kv_buf_free(&kv->value);
    free(kv);
}

void kv_set_timeout(struct kv *kv, uint32_t timeout_ms)
{
    kv->timeout_ms = timeout_ms;
}

struct kv_client *kv_client_of(struct kv *kv)
{
    return kv->client;
}

void kv_turn(struct kv *kv)
{
    env_uv_run_once(kv->uv);
}

/* ---- one call ---- */

static void sync_done(struct kv_call *call)
{
    struct kv *kv = call->context;
    struct kv_result *r = &call->result;
    kv->is_done = true;
    kv_buf_clear(&kv->value);
    kv_buf_append_slice(&kv->value, r->value); /* the reply's bytes are gone when done() returns */
    if (kv->value.failed) {
        r->err = KV_NO_SPACE;
        snprintf(r->text, sizeof r->text, "out of memory for a value of %zu bytes", r->value.size);
    }
    r->value = kv_buf_slice(&kv->value);
}

static void sync_prepare(struct kv *kv)
{
    struct kv_call *call = &kv->call;
    kv->is_done = false;
    call->done = sync_done;
    call->context = kv;
    call->timeout_ms = kv->timeout_ms;
    call->level = kv->level;
    call->bounded_ms = kv->bounded_ms;
    call->node = 0;
}

static enum kv_err sync_wait(struct kv *kv, struct kv_result *out)
{
    while (!kv->is_done) env_uv_run_once(kv->uv);
    *out = kv->call.result;
    return out->err;
}

static enum kv_err sync_call(struct kv *kv, enum kv_op op, const struct kv_slice *args,
                             uint32_t arg_count, struct kv_result *out)
{
    sync_prepare(kv);
    kv->call.op = op;
    kv->call.args = args;
    kv->call.arg_count = arg_count;
    kv_client_call(kv->client, &kv->call);
    return sync_wait(kv, out);
}

enum kv_err kv_get(struct kv *kv, struct kv_slice key, struct kv_result *out)
{
    return sync_call(kv, KV_OP_KVGET, &key, 1, out);
}

enum kv_err kv_put(struct kv *kv, struct kv_slice key, struct kv_slice value,
                   const struct kv_put_options *o, struct kv_result *out)
{
    char deadline[21];
    struct env *env = env_uv_env(kv->uv);
    bool expires = o != NULL && o->ttl_ms > 0;
    uint64_t now_ms = env_wall_ms(env);
    uint64_t at_ms = !expires ? 0 : o->ttl_ms > INT64_MAX - now_ms ? INT64_MAX
                                                                   : now_ms + o->ttl_ms;
    struct kv_slice args[4] = {key, value, kv_slice(deadline, kv_format_i64((int64_t)at_ms, deadline)),
                               kv_str("NX")};
    return sync_call(kv, KV_OP_KVPUT, args, o != NULL && o->if_absent ? 4 : 3, out);
}

static struct kv_slice version_text(struct kv_version v, char text[40])
{
    int size = snprintf(text, 40, "%u:%llu", v.epoch, (unsigned long long)v.index);
    return kv_slice(text, (size_t)size);
}

enum kv_err kv_cas_version(struct kv *kv, struct kv_slice key, struct kv_version expected,
                           struct kv_slice value, struct kv_result *out)
{
    char text[40];
    struct kv_slice args[4] = {key, value, kv_str("VERSION"), version_text(expected, text)};
    return sync_call(kv, KV_OP_KVCAS, args, 4, out);
}

enum kv_err kv_cas_value(struct kv *kv, struct kv_slice key, struct kv_slice expected,
                         struct kv_slice value, struct kv_result *out)
{
    struct kv_slice args[4] = {key, value, kv_str("OLD"), expected};
    return sync_call(kv, KV_OP_KVCAS, args, 4, out);
}

enum kv_err kv_del(struct kv *kv, struct kv_slice key, const struct kv_version *expected,
                   struct kv_result *out)
{
    char text[40];
    struct kv_slice args[2] = {key};
    if (expected != NULL) args[1] = version_text(*expected, text);
    return sync_call(kv, KV_OP_KVDEL, args, expected != NULL ? 2 : 1, out);
}

enum kv_err kv_incr(struct kv *kv, struct kv_slice key, int64_t delta, struct kv_result *out)
{
    char text[21];
    struct kv_slice args[2] = {key, kv_slice(text, kv_format_i64(delta, text))};
    return sync_call(kv, KV_OP_KVINCR, args, 2, out);
}

enum kv_err kv_command(struct kv *kv, enum kv_op op, const struct kv_slice *args, uint32_t arg_count,
                       struct kv_result *out)
{
    return sync_call(kv, op, args, arg_count, out);
}

enum kv_err kv_admin(struct kv *kv, uint32_t node, enum kv_op op, const struct kv_slice *args,
                     uint32_t arg_count, struct kv_result *out)
{
    sync_prepare(kv);
    kv->call.node = node;
    kv->call.op = op;
    kv->call.args = args;
    kv->call.arg_count = arg_count;
    kv_client_call(kv->client, &kv->call);
    return sync_wait(kv, out);
}

enum kv_err kv_map_read(struct kv *kv, bool fresh, const struct kv_map_info **out,
                        struct kv_result *result)
{
    memset(result, 0, sizeof *result);
    if (fresh || kv_client_map(kv->client) == NULL) {
        enum kv_err err = sync_call(kv, KV_OP_KVMAP, NULL, 0, result);
        if (err != KV_OK) return err;
    }
    *out = kv_client_map(kv->client);
    return KV_OK;
}

/* ---- scans ---- */

enum { SCAN_PAGE_ROWS = 1000,
       SCAN_PAGE_BYTES = 1 << 20,
       KEYSPACE_BYTES = 4 };

struct kv_scan {
    struct kv *kv;
    struct kv_buf filters; /* prefix, from and to, one behind the other */
    struct kv_slice prefix, from, to;
    uint32_t page_rows;
    struct kv_buf page; /* the rows not read yet are `rows` */
    struct kv_slice rows;
    struct kv_key next;  /* where the next page starts; size 0: the end */
    struct kv_key end;   /* the scan ends before it */
    struct kv_key after; /* just behind the last row read */
    bool begun, bounded;
    char cursor[2 * KV_KEY_BYTES_MAX + 1];
};

enum kv_err kv_scan_open(struct kv *kv, const struct kv_scan_options *o, struct kv_scan **out)
{
    struct kv_scan *s = calloc(1, sizeof *s);
    if (s == NULL) return KV_NO_SPACE;
    s->kv = kv;
    s->page_rows = o->page_rows != 0 ? o->page_rows : SCAN_PAGE_ROWS;
    kv_buf_init(&s->page, 0);
    kv_buf_init(&s->filters, 0);
    kv_buf_append_slice(&s->filters, o->prefix);
    kv_buf_append_slice(&s->filters, o->from);
    kv_buf_append_slice(&s->filters, o->to);
    if (s->filters.failed) {
        kv_scan_close(s);
        return KV_NO_SPACE;
    }
    const uint8_t *at = kv_buf_slice(&s->filters).data;
    s->prefix = kv_slice(at, o->prefix.size);
    s->from = kv_slice(at == NULL ? NULL : at + o->prefix.size, o->from.size);
    s->to = kv_slice(at == NULL ? NULL : at + o->prefix.size + o->from.size, o->to.size);
    if (o->cursor.size > 0) {
        size_t size = o->cursor.size / 2;
        if (size < KEYSPACE_BYTES || o->cursor.size % 2 != 0 || size > sizeof s->next.bytes ||
            !kv_hex_decode(o->cursor, s->next.bytes, size)) {
            kv_scan_close(s);
            return KV_MALFORMED;
        }
        s->next.size = (uint16_t)size;
    }
    *out = s;
    return KV_OK;
}

void kv_scan_close(struct kv_scan *s)
{
    if (s == NULL) return;
    kv_buf_free(&s->page);
    kv_buf_free(&s->filters);
    free(s);
}

static void key_append(struct kv_key *k, struct kv_slice user)
{
    size_t room = sizeof k->bytes - k->size, size = user.size < room ? user.size : room;
    if (size > 0) memcpy(k->bytes + k->size, user.data, size);
    k->size = (uint16_t)(k->size + size);
}

/* The least key above all that begin with `k`, of which the first `fixed` bytes stay; else *end stays as it is. */
static void prefix_end(const struct kv_key *k, size_t fixed, struct kv_key *end)
{
    size_t size = k->size;
    while (size > fixed && k->bytes[size - 1] == 0xFF) size--;
    if (size == fixed) return;
    memcpy(end->bytes, k->bytes, size);
    end->bytes[size - 1]++;
    end->size = (uint16_t)size;
}

/* The part of the keyspace in which its rows can be. */
static void scan_bounds(const struct kv_scan *s, const struct kv_key_rule *rule, struct kv_key *from, struct kv_key *end)
{
    struct kv_key k;
    const uint8_t *open = s->prefix.size == 0 ? NULL : memchr(s->prefix.data, '{', s->prefix.size);
    const uint8_t *close = open == NULL ? NULL : memchr(open, '}', (size_t)(s->prefix.data + s->prefix.size - open));
    kv_key_start(rule->kind, rule->keyspace, from);
    kv_key_end(rule->kind, rule->keyspace, end);
    switch (rule->kind) {
    case KV_KEY_RANGE:
        k = *from;
        key_append(from, s->from.size > 0 ? s->from : s->prefix);
        if (s->to.size > 0) {
            key_append(&k, s->to);
            *end = k;
        } else if (s->prefix.size > 0) {
            prefix_end(from, KEYSPACE_BYTES, end);
        }
        return;
    case KV_KEY_HASH:
        if (close == NULL || close == open + 1) return; /* no whole tag: keys of any slot */
        break;
    case KV_KEY_LIST:
        if (kv_key_label(rule, s->prefix).size == s->prefix.size) return; /* no whole label */
        break;
    }
    if (kv_key_encode(rule, s->prefix, &k) != KV_OK) {
        if (s->prefix.size <= KV_USER_KEY_BYTES_MAX) *end = *from; /* a label that nobody listed: no keys */
        return;
    }
    *from = k;
    prefix_end(from, 0, end);
}

/* Once the keyspace is known. */
static enum kv_err scan_begin(struct kv_scan *s, struct kv_result *out)
{
    struct kv *kv = s->kv;
    struct kv_key from;
    if (kv_client_rule(kv->client) == NULL) {
        enum kv_err err = sync_call(kv, KV_OP_KVMAP, NULL, 0, out);
        if (err != KV_OK) return err;
    }
    const struct kv_key_rule *rule = kv_client_rule(kv->client);
    if (rule == NULL) return KV_OK; /* the page's own call says so */
    scan_bounds(s, rule, &from, &s->end);
    if (s->next.size > 0 && kv_key_keyspace(kv_key_slice(&s->next)) != rule->keyspace) {
        out->err = KV_BAD_ARGUMENT;
        snprintf(out->text, sizeof out->text, "the cursor is of another keyspace; next: scan without --cursor");
        return out->err;
    }
    if (s->next.size == 0 || kv_slice_cmp(kv_key_slice(&s->next), kv_key_slice(&from)) < 0) s->next = from;
    s->bounded = true;
    return KV_OK;
}

enum kv_err kv_scan_range(struct kv_scan *s, struct kv_range *range, struct kv_result *out)
{
    memset(out, 0, sizeof *out);
    enum kv_err err = s->bounded ? KV_OK : scan_begin(s, out);
    *range = (struct kv_range){kv_key_slice(&s->next), kv_key_slice(&s->end)};
    if (err == KV_OK && range->from.size == 0) err = out->err = KV_NOT_FOUND;
    return err;
}

static enum kv_err scan_page(struct kv_scan *s, struct kv_result *out)
{
    struct kv *kv = s->kv;
    struct kv_slice cursor;
    if (!s->bounded) {
        enum kv_err err = scan_begin(s, out);
        if (err != KV_OK) return err;
    }
    if (s->bounded && kv_slice_cmp(kv_key_slice(&s->next), kv_key_slice(&s->end)) >= 0) {
        s->begun = true;
        s->next.size = 0;
        s->rows = kv_slice(NULL, 0);
        return KV_OK;
    }
    sync_prepare(kv);
    kv_client_scan(kv->client, &kv->call, kv_key_slice(&s->next), kv_key_slice(&s->end), s->page_rows, SCAN_PAGE_BYTES);
    enum kv_err err = sync_wait(kv, out);
    if (err != KV_OK) return err;
    struct kv_buf swap = s->page; /* the handle's bytes change with its next call, ours must not */
    s->page = kv->value;
    kv->value = swap;
    s->next = kv->call.next;
    s->begun = true;
    return kv_scan_rows(kv_buf_slice(&s->page), &s->rows, &cursor);
}

static bool scan_wants(const struct kv_scan *s, struct kv_slice key)
{
    if (s->prefix.size > key.size || (s->prefix.size > 0 && memcmp(s->prefix.data, key.data, s->prefix.size) != 0))
        return false;
    return kv_range_has((struct kv_range){s->from, s->to}, key);
}

/* The least encoded key above `k`: one more zero byte or, at full length, the next number. */
static void key_successor(struct kv_key *k)
{
    if (k->size < sizeof k->bytes) {
        k->bytes[k->size++] = 0;
        return;
    }
    while (k->size > 0 && k->bytes[k->size - 1] == 0xFF) k->size--;
    if (k->size > 0) k->bytes[k->size - 1]++;
}

enum kv_err kv_scan_next(struct kv_scan *s, struct kv_row *row, struct kv_result *out)
{
    memset(out, 0, sizeof *out);
    for (;;) {
        enum kv_err err = kv_scan_row(&s->rows, row);
        if (err == KV_OK) {
            if (!scan_wants(s, row->key)) continue;
            const struct kv_key_rule *rule = kv_client_rule(s->kv->client);
            if (rule == NULL || kv_key_encode(rule, row->key, &s->after) != KV_OK) err = KV_MALFORMED;
        }
        if (err == KV_OK) {
            key_successor(&s->after);
            return KV_OK;
        }
        if (err == KV_NOT_FOUND && s->begun && s->next.size == 0) return out->err = KV_NOT_FOUND;
        if (err == KV_NOT_FOUND) {
            s->rows = kv_slice(NULL, 0);
            err = scan_page(s, out);
        }
        if (err == KV_MALFORMED) {
            out->err = err;
            snprintf(out->text, sizeof out->text, "a page of the scan does not parse");
        }
        if (err != KV_OK) return err;
    }
}

const char *kv_scan_cursor(struct kv_scan *s)
{
    const struct kv_key *at = s->rows.size > 0 ? &s->after : &s->next;
    static const char digits[] = "0123456789abcdef";
    size_t size = 0;
    for (size_t i = 0; i < at->size; i++) {
        s->cursor[size++] = digits[at->bytes[i] >> 4];
        s->cursor[size++] = digits[at->bytes[i] & 15];
    }
    s->cursor[size] = 0;
    return s->cursor;
}
