#include <stdlib.h>

#include "client/wire/hello.h"
#include "tests/unit/unit.h"

static const uint8_t cluster_a[16] = {1, 2, 3}, cluster_b[16] = {9};

static struct hello node_hello(void)
{
    struct hello h = {.role = HELLO_NODE, .node = 0x01020304, .store = 0x1122334455667788u, .name = kv_str("kvd")};
    memcpy(h.cluster, cluster_a, sizeof h.cluster);
    return h;
}

START_TEST(the_bytes_are_as_documented)
{
    struct hello h = node_hello();
    struct kv_buf b;
    kv_buf_init(&b, HELLO_BYTES_MAX);
    hello_encode(&h, &b);
    struct kv_slice s = kv_buf_slice(&b);
    static const uint8_t expected[] = {1, 2, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 3, 2, 1,
                                       0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 3, 'k', 'v', 'd'};
    ck_assert_uint_eq(s.size, sizeof expected);
    ck_assert_mem_eq(s.data, expected, sizeof expected);
    kv_buf_free(&b);
}
END_TEST

START_TEST(decoding_gives_back_what_was_encoded)
{
    struct hello h = node_hello(), out;
    struct kv_buf b;
    kv_buf_init(&b, HELLO_BYTES_MAX);
    hello_encode(&h, &b);
    ck_assert_int_eq(hello_decode(kv_buf_slice(&b), &out), KV_OK);
    ck_assert_int_eq(out.role, HELLO_NODE);
    ck_assert_uint_eq(out.node, h.node);
    ck_assert_uint_eq(out.store, h.store);
    ck_assert_mem_eq(out.cluster, h.cluster, sizeof h.cluster);
    ck_assert(kv_slice_eq(out.name, h.name));
    kv_buf_free(&b);
}
END_TEST

START_TEST(every_truncation_and_every_extra_byte_is_malformed)
{
    struct hello h = node_hello(), out;
    struct kv_buf b;
    kv_buf_init(&b, 0);
    hello_encode(&h, &b);
    size_t size = b.size;
    kv_buf_append_u8(&b, 0);
    struct kv_slice s = kv_buf_slice(&b);
    for (size_t n = 0; n < size; n++) {
        uint8_t *exact = malloc(n == 0 ? 1 : n); /* so that a sanitizer sees a read past the end */
        memcpy(exact, s.data, n);
        ck_assert_int_eq(hello_decode(kv_slice(exact, n), &out), KV_MALFORMED);
        free(exact);
    }
    ck_assert_int_eq(hello_decode(s, &out), KV_MALFORMED);
    kv_buf_free(&b);
}
END_TEST

START_TEST(versions_and_roles_are_checked)
{
    struct hello h = node_hello(), out;
    struct kv_buf b;
    kv_buf_init(&b, 0);
    hello_encode(&h, &b);
    b.data[b.start] = 2;
    ck_assert_int_eq(hello_decode(kv_buf_slice(&b), &out), KV_VERSION);
    ck_assert_int_eq(hello_decode(kv_slice(b.data + b.start, 1), &out), KV_VERSION); /* told before its shape */
    b.data[b.start] = 1;
    b.data[b.start + 1] = 4;
    ck_assert_int_eq(hello_decode(kv_buf_slice(&b), &out), KV_MALFORMED);
    b.data[b.start + 1] = 0;
    ck_assert_int_eq(hello_decode(kv_buf_slice(&b), &out), KV_MALFORMED);
    b.data[b.start + 1] = HELLO_JOIN;
    ck_assert_int_eq(hello_decode(kv_buf_slice(&b), &out), KV_OK);
    ck_assert_int_eq(out.role, HELLO_JOIN);
    b.data[b.start + 1] = HELLO_NODE;
    memset(b.data + b.start + 20, 0, 4); /* a node without an id */
    ck_assert_int_eq(hello_decode(kv_buf_slice(&b), &out), KV_MALFORMED);
    b.data[b.start + 1] = HELLO_CLIENT;
    ck_assert_int_eq(hello_decode(kv_buf_slice(&b), &out), KV_OK);
    kv_buf_free(&b);
}
END_TEST

START_TEST(a_stranger_is_told_by_id_and_by_name)
{
    struct hello self = {.role = HELLO_CLIENT}, peer = node_hello();
    const char *why = NULL;
    ck_assert_int_eq(hello_match(&self, &peer, &why), KV_OK); /* any cluster, any name */
    memcpy(self.cluster, cluster_b, sizeof self.cluster);
    ck_assert_int_eq(hello_match(&self, &peer, &why), KV_WRONG_CLUSTER);
    ck_assert_ptr_nonnull(strstr(why, "id"));
    memcpy(self.cluster, cluster_a, sizeof self.cluster);
    ck_assert_int_eq(hello_match(&self, &peer, &why), KV_OK);
    self.name = kv_str("prod");
    ck_assert_int_eq(hello_match(&self, &peer, &why), KV_WRONG_CLUSTER);
    ck_assert_ptr_nonnull(strstr(why, "name"));
    self.name = kv_str("kvd");
    ck_assert_int_eq(hello_match(&self, &peer, &why), KV_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hello");
    TCase *t = tcase_create("hello");
    tcase_add_test(t, the_bytes_are_as_documented);
    tcase_add_test(t, decoding_gives_back_what_was_encoded);
    tcase_add_test(t, every_truncation_and_every_extra_byte_is_malformed);
    tcase_add_test(t, versions_and_roles_are_checked);
    tcase_add_test(t, a_stranger_is_told_by_id_and_by_name);
    suite_add_tcase(suite, t);
    return unit_finish(suite);
}
