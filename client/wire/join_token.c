#include "client/wire/join_token.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>

#include "client/base/text.h"

static const char prefix[] = "kvd1-";
static const char domain[] = "kvd join token 1"; /* no other hash of ours is of these bytes */

static void digest(struct kv_slice bytes, uint8_t *out, size_t size)
{
    crypto_generichash_state s;
    int done = crypto_generichash_init(&s, NULL, 0, size);
    if (done == 0) done = crypto_generichash_update(&s, (const uint8_t *)domain, sizeof domain);
    if (done == 0) done = crypto_generichash_update(&s, bytes.data, bytes.size);
    if (done == 0) done = crypto_generichash_final(&s, out, size);
    assert(done == 0);
    (void)done;
}

static uint32_t check_of(const struct join_token *t)
{
    uint8_t bytes[sizeof t->cluster + sizeof t->secret], sum[crypto_generichash_BYTES_MIN];
    memcpy(bytes, t->cluster, sizeof t->cluster);
    memcpy(bytes + sizeof t->cluster, t->secret, sizeof t->secret);
    digest(kv_slice(bytes, sizeof bytes), sum, sizeof sum);
    return (uint32_t)sum[0] << 24 | (uint32_t)sum[1] << 16 | (uint32_t)sum[2] << 8 | sum[3];
}

void join_token_print(const struct join_token *t, char out[JOIN_TOKEN_TEXT_BYTES])
{
    size_t at = sizeof prefix - 1;
    memcpy(out, prefix, at);
    for (size_t i = 0; i < sizeof t->cluster; i++, at += 2) (void)snprintf(out + at, 3, "%02x", t->cluster[i]);
    out[at++] = '-';
    for (size_t i = 0; i < sizeof t->secret; i++, at += 2) (void)snprintf(out + at, 3, "%02x", t->secret[i]);
    (void)snprintf(out + at, 10, "-%08x", check_of(t));
}

bool join_token_parse(const char *text, struct join_token *out)
{
    struct kv_slice s = kv_str(text);
    size_t at = sizeof prefix - 1;
    uint8_t check[4];
    struct join_token t;
    if (s.size != JOIN_TOKEN_TEXT_BYTES - 1 || memcmp(text, prefix, at) != 0) return false;
    if (text[at + 32] != '-' || text[at + 65] != '-') return false;
    if (!kv_hex_decode(kv_slice(text + at, 32), t.cluster, sizeof t.cluster) ||
        !kv_hex_decode(kv_slice(text + at + 33, 32), t.secret, sizeof t.secret) ||
        !kv_hex_decode(kv_slice(text + at + 66, 8), check, sizeof check))
        return false;
    if (check_of(&t) != ((uint32_t)check[0] << 24 | (uint32_t)check[1] << 16 | (uint32_t)check[2] << 8 | check[3])) return false;
    *out = t;
    return true;
}

void join_token_hash(const uint8_t secret[JOIN_TOKEN_SECRET_BYTES], uint8_t out[JOIN_TOKEN_HASH_BYTES])
{
    digest(kv_slice(secret, JOIN_TOKEN_SECRET_BYTES), out, JOIN_TOKEN_HASH_BYTES);
}
