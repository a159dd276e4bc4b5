#include "tools/kvctl/args.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static const struct args_option options[] = {
#define X(name, letter, value, help) {name, letter, value, help},
    KVCTL_OPTIONS(X)
#undef X
};
enum { OPTION_COUNT = sizeof options / sizeof options[0] };
_Static_assert(sizeof options / sizeof options[0] <= ARGS_OPTIONS_MAX, "room for every option");

const struct args_option *args_option(uint32_t index)
{
    return index < OPTION_COUNT ? &options[index] : NULL;
}

const char *args_get(const struct args *a, const char *name)
{
    for (uint32_t i = 0; i < OPTION_COUNT; i++)
        if (strcmp(options[i].name, name) == 0) return a->values[i];
    assert(false && "an option of the table");
    return NULL;
}

static int option_find(const char *name, size_t size)
{
    for (uint32_t i = 0; i < OPTION_COUNT; i++)
        if (strlen(options[i].name) == size && memcmp(options[i].name, name, size) == 0) return (int)i;
    return -1;
}

static int option_letter(char letter)
{
    for (uint32_t i = 0; i < OPTION_COUNT; i++)
        if (options[i].letter == letter) return (int)i;
    return -1;
}

static bool is_word(const char *s)
{
    return s[0] != '-' || s[1] == 0 || (s[1] >= '0' && s[1] <= '9');
}

bool args_parse(struct args *a, int argc, const char *const *argv, char why[ARGS_WHY_BYTES])
{
    bool only_words = false;
    memset(a, 0, sizeof *a);
    for (int i = 0; i < argc; i++) {
        const char *s = argv[i];
        if (only_words || is_word(s)) {
            if (a->word_count == ARGS_WORDS_MAX) {
                snprintf(why, ARGS_WHY_BYTES, "more than %d words", ARGS_WORDS_MAX);
                return false;
            }
            a->words[a->word_count++] = s;
            continue;
        }
        if (strcmp(s, "--") == 0) {
            only_words = true;
            continue;
        }
        const char *value = NULL;
        int found;
        if (s[1] == '-') {
            size_t size = strcspn(s + 2, "=");
            found = option_find(s + 2, size);
            if (s[2 + size] == '=') value = s + 3 + size;
        } else {
            found = option_letter(s[1]);
            if (s[2] != 0) value = s + 2;
        }
        if (found < 0) {
            snprintf(why, ARGS_WHY_BYTES, "unknown option %.100s (a word may begin with '-' behind --)", s);
            return false;
        }
        bool is_flag = options[found].value[0] == 0;
        if (is_flag && value != NULL) {
            snprintf(why, ARGS_WHY_BYTES, "--%s takes no value", options[found].name);
            return false;
        }
        if (!is_flag && value == NULL) {
            if (i + 1 == argc) {
                snprintf(why, ARGS_WHY_BYTES, "--%s needs a value: %s", options[found].name,
                         options[found].value);
                return false;
            }
            value = argv[++i];
        }
        if (a->values[found] != NULL) {
            snprintf(why, ARGS_WHY_BYTES, "--%s is given twice", options[found].name);
            return false;
        }
        a->values[found] = is_flag ? "" : value;
    }
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Reads the escape behind a backslash; returns the characters taken, 0 if it is none. */
static size_t escape(const char *s, char *out)
{
    switch (*s) {
    case 'n': *out = '\n'; return 1;
    case 't': *out = '\t'; return 1;
    case 'r': *out = '\r'; return 1;
    case '\\':
    case '"':
    case '\'':
    case ' ':
        *out = *s;
        return 1;
    case 'x': {
        int high = hex_digit(s[1]), low = high < 0 ? -1 : hex_digit(s[2]);
        if (low < 0 || high + low == 0) return 0;
        *out = (char)(high * 16 + low);
        return 3;
    }
    default: return 0;
    }
}

int args_split(const char *line, char *storage, size_t storage_size, const char **words, int words_max,
               char why[ARGS_WHY_BYTES])
{
    size_t used = 0;
    int count = 0;
    const char *s = line;
    for (;;) {
        while (*s == ' ' || *s == '\t' || *s == '\n' || *s == '\r') s++;
        if (*s == 0 || *s == '#') return count;
        if (count == words_max) {
            snprintf(why, ARGS_WHY_BYTES, "more than %d words", words_max);
            return -1;
        }
        words[count++] = storage + used;
        char quote = 0;
        for (; *s != 0; s++) {
            if (used + 2 > storage_size) {
                snprintf(why, ARGS_WHY_BYTES, "the line is longer than %zu bytes", storage_size);
                return -1;
            }
            if (quote == 0 && (*s == ' ' || *s == '\t' || *s == '\n' || *s == '\r')) break;
            if (quote == 0 && (*s == '"' || *s == '\'')) {
                quote = *s;
            } else if (quote != 0 && *s == quote) {
                quote = 0;
            } else if (*s == '\\' && quote != '\'') {
                size_t taken = escape(s + 1, &storage[used]);
                if (taken == 0) {
                    snprintf(why, ARGS_WHY_BYTES, "bad escape %.4s (know \\n \\t \\r \\\\ \\\" \\' \\xHH, not \\x00)", s);
                    return -1;
                }
                used++;
                s += taken;
            } else {
                storage[used++] = *s;
            }
        }
        if (quote != 0) {
            snprintf(why, ARGS_WHY_BYTES, "a %c is not closed", quote);
            return -1;
        }
        storage[used++] = 0;
    }
}
