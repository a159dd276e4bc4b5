#include "server/journal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/base/text.h"

/* (1) An event is exactly one line: control bytes of values are escaped, a long one is cut.
 * (2) No allocation: a line about running out of memory still comes out.
 * (3) A call site that repeats itself costs at most LINES_MAX lines a second. */

enum { FIELDS_BYTES = 1024, LINE_BYTES = 6 * FIELDS_BYTES, LINES_MAX = 20 };

static const char *const module_names[] = {
#define X(name) #name,
    JOURNAL_MODULES(X)
#undef X
};
static const char *const level_names[] = {"error", "warn", "info", "debug"};
enum { LEVEL_COUNT = sizeof level_names / sizeof level_names[0] };

static int find_name(const char *const *names, int count, const char *text, size_t size)
{
    for (int i = 0; i < count; i++)
        if (strlen(names[i]) == size && memcmp(names[i], text, size) == 0) return i;
    return -1;
}

enum kv_err journal_set(struct journal *j, const char *levels, const char **why)
{
    enum journal_level next[JOURNAL_MODULE_COUNT];
    memcpy(next, j->levels, sizeof next);
    for (const char *word = levels;;) {
        size_t size = strcspn(word, ",");
        const char *equals = memchr(word, '=', size);
        const char *level_text = equals == NULL ? word : equals + 1;
        int module = -1;
        int level =
            find_name(level_names, LEVEL_COUNT, level_text, size - (size_t)(level_text - word));
        if (equals != NULL)
            module = find_name(module_names, JOURNAL_MODULE_COUNT, word, (size_t)(equals - word));
        if (level < 0 || (equals != NULL && module < 0)) {
            *why = word;
            return KV_BAD_ARGUMENT;
        }
        for (int m = 0; m < JOURNAL_MODULE_COUNT; m++)
            if (module < 0 || module == m) next[m] = (enum journal_level)level;
        if (word[size] == '\0') break;
        word += size + 1;
    }
    memcpy(j->levels, next, sizeof next);
    return KV_OK;
}

void journal_text(const struct journal *j, char text[JOURNAL_TEXT_BYTES])
{
    bool same = true;
    size_t used = 0;
    for (int m = 1; m < JOURNAL_MODULE_COUNT; m++) same = same && j->levels[m] == j->levels[0];
    for (int m = 0; m < (same ? 1 : JOURNAL_MODULE_COUNT); m++) {
        int n = snprintf(text + used, JOURNAL_TEXT_BYTES - used, "%s%s%s%s", m > 0 ? "," : "",
                         same ? "" : module_names[m], same ? "" : "=", level_names[j->levels[m]]);
        assert(n > 0 && (size_t)n < JOURNAL_TEXT_BYTES - used);
        used += (size_t)n;
    }
}

struct line {
    char bytes[LINE_BYTES];
    size_t size;
};

static void put(struct line *l, const char *data, size_t size)
{
    assert(l->size + size < sizeof l->bytes); /* the worst case of FIELDS_BYTES fits */
    memcpy(l->bytes + l->size, data, size);
    l->size += size;
}

static void put_text(struct line *l, const char *text)
{
    put(l, text, strlen(text));
}

/* Bytes that could end or forge a line become \xNN, as do all above 127 unless the whole is
 * UTF-8. Returns the size written, less than `out_size`; what does not fit is left out. */
static size_t escape(const char *text, size_t size, char *out, size_t out_size)
{
    bool utf8 = kv_utf8_valid(kv_slice(text, size));
    size_t used = 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != 0x7f && (c < 0x80 || utf8)) {
            if (used + 1 >= out_size) break;
            out[used++] = (char)c;
        } else {
            if (used + 4 >= out_size) break;
            (void)snprintf(out + used, 5, "\\x%02x", c);
            used += 4;
        }
    }
    return used;
}

static void put_json_string(struct line *l, const char *text, size_t size)
{
    put(l, "\"", 1);
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '"' || text[i] == '\\') put(l, "\\", 1);
        put(l, text + i, 1);
    }
    put(l, "\"", 1);
}

/* `group=3 reason="no quorum"` as JSON members. A quoted value ends at a quote before a space
 * or the end; a whole number stays a number, everything else is a string. */
static void put_json_fields(struct line *l, const char *text, size_t size)
{
    const char *end = text + size;
    while (text < end) {
        if (*text == ' ') {
            text++;
            continue;
        }
        const char *name = text;
        while (text < end && *text != '=' && *text != ' ') text++;
        size_t name_size = (size_t)(text - name);
        const char *value = text < end && *text == '=' ? text + 1 : text;
        bool quoted = value < end && *value == '"';
        if (quoted) {
            text = ++value;
            while (text < end && !(*text == '"' && (text + 1 == end || text[1] == ' '))) text++;
        } else {
            text = value;
            while (text < end && *text != ' ') text++;
        }
        size_t value_size = (size_t)(text - value);
        if (quoted && text < end) text++;
        int64_t number;
        put(l, ",", 1);
        put_json_string(l, name, name_size);
        put(l, ":", 1);
        if (!quoted && kv_parse_i64(kv_slice(value, value_size), &number))
            put(l, value, value_size);
        else
            put_json_string(l, value, value_size);
    }
}

static void emit(struct journal *j, uint64_t wall_ns, enum journal_module module,
                 enum journal_level level, const char *event, const char *fields, size_t size)
{
    struct line l;
    l.size = 0;
    time_t seconds = (time_t)(wall_ns / 1000000000u);
    struct tm tm;
    char when[64];
    if (gmtime_r(&seconds, &tm) == NULL) memset(&tm, 0, sizeof tm);
    size_t n = strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(when + n, sizeof when - n, ".%03uZ", (unsigned)(wall_ns / 1000000u % 1000u));
    if (j->json) {
        char head[64];
        put_text(&l, "{\"time\":\"");
        put_text(&l, when);
        (void)snprintf(head, sizeof head, "\",\"node\":%" PRIu32 ",\"level\":\"", j->node);
        put_text(&l, head);
        put_text(&l, level_names[level]);
        put_text(&l, "\",\"module\":\"");
        put_text(&l, module_names[module]);
        put_text(&l, "\",\"event\":");
        put_json_string(&l, event, strlen(event));
        put_json_fields(&l, fields, size);
        put_text(&l, "}\n");
    } else {
        const char *words[] = {when, level_names[level], module_names[module], event};
        for (size_t i = 0; i < 4; i++) {
            put_text(&l, words[i]);
            put(&l, " ", 1);
        }
        put(&l, fields, size);
        if (size == 0) l.size--;
        put(&l, "\n", 1);
    }
    j->write(j->context, kv_slice(l.bytes, l.size));
}

void journal_line(struct journal *j, struct journal_site *site, enum journal_module module,
                  enum journal_level level, const char *event, const char *format, ...)
{
    assert(strlen(event) < 256);
    if (j->event != NULL) j->event(j->context, module, event);
    if (level > j->levels[module]) return;
    uint64_t wall_ns = j->wall_ns(j->context);
    if (wall_ns / 1000000000u != site->second) {
        uint32_t dropped = site->dropped;
        *site = (struct journal_site){.second = wall_ns / 1000000000u};
        if (dropped > 0) {
            char text[64];
            int size = snprintf(text, sizeof text, "event=%s count=%" PRIu32,
                                strlen(event) < 32 ? event : "..", dropped);
            emit(j, wall_ns, module, level, "lines-left-out", text, (size_t)size);
        }
    }
    if (site->count >= LINES_MAX) {
        site->dropped++;
        return;
    }
    site->count++;

    char raw[FIELDS_BYTES], fields[FIELDS_BYTES];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    if (size < 0) size = 0;
    size_t kept = (size_t)size < sizeof raw ? (size_t)size : sizeof raw - 1;
    emit(j, wall_ns, module, level, event, fields, escape(raw, kept, fields, sizeof fields));
}
