/* The handshake against published vectors (a JSON file as cacophony and snow write it, named
 * by the environment) and against low-level misuse. */
#include "client/wire/noise.h"

#include "client/base/text.h"
#include "tests/unit/unit.h"

#include <jansson.h>
#include <stdio.h>

enum { BYTES_MAX = 4096 };
struct bytes {
    uint8_t data[BYTES_MAX];
    size_t size;
};

static struct bytes hex(const json_t *object, const char *name)
{
    struct bytes b;
    const char *text = json_string_value(json_object_get(object, name));
    ck_assert_msg(text != NULL, "%s is missing", name);
    b.size = strlen(text) / 2;
    ck_assert(b.size <= BYTES_MAX && kv_hex_decode(kv_str(text), b.data, b.size));
    return b;
}

static void side_init(struct noise *n, bool initiator, const json_t *v)
{
    struct bytes prologue = hex(v, initiator ? "init_prologue" : "resp_prologue");
    struct bytes s = hex(v, initiator ? "init_static" : "resp_static");
    struct bytes e = hex(v, initiator ? "init_ephemeral" : "resp_ephemeral");
    ck_assert(s.size == NOISE_KEY_BYTES && e.size == NOISE_KEY_BYTES);
    struct noise_pair pair;
    noise_pair_make(&pair, s.data);
    noise_init(n, initiator, kv_slice(prologue.data, prologue.size), &pair, e.data);
}

static void handshake_message(struct noise *from, struct noise *to, const json_t *m)
{
    struct bytes payload = hex(m, "payload"), expected = hex(m, "ciphertext");
    uint8_t out[BYTES_MAX], back[BYTES_MAX];
    size_t size = noise_overhead(from) + payload.size;
    ck_assert_uint_eq(size, expected.size);
    ck_assert(noise_write(from, kv_slice(payload.data, payload.size), out));
    ck_assert_mem_eq(out, expected.data, size);
    ck_assert(noise_read(to, kv_slice(expected.data, expected.size), back));
    ck_assert_mem_eq(back, payload.data, payload.size);
}

static void transport_message(struct noise_cipher *from, struct noise_cipher *to, const json_t *m)
{
    struct bytes payload = hex(m, "payload"), expected = hex(m, "ciphertext");
    uint8_t out[BYTES_MAX], back[BYTES_MAX];
    ck_assert_uint_eq(payload.size + NOISE_TAG_BYTES, expected.size);
    noise_seal(from, kv_slice(NULL, 0), kv_slice(payload.data, payload.size), out);
    ck_assert_mem_eq(out, expected.data, expected.size);
    struct kv_slice sealed = kv_slice(expected.data, expected.size);
    ck_assert(noise_open(to, kv_slice(NULL, 0), sealed, back));
    ck_assert_mem_eq(back, payload.data, payload.size);
}

/* Returns how many transport messages the vector has. */
static size_t run_vector(const json_t *v)
{
    struct noise init, resp;
    side_init(&init, true, v);
    side_init(&resp, false, v);
    const json_t *messages = json_object_get(v, "messages");
    ck_assert_uint_gt(json_array_size(messages), NOISE_MESSAGES);
    for (size_t i = 0; i < NOISE_MESSAGES; i++) {
        bool from_init = i % 2 == 0;
        handshake_message(from_init ? &init : &resp, from_init ? &resp : &init,
                          json_array_get(messages, i));
    }
    ck_assert_mem_eq(init.rs, resp.s.public_key, NOISE_KEY_BYTES);
    ck_assert_mem_eq(resp.rs, init.s.public_key, NOISE_KEY_BYTES);
    ck_assert_mem_eq(init.hash, resp.hash, NOISE_KEY_BYTES);
    if (json_object_get(v, "handshake_hash") != NULL) {
        struct bytes hash = hex(v, "handshake_hash");
        ck_assert_mem_eq(init.hash, hash.data, NOISE_KEY_BYTES);
    }
    struct noise_cipher init_send, init_receive, resp_send, resp_receive;
    noise_split(&init, &init_send, &init_receive);
    noise_split(&resp, &resp_send, &resp_receive);
    for (size_t i = NOISE_MESSAGES; i < json_array_size(messages); i++) {
        if (i % 2 == 0) {
            transport_message(&init_send, &resp_receive, json_array_get(messages, i));
        } else {
            transport_message(&resp_send, &init_receive, json_array_get(messages, i));
        }
    }
    return json_array_size(messages) - NOISE_MESSAGES;
}

START_TEST(published_vectors)
{
    const char *path = getenv("NOISE_VECTORS");
    if (path == NULL) {
        printf("skipped: NOISE_VECTORS not set\n");
        return;
    }
    json_error_t error;
    json_t *root = json_load_file(path, 0, &error);
    ck_assert_msg(root != NULL, "%s:%d: %s", path, error.line, error.text);
    size_t i, vectors = 0, transport = 0;
    json_t *v;
    json_array_foreach(json_object_get(root, "vectors"), i, v)
    {
        const char *name = json_string_value(json_object_get(v, "protocol_name"));
        if (name == NULL || strcmp(name, "Noise_XX_25519_ChaChaPoly_SHA256") != 0) continue;
        transport += run_vector(v);
        vectors++;
    }
    printf("%zu vectors, %zu transport messages\n", vectors, transport);
    ck_assert_uint_gt(vectors, 0);
    json_decref(root);
}
END_TEST

static void pair_up(struct noise *init, struct noise *resp)
{
    uint8_t secret[4][NOISE_KEY_BYTES];
    for (int i = 0; i < 4; i++) memset(secret[i], 0x11 * (i + 1), NOISE_KEY_BYTES);
    struct noise_pair a, b;
    noise_pair_make(&a, secret[0]);
    noise_pair_make(&b, secret[1]);
    noise_init(init, true, kv_str("test"), &a, secret[2]);
    noise_init(resp, false, kv_str("test"), &b, secret[3]);
}

START_TEST(every_flipped_bit_of_the_handshake_is_noticed)
{
    static const size_t payload_size = 5;
    for (uint32_t broken = 0; broken < NOISE_MESSAGES; broken++) {
        for (size_t bit = 0;; bit++) {
            struct noise init, resp;
            pair_up(&init, &resp);
            uint8_t out[256], back[256];
            bool ok = true, done = false;
            for (uint32_t i = 0; ok && i < NOISE_MESSAGES; i++) {
                struct noise *from = i % 2 == 0 ? &init : &resp, *to = i % 2 == 0 ? &resp : &init;
                size_t size = noise_overhead(from) + payload_size;
                ok = noise_write(from, kv_slice("hello", payload_size), out);
                if (i == broken) {
                    done = bit == 8 * size;
                    if (!done) out[bit / 8] ^= (uint8_t)(1u << bit % 8);
                }
                ok = ok && noise_read(to, kv_slice(out, size), back);
            }
            if (done) {
                ck_assert(ok); /* nothing was flipped: the test can tell */
                break;
            }
            ck_assert_msg(!ok || memcmp(init.hash, resp.hash, NOISE_KEY_BYTES) != 0,
                          "message %u bit %zu", broken, bit);
            /* Curve25519 ignores the top bit of a point, and message 1 has no tag: the hash
             * differs, so message 2 already fails. */
            ck_assert(!ok);
        }
    }
}
END_TEST

START_TEST(points_of_low_order_are_refused)
{
    struct noise init, resp;
    pair_up(&init, &resp);
    uint8_t message[NOISE_KEY_BYTES] = {0}, out[256];
    ck_assert(noise_read(&resp, kv_slice(message, sizeof message), out));
    ck_assert(!noise_write(&resp, kv_slice(NULL, 0), out));
}
END_TEST

START_TEST(short_messages_are_refused)
{
    struct noise init, resp;
    uint8_t out[256], back[256];
    for (size_t size = 0; size < NOISE_KEY_BYTES; size++) {
        pair_up(&init, &resp);
        ck_assert(noise_write(&init, kv_slice(NULL, 0), out));
        ck_assert(!noise_read(&resp, kv_slice(out, size), back));
    }
    struct noise_cipher c = {{1}, 0};
    for (size_t size = 0; size < NOISE_TAG_BYTES; size++) {
        ck_assert(!noise_open(&c, kv_slice(NULL, 0), kv_slice(out, size), back));
    }
}
END_TEST

START_TEST(a_message_opens_once_and_in_order)
{
    struct noise_cipher send = {{7}, 0}, receive = {{7}, 0};
    uint8_t first[20], second[20], back[4];
    noise_seal(&send, kv_slice(NULL, 0), kv_str("1111"), first);
    noise_seal(&send, kv_slice(NULL, 0), kv_str("2222"), second);
    ck_assert(!noise_open(&receive, kv_slice(NULL, 0), kv_slice(second, 20), back));
    ck_assert(noise_open(&receive, kv_slice(NULL, 0), kv_slice(first, 20), back));
    ck_assert(!noise_open(&receive, kv_slice(NULL, 0), kv_slice(first, 20), back));
    ck_assert(noise_open(&receive, kv_slice(NULL, 0), kv_slice(second, 20), back));
    ck_assert_mem_eq(back, "2222", 4);
}
END_TEST

UNIT_MAIN("noise", published_vectors, every_flipped_bit_of_the_handshake_is_noticed,
          points_of_low_order_are_refused, short_messages_are_refused,
          a_message_opens_once_and_in_order)
