#include "client/wire/channel.h"

#include "client/base/endian.h"
#include "client/base/hash.h"
#include "client/base/text.h"
#include "client/wire/noise.h"
#include "tests/unit/unit.h"
#include "tests/unit/wire/recorded.h"

#include <stdio.h>

struct side {
    struct channel *channel;
    struct channel_identity identity;
    struct kv_buf out;
    enum kv_err verdict, err; /* what judge() says; what channel_feed() said */
    const char *why;
    int judged;
    uint8_t judged_key[CHANNEL_KEY_BYTES];
};
static struct side dial, accept_side;

static enum kv_err judge(void *context, const uint8_t key[CHANNEL_KEY_BYTES],
                         struct kv_slice payload, const char **why)
{
    struct side *s = context;
    s->judged++;
    memcpy(s->judged_key, key, CHANNEL_KEY_BYTES);
    ck_assert_uint_le(payload.size, CHANNEL_PAYLOAD_BYTES_MAX);
    *why = s->why;
    return s->verdict;
}

static void side_open(struct side *s, enum channel_role role, const char *prologue,
                      size_t frame_max)
{
    *s = (struct side){0};
    uint8_t secret[CHANNEL_KEY_BYTES];
    memset(secret, role == CHANNEL_DIAL ? 0x11 : 0x22, sizeof secret);
    channel_identity_make(&s->identity, secret);
    struct channel_options o = {
        .role = role,
        .self = &s->identity,
        .prologue = kv_str(prologue),
        .payload = kv_str(role == CHANNEL_DIAL ? "from dialler" : "from acceptor"),
        .judge = judge,
        .judge_context = s,
        .frame_bytes_max = frame_max,
    };
    memset(o.ephemeral_seed, role == CHANNEL_DIAL ? 0x33 : 0x44, sizeof o.ephemeral_seed);
    void *memory = malloc(channel_memory());
    ck_assert_ptr_nonnull(memory);
    s->channel = channel_init(memory, &o);
}

static void side_close(struct side *s)
{
    channel_wipe(s->channel);
    channel_wipe(s->channel);
    free(s->channel);
    kv_buf_free(&s->out);
}

static void both_open(void)
{
    side_open(&dial, CHANNEL_DIAL, "test/1", 0);
    side_open(&accept_side, CHANNEL_ACCEPT, "test/1", 0);
    channel_start(dial.channel, &dial.out);
}

static void both_close(void)
{
    side_close(&dial);
    side_close(&accept_side);
}

/* Everything `from` has said goes to `to`, in pieces of at most `piece` bytes. */
static void deliver(struct side *from, struct side *to, size_t piece)
{
    while (from->out.size > 0 && to->err == KV_OK) {
        struct kv_slice s = kv_buf_slice(&from->out);
        if (s.size > piece) s.size = piece;
        uint8_t *copy = malloc(s.size); /* so that a read beyond it is found */
        memcpy(copy, s.data, s.size);
        to->err = channel_feed(to->channel, kv_slice(copy, s.size), &to->out);
        free(copy);
        kv_buf_consume(&from->out, s.size);
    }
}

static void shake_hands(size_t piece)
{
    for (int i = 0; i < 3; i++) {
        deliver(&dial, &accept_side, piece);
        deliver(&accept_side, &dial, piece);
    }
}

static void send_one(struct side *s, const void *data, size_t size)
{
    struct kv_slice part = kv_slice(data, size);
    ck_assert_int_eq(channel_send(s->channel, &part, 1), KV_OK);
}

START_TEST(both_learn_who_the_other_is)
{
    for (size_t piece = 1; piece < 400; piece += piece < 5 ? 1 : 97) {
        both_open();
        struct kv_slice early = kv_str("x");
        ck_assert_int_eq(channel_send(dial.channel, &early, 1), KV_CLOSED);
        shake_hands(piece);
        ck_assert(dial.err == KV_OK && accept_side.err == KV_OK);
        ck_assert(channel_established(dial.channel) && channel_established(accept_side.channel));
        ck_assert_mem_eq(channel_peer_key(dial.channel), accept_side.identity.public_key, 32);
        ck_assert_mem_eq(channel_peer_key(accept_side.channel), dial.identity.public_key, 32);
        ck_assert(kv_slice_eq(channel_peer_payload(dial.channel), kv_str("from acceptor")));
        ck_assert(kv_slice_eq(channel_peer_payload(accept_side.channel), kv_str("from dialler")));
        ck_assert(dial.judged == 1 && accept_side.judged == 1);
        ck_assert_mem_eq(accept_side.judged_key, dial.identity.public_key, 32);
        ck_assert_str_eq(channel_refusal(dial.channel), "");
        both_close();
    }
}
END_TEST

/* Sends frames of random sizes in random batches and checks them on the other side. */
static void converse(uint64_t seed, size_t piece)
{
    both_open();
    shake_hands(piece);
    enum { FRAMES = 300, BIG = 300000 };
    uint8_t *bytes = malloc(BIG);
    struct kv_buf expected = {0};
    struct side *from = &dial, *to = &accept_side;
    for (int i = 0; i < FRAMES; i++) {
        size_t size = 1 + kv_random_next(&seed) % (i % 20 == 0 ? BIG : 200);
        for (size_t k = 0; k < size; k++) bytes[k] = (uint8_t)kv_random_next(&seed);
        size_t cut = kv_random_next(&seed) % (size + 1);
        struct kv_slice parts[3] = {
            kv_slice(bytes, cut), kv_slice(NULL, 0), kv_slice(bytes + cut, size - cut)};
        ck_assert_int_eq(channel_send(from->channel, parts, 3), KV_OK);
        uint64_t sum = kv_hash64(kv_slice(bytes, size), size);
        kv_buf_append(&expected, &sum, sizeof sum);
        if (i + 1 < FRAMES && kv_random_next(&seed) % 5 != 0) continue;

        channel_flush(from->channel, &from->out);
        ck_assert_uint_eq(channel_pending(from->channel), 0);
        deliver(from, to, piece);
        ck_assert_int_eq(to->err, KV_OK);
        struct kv_slice frame;
        while (channel_next(to->channel, &frame)) {
            sum = kv_hash64(frame, frame.size);
            ck_assert_mem_eq(kv_buf_slice(&expected).data, &sum, sizeof sum);
            kv_buf_consume(&expected, sizeof sum);
        }
        ck_assert_uint_eq(expected.size, 0);
        struct side *swap = from;
        from = to;
        to = swap;
    }
    kv_buf_free(&expected);
    free(bytes);
    both_close();
}

START_TEST(frames_arrive_whole_however_they_are_cut)
{
    converse(1, SIZE_MAX);
    converse(2, 65536);
    converse(3, 1000);
    converse(4, 7);
}
END_TEST

START_TEST(frames_of_one_turn_are_sealed_together)
{
    both_open();
    shake_hands(SIZE_MAX);
    for (int i = 0; i < 100; i++) send_one(&dial, "0123456789", 10);
    ck_assert_uint_eq(channel_pending(dial.channel), 1400);
    channel_flush(dial.channel, &dial.out);
    ck_assert_uint_eq(dial.out.size, 2 + 1400 + 16);
    kv_buf_clear(&dial.out);
    channel_flush(dial.channel, &dial.out); /* nothing to say, nothing said */
    ck_assert_uint_eq(dial.out.size, 0);
    both_close();
}
END_TEST

START_TEST(the_largest_frame_fits_and_no_larger)
{
    both_open();
    shake_hands(SIZE_MAX);
    uint8_t *big = calloc(1, CHANNEL_FRAME_BYTES_MAX + 1);
    struct kv_slice part = kv_slice(big, CHANNEL_FRAME_BYTES_MAX + 1), frame;
    ck_assert_int_eq(channel_send(dial.channel, &part, 1), KV_TOO_BIG);
    struct kv_slice two[2] = {kv_slice(big, CHANNEL_FRAME_BYTES_MAX), kv_slice(big, SIZE_MAX)};
    ck_assert_int_eq(channel_send(dial.channel, two, 2), KV_TOO_BIG);
    ck_assert_uint_eq(channel_pending(dial.channel), 0);
    big[CHANNEL_FRAME_BYTES_MAX - 1] = 0x5A;
    send_one(&dial, big, CHANNEL_FRAME_BYTES_MAX);
    channel_flush(dial.channel, &dial.out);
    deliver(&dial, &accept_side, 65536);
    ck_assert(channel_next(accept_side.channel, &frame));
    ck_assert_uint_eq(frame.size, CHANNEL_FRAME_BYTES_MAX);
    ck_assert_mem_eq(frame.data, big, frame.size);
    free(big);
    both_close();
}
END_TEST

START_TEST(a_frame_over_the_receivers_limit_ends_it)
{
    side_open(&dial, CHANNEL_DIAL, "test/1", 0);
    side_open(&accept_side, CHANNEL_ACCEPT, "test/1", 1000);
    channel_start(dial.channel, &dial.out);
    shake_hands(SIZE_MAX);
    uint8_t bytes[1001] = {9};
    struct kv_slice frame;
    send_one(&dial, bytes, 1000);
    send_one(&dial, bytes, 1001);
    send_one(&dial, bytes, 1);
    channel_flush(dial.channel, &dial.out);
    deliver(&dial, &accept_side, SIZE_MAX);
    ck_assert_int_eq(accept_side.err, KV_TOO_BIG);
    ck_assert(channel_next(accept_side.channel, &frame) && frame.size == 1000); /* it was good */
    ck_assert(!channel_next(accept_side.channel, &frame));
    ck_assert_int_eq(channel_feed(accept_side.channel, kv_str("x"), &accept_side.out), KV_TOO_BIG);
    ck_assert_int_eq(channel_send(accept_side.channel, &frame, 1), KV_CLOSED);
    both_close();
}
END_TEST

START_TEST(an_acceptor_refuses_by_name)
{
    static const struct {
        enum kv_err verdict, heard;
        const char *why, *text;
    } rows[] = {
        {KV_AUTH, KV_AUTH, "unknown key", "refused by the peer: unknown key"},
        {KV_WRONG_CLUSTER, KV_WRONG_CLUSTER, "we are \"b\"", "refused by the peer: we are \"b\""},
        {KV_VERSION, KV_VERSION, "speak 2\r\n\x1B[31m", "refused by the peer: speak 2???[31m"},
        {KV_DENIED, KV_AUTH, NULL, "refused by the peer: the caller's role does not allow it"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        both_open();
        accept_side.verdict = rows[i].verdict;
        accept_side.why = rows[i].why;
        deliver(&dial, &accept_side, 9);
        deliver(&accept_side, &dial, 9);
        send_one(&dial, "eager", 5); /* a dialler need not wait */
        channel_flush(dial.channel, &dial.out);
        deliver(&dial, &accept_side, 9);
        ck_assert_int_eq(accept_side.err, rows[i].verdict);
        ck_assert(!channel_established(accept_side.channel));
        struct kv_slice frame;
        ck_assert(!channel_next(accept_side.channel, &frame));
        deliver(&accept_side, &dial, 9);
        ck_assert_int_eq(dial.err, rows[i].heard);
        ck_assert_str_eq(channel_refusal(dial.channel), rows[i].text);
        ck_assert(!channel_next(dial.channel, &frame));
        both_close();
    }
}
END_TEST

START_TEST(a_long_reason_is_cut)
{
    char why[1000];
    memset(why, 'w', sizeof why - 1);
    why[sizeof why - 1] = 0;
    both_open();
    accept_side.verdict = KV_AUTH;
    accept_side.why = why;
    shake_hands(SIZE_MAX);
    ck_assert_uint_eq(strlen(channel_refusal(accept_side.channel)), 200);
    ck_assert_uint_eq(strlen(channel_refusal(dial.channel)), 200 + strlen("refused by the peer: "));
    both_close();
}
END_TEST

START_TEST(a_dialler_refuses_without_saying_who_it_is)
{
    both_open();
    dial.verdict = KV_WRONG_CLUSTER;
    dial.why = "not my cluster";
    shake_hands(SIZE_MAX);
    ck_assert_int_eq(dial.err, KV_WRONG_CLUSTER);
    ck_assert_str_eq(channel_refusal(dial.channel), "not my cluster");
    ck_assert_int_eq(accept_side.err, KV_WRONG_CLUSTER);
    ck_assert_str_eq(channel_refusal(accept_side.channel), "refused by the peer: not my cluster");
    ck_assert_int_eq(accept_side.judged, 0);
    both_close();
}
END_TEST

START_TEST(another_protocol_does_not_get_through)
{
    side_open(&dial, CHANNEL_DIAL, "test/1", 0);
    side_open(&accept_side, CHANNEL_ACCEPT, "test/2", 0);
    channel_start(dial.channel, &dial.out);
    shake_hands(SIZE_MAX);
    ck_assert_int_eq(dial.err, KV_AUTH);
    ck_assert(dial.judged == 0 && accept_side.judged == 0);
    both_close();
}
END_TEST

START_TEST(a_stranger_is_stopped_early)
{
    static const struct {
        uint8_t bytes[2];
        enum kv_err err;
    } rows[] = {{{0, 0}, KV_MALFORMED}, {{0xFF, 0xFF}, KV_TOO_BIG}, {{4, 1}, KV_TOO_BIG}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        side_open(&accept_side, CHANNEL_ACCEPT, "test/1", 0);
        accept_side.err =
            channel_feed(accept_side.channel, kv_slice(rows[i].bytes, 2), &accept_side.out);
        ck_assert_int_eq(accept_side.err, rows[i].err); /* before any byte of it is held */
        side_close(&accept_side);
    }
    for (uint8_t size = 1; size < 70; size++) { /* of message 1: all zero, so of low order */
        uint8_t bytes[72] = {0, size};
        side_open(&accept_side, CHANNEL_ACCEPT, "test/1", 0);
        struct kv_slice message = kv_slice(bytes, (size_t)size + 2);
        enum kv_err err = channel_feed(accept_side.channel, message, &accept_side.out);
        ck_assert_int_eq(err, size < 32 ? KV_MALFORMED : size == 32 ? KV_AUTH : KV_TOO_BIG);
        ck_assert_uint_eq(accept_side.out.size, 0);
        side_close(&accept_side);
    }
}
END_TEST

/* A dialler made by hand, which may say what a channel never would. */
struct outlaw {
    struct noise noise;
    struct noise_cipher send, receive;
};

static void outlaw_send(const uint8_t *message, size_t size)
{
    uint8_t bytes[2048];
    be16_put(bytes, (uint16_t)size);
    memcpy(bytes + 2, message, size);
    struct side *s = &accept_side;
    s->err = channel_feed(s->channel, kv_slice(bytes, size + 2), &s->out);
}

static void outlaw_shake(struct outlaw *x, struct kv_slice hello)
{
    side_open(&accept_side, CHANNEL_ACCEPT, "test/1", 0);
    uint8_t secret[NOISE_KEY_BYTES] = {5}, message[2048];
    struct noise_pair pair;
    noise_pair_make(&pair, secret);
    secret[0] = 6;
    noise_init(&x->noise, true, kv_str("test/1"), &pair, secret);
    ck_assert(noise_write(&x->noise, kv_slice(NULL, 0), message));
    outlaw_send(message, 32);
    struct kv_slice answer = kv_buf_slice(&accept_side.out);
    uint8_t payload[2048];
    ck_assert(noise_read(&x->noise, kv_slice(answer.data + 2, answer.size - 2), payload));
    kv_buf_clear(&accept_side.out);
    size_t size = noise_overhead(&x->noise) + hello.size;
    ck_assert(noise_write(&x->noise, hello, message));
    noise_split(&x->noise, &x->send, &x->receive);
    outlaw_send(message, size);
}

static void outlaw_says(struct outlaw *x, const void *plain, size_t size)
{
    uint8_t sealed[2048];
    noise_seal(&x->send, kv_slice(NULL, 0), kv_slice(plain, size), sealed);
    outlaw_send(sealed, size + NOISE_TAG_BYTES);
}

START_TEST(illegal_hellos_are_refused)
{
    static const struct {
        const char *hello;
        size_t size;
        enum kv_err err;
    } rows[] = {
        {"\0", 1, KV_OK},
        {"\0abc", 4, KV_OK},
        {"", 0, KV_MALFORMED},
        {"\2abc", 4, KV_MALFORMED},
        {"\1", 1, KV_MALFORMED},
        {"\1\x0D\5abc", 6, KV_MALFORMED},
        {"\1\x0D\xFFxyz", 6, KV_MALFORMED},
        {"\1\x0D\3abc", 6, KV_AUTH},
        {"\1\x14\3abc", 6, KV_WRONG_CLUSTER},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct outlaw x;
        outlaw_shake(&x, kv_slice(rows[i].hello, rows[i].size));
        ck_assert_msg(accept_side.err == rows[i].err, "row %zu: %d", i, accept_side.err);
        side_close(&accept_side);
    }
    uint8_t longest[1 + CHANNEL_PAYLOAD_BYTES_MAX + 1] = {0};
    for (size_t over = 0; over < 2; over++) {
        struct outlaw x;
        outlaw_shake(&x, kv_slice(longest, sizeof longest - 1 + over));
        ck_assert_int_eq(accept_side.err, over ? KV_TOO_BIG : KV_OK);
        side_close(&accept_side);
    }
}
END_TEST

START_TEST(illegal_frames_end_the_connection)
{
    static const struct {
        const char *plain;
        size_t size;
        enum kv_err err;
    } rows[] = {
        {"\1\0\0\0x", 5, KV_OK},
        {"", 0, KV_OK}, /* an empty message is a legal, if pointless, one */
        {"\0\0\0\0", 4, KV_MALFORMED},
        {"\1\0\0\0x\0\0\0\0", 9, KV_MALFORMED},
        {"\xFF\xFF\xFF\xFF\x0D\1x", 7, KV_TOO_BIG}, /* only an acceptor refuses like that */
        {"\1\0\0\1", 4, KV_TOO_BIG},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct outlaw x;
        outlaw_shake(&x, kv_slice("\0", 1));
        outlaw_says(&x, rows[i].plain, rows[i].size);
        ck_assert_msg(accept_side.err == rows[i].err, "row %zu: %d", i, accept_side.err);
        side_close(&accept_side);
    }
    struct outlaw x;
    outlaw_shake(&x, kv_slice("\0", 1));
    outlaw_send((const uint8_t *)"short", 5); /* no room for a tag */
    ck_assert_int_eq(accept_side.err, KV_MALFORMED);
    side_close(&accept_side);
}
END_TEST

START_TEST(a_replayed_message_is_noticed)
{
    both_open();
    shake_hands(SIZE_MAX);
    send_one(&dial, "once", 4);
    channel_flush(dial.channel, &dial.out);
    uint8_t copy[64];
    size_t size = dial.out.size;
    memcpy(copy, kv_buf_slice(&dial.out).data, size);
    kv_buf_append(&dial.out, copy, size);
    deliver(&dial, &accept_side, SIZE_MAX);
    ck_assert_int_eq(accept_side.err, KV_AUTH);
    struct kv_slice frame;
    ck_assert(channel_next(accept_side.channel, &frame) && kv_slice_eq(frame, kv_str("once")));
    ck_assert(!channel_next(accept_side.channel, &frame));
    both_close();
}
END_TEST

START_TEST(a_flipped_bit_never_becomes_a_frame)
{
    for (size_t bit = 0;; bit++) {
        both_open();
        shake_hands(SIZE_MAX);
        send_one(&dial, "payload", 7);
        channel_flush(dial.channel, &dial.out);
        if (bit == 8 * dial.out.size) {
            both_close();
            break;
        }
        ((uint8_t *)kv_buf_slice(&dial.out).data)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        deliver(&dial, &accept_side, SIZE_MAX);
        struct kv_slice frame;
        ck_assert(!channel_next(accept_side.channel, &frame));
        /* A longer length waits for more, everything else is an error at once. */
        ck_assert(accept_side.err != KV_OK || bit < 16);
        both_close();
    }
}
END_TEST

START_TEST(out_of_room_is_said_and_nothing_half_sent)
{
    both_open();
    shake_hands(SIZE_MAX);
    send_one(&dial, "0123456789", 10);
    struct kv_buf small;
    kv_buf_init(&small, 20);
    channel_flush(dial.channel, &small);
    ck_assert(small.failed && small.size == 0);
    ck_assert_uint_eq(channel_pending(dial.channel), 14);
    channel_flush(dial.channel, &dial.out); /* no nonce was spent */
    deliver(&dial, &accept_side, SIZE_MAX);
    ck_assert_int_eq(accept_side.err, KV_OK);
    kv_buf_free(&small);
    both_close();
}
END_TEST

static void said(struct side *s, const char *recorded)
{
    struct kv_buf text = {0};
    kv_hex_encode(&text, kv_buf_slice(&s->out));
    kv_buf_append_u8(&text, 0);
    ck_assert_str_eq((const char *)kv_buf_slice(&text).data, recorded);
    kv_buf_free(&text);
}

START_TEST(the_bytes_are_those_recorded)
{
    both_open();
    said(&dial, recorded_1);
    deliver(&dial, &accept_side, SIZE_MAX);
    said(&accept_side, recorded_2);
    deliver(&accept_side, &dial, SIZE_MAX);
    said(&dial, recorded_3);
    deliver(&dial, &accept_side, SIZE_MAX);
    send_one(&dial, "first", 5);
    send_one(&dial, "second", 6);
    channel_flush(dial.channel, &dial.out);
    said(&dial, recorded_4);
    send_one(&accept_side, "answer", 6);
    channel_flush(accept_side.channel, &accept_side.out);
    said(&accept_side, recorded_5);
    both_close();

    both_open();
    accept_side.verdict = KV_WRONG_CLUSTER;
    accept_side.why = "no";
    deliver(&dial, &accept_side, SIZE_MAX);
    deliver(&accept_side, &dial, SIZE_MAX);
    deliver(&dial, &accept_side, SIZE_MAX);
    said(&accept_side, recorded_refusal);
    both_close();
}
END_TEST

UNIT_MAIN("channel", both_learn_who_the_other_is, frames_arrive_whole_however_they_are_cut,
          frames_of_one_turn_are_sealed_together, the_largest_frame_fits_and_no_larger,
          a_frame_over_the_receivers_limit_ends_it, an_acceptor_refuses_by_name,
          a_long_reason_is_cut, a_dialler_refuses_without_saying_who_it_is,
          another_protocol_does_not_get_through, a_stranger_is_stopped_early,
          illegal_hellos_are_refused, illegal_frames_end_the_connection,
          a_replayed_message_is_noticed, a_flipped_bit_never_becomes_a_frame,
          out_of_room_is_said_and_nothing_half_sent, the_bytes_are_those_recorded)
