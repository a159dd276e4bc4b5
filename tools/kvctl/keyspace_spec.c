#include "tools/kvctl/keyspace_spec.h"

#include <stdio.h>

#include "client/base/text.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The bytes up to the first of `ends` that is not escaped, or the end of the text; *text moves onto it. */
static bool word_read(const char **text, const char *ends, struct kv_arena *arena, struct kv_slice *out, char why[SPEC_WHY_BYTES])
{
    const char *s = *text;
    size_t size = 0;
    uint8_t *to = kv_arena_alloc(arena, strlen(s) + 1);
    if (to == NULL) {
        snprintf(why, SPEC_WHY_BYTES, "out of memory");
        return false;
    }
    for (; *s != 0 && strchr(ends, *s) == NULL; s++) {
        if (*s != '\\') {
            to[size++] = (uint8_t)*s;
            continue;
        }
        s++;
        if (*s == 'x' && hex(s[1]) >= 0 && hex(s[2]) >= 0) {
            to[size++] = (uint8_t)(hex(s[1]) * 16 + hex(s[2]));
            s += 2;
        } else if (*s != 0 && strchr(",|=\\", *s) != NULL) {
            to[size++] = (uint8_t)*s;
        } else {
            snprintf(why, SPEC_WHY_BYTES, "--partition: bad escape \\%.1s (know \\, \\| \\= \\\\ \\xHH)", s);
            return false;
        }
    }
    *out = kv_slice(to, size);
    *text = s;
    return true;
}

static uint32_t count_of(const char *text, char c)
{
    uint32_t n = 1;
    for (; *text != 0; text++) {
        if (*text == '\\' && text[1] != 0) text++;
        else n += *text == c;
    }
    return n;
}

static bool range_parse(const char *text, struct kv_arena *arena, struct kv_keyspace *out, char why[SPEC_WHY_BYTES])
{
    if (*text == 0) return true;
    out->splits = kv_arena_alloc(arena, count_of(text, ',') * sizeof *out->splits);
    if (out->splits == NULL) return false;
    for (;; text++) {
        struct kv_slice *s = &out->splits[out->split_count++];
        if (!word_read(&text, ",", arena, s, why)) return false;
        if (s->size > KV_USER_KEY_BYTES_MAX) {
            snprintf(why, SPEC_WHY_BYTES, "--partition range: split key %u has %zu bytes, the limit is %d", out->split_count, s->size, KV_USER_KEY_BYTES_MAX);
            return false;
        }
        if (out->split_count == KV_KEYSPACE_PARTITIONS_MAX) {
            snprintf(why, SPEC_WHY_BYTES, "--partition range: over %d partitions; next: fewer keys now, kvctl keyspace split later", KV_KEYSPACE_PARTITIONS_MAX);
            return false;
        }
        if (*text == 0) return true;
    }
}

static bool label_check(const struct kv_label_group *g, const struct kv_label *l, char why[SPEC_WHY_BYTES])
{
    int shown = (int)(g->name.size < KV_NAME_BYTES_MAX ? g->name.size : KV_NAME_BYTES_MAX);
    const char *name = shown == 0 ? "" : (const char *)g->name.data;
    if (l->text.size == 0)
        snprintf(why, SPEC_WHY_BYTES, "--partition list: label %u of group '%.*s' is empty; next: leave out a |", g->label_count, shown, name);
    else if (l->text.size > KV_LABEL_BYTES_MAX)
        snprintf(why, SPEC_WHY_BYTES, "--partition list: label %u of group '%.*s' has %zu bytes, the limit is %d", g->label_count, shown, name, l->text.size,
                 KV_LABEL_BYTES_MAX);
    return l->text.size > 0 && l->text.size <= KV_LABEL_BYTES_MAX;
}

static bool group_parse(const char **text, struct kv_arena *arena, struct kv_label_group *g, char why[SPEC_WHY_BYTES])
{
    *g = (struct kv_label_group){.label_count = 0};
    if (!word_read(text, "=,", arena, &g->name, why)) return false;
    if (**text != '=') {
        snprintf(why, SPEC_WHY_BYTES, "--partition list: group '%.*s' lacks its labels, as GROUP=LABEL|LABEL", (int)(g->name.size < 60 ? g->name.size : 60),
                 g->name.size == 0 ? "" : (const char *)g->name.data);
        return false;
    }
    ++*text;
    g->labels = kv_arena_alloc(arena, count_of(*text, '|') * sizeof *g->labels);
    if (g->labels == NULL) return false;
    if (**text == ',' || **text == 0) return true; /* only for unlisted labels */
    for (;; ++*text) {
        struct kv_label *l = &g->labels[g->label_count++];
        l->bucket = 0; /* the cluster gives it */
        if (!word_read(text, "|,", arena, &l->text, why) || !label_check(g, l, why)) return false;
        if (**text != '|') return true;
    }
}

static bool list_parse(const char *text, struct kv_arena *arena, struct kv_keyspace *out, char why[SPEC_WHY_BYTES])
{
    out->groups = kv_arena_alloc(arena, count_of(text, ',') * sizeof *out->groups);
    if (out->groups == NULL) return false;
    for (;; text++) {
        if (!group_parse(&text, arena, &out->groups[out->group_count++], why)) return false;
        if (*text == 0) return true;
    }
}

static bool number_parse(const char *option, const char *text, uint32_t max, uint32_t *out, char why[SPEC_WHY_BYTES])
{
    uint64_t v;
    if (kv_parse_u64(kv_str(text), &v) && v >= 1 && v <= max) {
        *out = (uint32_t)v;
        return true;
    }
    snprintf(why, SPEC_WHY_BYTES, "%s %.60s: not a number from 1 to %u", option, text, max);
    return false;
}

static bool partition_parse(const char *text, struct kv_arena *arena, struct kv_keyspace *out, char why[SPEC_WHY_BYTES])
{
    size_t size = strcspn(text, ":");
    const char *rest = text[size] == ':' ? text + size + 1 : text + size;
    snprintf(why, SPEC_WHY_BYTES, "out of memory");
    if (size == 4 && memcmp(text, "hash", 4) == 0) {
        out->kind = KV_KEY_HASH;
        return *rest == 0 || number_parse("--partition hash:", rest, KV_KEYSPACE_PARTITIONS_MAX, &out->partitions, why);
    }
    if (size == 5 && memcmp(text, "range", 5) == 0) {
        out->kind = KV_KEY_RANGE;
        return range_parse(rest, arena, out, why);
    }
    if (size == 4 && memcmp(text, "list", 4) == 0) {
        out->kind = KV_KEY_LIST;
        return list_parse(rest, arena, out, why);
    }
    snprintf(why, SPEC_WHY_BYTES, "--partition %.60s: not hash[:P], range[:KEY,KEY,..] or list:GROUP=LABEL|LABEL,..", text);
    return false;
}

bool spec_parse(const struct spec_words *w, struct kv_arena *arena, struct kv_keyspace *out, char why[SPEC_WHY_BYTES])
{
    *out = (struct kv_keyspace){.name = kv_str(w->name)};
    if (!kv_name_is_valid(out->name)) {
        snprintf(why, SPEC_WHY_BYTES, "'%.80s' is no name: a letter, then letters, digits, - _ . up to %d bytes", w->name,
                 KV_NAME_BYTES_MAX);
        return false;
    }
    if (w->partition == NULL) {
        snprintf(why, SPEC_WHY_BYTES, "needs --partition: hash[:P], range[:KEY,KEY,..] or list:GROUP=LABEL|LABEL,..");
        return false;
    }
    if (!partition_parse(w->partition, arena, out, why)) return false;
    if (w->replicas != NULL && !number_parse("--replicas", w->replicas, KV_REPLICAS_MAX, &out->replicas, why)) return false;
    if ((w->delimiter != NULL || w->default_group != NULL) && out->kind != KV_KEY_LIST) {
        snprintf(why, SPEC_WHY_BYTES, "--delimiter and --default are for list keyspaces");
        return false;
    }
    out->delimiter = '/';
    if (w->delimiter != NULL && strlen(w->delimiter) != 1) {
        snprintf(why, SPEC_WHY_BYTES, "--delimiter %.60s: not one byte", w->delimiter);
        return false;
    }
    if (w->delimiter != NULL) out->delimiter = (uint8_t)w->delimiter[0];
    if (w->default_group != NULL) out->default_group = kv_str(w->default_group);
    return true;
}
