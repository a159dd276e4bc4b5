#include "client/wire/join_token.h"

#include <string.h>

#include "tests/unit/unit.h"

static const struct join_token token = {.cluster = {0xab, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff},
                                        .secret = {0x10, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01}};

START_TEST(a_token_survives_the_round_trip)
{
    char text[JOIN_TOKEN_TEXT_BYTES];
    struct join_token back;
    join_token_print(&token, text);
    ck_assert_uint_eq(strlen(text), JOIN_TOKEN_TEXT_BYTES - 1);
    ck_assert(join_token_parse(text, &back));
    ck_assert_mem_eq(&back, &token, sizeof back);
    ck_assert(strncmp(text, "kvd1-ab01020304", 15) == 0);
}
END_TEST

START_TEST(what_is_mistyped_is_no_token)
{
    char text[JOIN_TOKEN_TEXT_BYTES], bad[JOIN_TOKEN_TEXT_BYTES + 1];
    struct join_token back;
    join_token_print(&token, text);
    for (size_t i = 0; i < sizeof text - 1; i++) {
        memcpy(bad, text, sizeof text);
        bad[i] = bad[i] == '0' ? '1' : '0';
        ck_assert_msg(!join_token_parse(bad, &back), "byte %zu", i);
    }
    ck_assert(!join_token_parse("", &back));
    memcpy(bad, text, sizeof text);
    bad[sizeof text - 2] = '\0';
    ck_assert(!join_token_parse(bad, &back));
    snprintf(bad, sizeof bad, "%s0", text);
    ck_assert(!join_token_parse(bad, &back));
}
END_TEST

START_TEST(hashes_tell_secrets_apart)
{
    uint8_t a[JOIN_TOKEN_HASH_BYTES], b[JOIN_TOKEN_HASH_BYTES];
    struct join_token other = token;
    join_token_hash(token.secret, a);
    join_token_hash(other.secret, b);
    ck_assert_mem_eq(a, b, sizeof a);
    other.secret[15] ^= 1;
    join_token_hash(other.secret, b);
    ck_assert_mem_ne(a, b, sizeof a);
}
END_TEST

UNIT_MAIN("join_token", a_token_survives_the_round_trip, what_is_mistyped_is_no_token, hashes_tell_secrets_apart)
