#include "tools/kvctl/journey.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

#include "client/base/key.h"
#include "client/base/text.h"

static bool hex_read(json_t *root, const char *name, uint8_t *out, size_t size)
{
    const char *text = json_string_value(json_object_get(root, name));
    return text != NULL && kv_hex_decode(kv_str(text), out, size);
}

static bool number_read(json_t *root, const char *name, uint64_t *out)
{
    json_t *v = json_object_get(root, name);
    if (!json_is_integer(v) || json_integer_value(v) < 0) return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

enum kv_err journey_load(const char *path, struct journey *out, char why[JOURNEY_WHY_BYTES])
{
    json_error_t at;
    uint64_t version = 0, head_bytes = 0;
    uint8_t head[8];
    why[0] = 0;
    if (access(path, F_OK) != 0 && errno == ENOENT) return KV_NOT_FOUND;
    json_t *root = json_load_file(path, 0, &at);
    if (root == NULL) {
        snprintf(why, JOURNEY_WHY_BYTES, "%s:%d: %s", path, at.line, at.text);
        return at.line < 0 ? KV_IO : KV_MALFORMED;
    }
    bool good = number_read(root, "version", &version) && version == 1 && number_read(root, "offset", &out->offset) &&
                number_read(root, "sequence", &out->sequence) && number_read(root, "head_bytes", &head_bytes) &&
                head_bytes <= JOURNEY_HEAD_BYTES && hex_read(root, "client", out->client, sizeof out->client) &&
                hex_read(root, "cluster", out->cluster, sizeof out->cluster) && hex_read(root, "head", head, sizeof head);
    uint64_t keyspace = KV_KEYSPACE_DEFAULT;
    if (good && json_object_get(root, "keyspace") != NULL)
        good = number_read(root, "keyspace", &keyspace) && keyspace <= UINT32_MAX;
    out->keyspace = (uint32_t)keyspace;
    json_decref(root);
    if (!good) {
        snprintf(why, JOURNEY_WHY_BYTES, "%s: not a progress file of this version", path);
        return KV_MALFORMED;
    }
    out->head = 0;
    for (int i = 0; i < 8; i++) out->head = out->head << 8 | head[i];
    out->head_bytes = (uint32_t)head_bytes;
    return KV_OK;
}

enum kv_err journey_save(const char *path, const struct journey *j, char why[JOURNEY_WHY_BYTES])
{
    char beside[1200];
    struct kv_buf b;
    enum kv_err err = KV_IO;
    int n = snprintf(beside, sizeof beside, "%s.new", path);
    if (n < 0 || (size_t)n >= sizeof beside) {
        snprintf(why, JOURNEY_WHY_BYTES, "%.200s..: the name is too long", path);
        return KV_IO;
    }
    kv_buf_init(&b, 0);
    kv_buf_printf(&b, "{\"version\":1,\"offset\":%" PRIu64 ",\"sequence\":%" PRIu64 ",\"client\":\"", j->offset,
                  j->sequence);
    kv_hex_encode(&b, kv_slice(j->client, sizeof j->client));
    kv_buf_append_text(&b, "\",\"cluster\":\"");
    kv_hex_encode(&b, kv_slice(j->cluster, sizeof j->cluster));
    kv_buf_printf(&b, "\",\"head\":\"%016" PRIx64 "\",\"head_bytes\":%u,\"keyspace\":%u}\n", j->head, j->head_bytes, j->keyspace);
    struct kv_slice s = kv_buf_slice(&b);
    FILE *f = b.failed ? NULL : fopen(beside, "wbe");
    if (f != NULL) {
        bool good = fwrite(s.data, 1, s.size, f) == s.size && fflush(f) == 0 && fdatasync(fileno(f)) == 0;
        good = fclose(f) == 0 && good;
        if (good && rename(beside, path) == 0) err = KV_OK;
    }
    if (err != KV_OK) snprintf(why, JOURNEY_WHY_BYTES, "%s: %s", beside, strerror(errno));
    kv_buf_free(&b);
    return err;
}
