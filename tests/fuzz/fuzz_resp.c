#include "client/wire/resp.h"

#include <stdlib.h>

/* What parses must need every one of its bytes, and its RESP2 form must hold RESP2 types only. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_resp2(enum resp_type type)
{
    return type == RESP_STATUS || type == RESP_ERROR || type == RESP_INTEGER || type == RESP_BULK ||
           type == RESP_ARRAY;
}

static void fuzz_step(struct kv_slice before, size_t consumed)
{
    if (consumed == 0 || consumed > before.size) abort();
    struct kv_slice prefix = kv_slice(before.data, consumed - 1);
    struct resp_value v;
    if (resp_next(&prefix, 1 << 20, &v) != KV_BUSY || prefix.size != consumed - 1) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kv_slice in = kv_slice(data, size);
    enum kv_err err = KV_OK;
    while (in.size > 0) {
        struct kv_slice before = in;
        struct resp_value v;
        err = resp_next(&in, 1 << 20, &v);
        if (err != KV_OK) {
            if (in.data != before.data || in.size != before.size) abort();
            if (err != KV_BUSY && err != KV_MALFORMED && err != KV_TOO_BIG) abort();
            break;
        }
        if (v.text.size > size || (v.text.size > 0 && v.text.data < data)) abort();
        if (v.text.size > 0 && v.text.data + v.text.size > data + size) abort();
        fuzz_step(before, before.size - in.size);
    }

    struct kv_buf out;
    kv_buf_init(&out, 0);
    resp_to_resp2(kv_slice(data, size), &out);
    if (err == KV_OK && out.failed) abort();
    in = kv_buf_slice(&out);
    while (in.size > 0) {
        struct resp_value v;
        if (resp_next(&in, SIZE_MAX, &v) != KV_OK || !is_resp2(v.type)) abort();
    }
    kv_buf_free(&out);
    return 0;
}
