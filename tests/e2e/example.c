/* The smallest useful program on libkv: writes a value, reads it back, counts, and replaces the
 * value only if nobody changed it meanwhile. usage: example ADDRESSES KEYFILE */
#include <inttypes.h>
#include <stdio.h>

#include "client/kv.h"

int main(int argc, char **argv)
{
    char why[KV_TEXT_BYTES];
    struct kv *kv;
    struct kv_result r;
    if (argc != 3) {
        fputs("usage: example HOST:PORT,.. KEYFILE\n", stderr);
        return 2;
    }
    struct kv_options o = {.addresses = argv[1], .key_file = argv[2]};
    if (kv_open(&o, &kv, why) != KV_OK) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    int code = 1;
    struct kv_slice key = kv_str("example:greeting");
    if (kv_put(kv, key, kv_str("hello"), NULL, &r) != KV_OK) goto fail;
    if (kv_get(kv, key, &r) != KV_OK) goto fail;
    printf("%.*s, version %" PRIu32 ":%" PRIu64 ", from node %" PRIu32 "\n", (int)r.value.size,
           (const char *)r.value.data, r.version.epoch, r.version.index, r.node);
    struct kv_version seen = r.version;
    if (kv_incr(kv, kv_str("example:runs"), 1, &r) != KV_OK) goto fail;
    printf("run number %" PRId64 "\n", r.number);
    if (kv_cas_version(kv, key, seen, kv_str("hello again"), &r) != KV_OK) goto fail;
    if (kv_cas_version(kv, key, seen, kv_str("too late"), &r) != KV_CONDITION) goto fail;
    puts("the second of two replacements of one version was refused");
    code = 0;
fail:
    if (code != 0) fprintf(stderr, "%s (applied: %s)\n", r.text, kv_applied_text(r.applied));
    kv_close(kv);
    return code;
}
