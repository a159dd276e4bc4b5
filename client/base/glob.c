/* Globs as Redis' KEYS and SCAN MATCH take them. Of all stars before the current
 * place only the last one can still matter: whatever an earlier one could give
 * up, the last one can take. So there is one place to go back to, no recursion,
 * and the cost is at most pattern times text. */
#include "client/base/text.h"

enum { GLOB_STEPS_MAX = 1 << 20 };

static uint8_t glob_fold(uint8_t c, bool ignore_case)
{
    return ignore_case && c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

/* Judges `c` against the class that opens at *p ('[') and moves *p behind it. A class
 * that is never closed ends with the pattern. */
static bool glob_class(const uint8_t **p, const uint8_t *end, uint8_t c, bool ignore_case)
{
    const uint8_t *s = *p + 1;
    bool negated = s < end && *s == '^';
    if (negated) s++;
    bool match = false;
    c = glob_fold(c, ignore_case);
    for (; s < end && *s != ']'; s++) {
        if (*s == '\\' && end - s >= 2) {
            s++;
            match |= glob_fold(*s, ignore_case) == c;
        } else if (end - s >= 3 && s[1] == '-') {
            uint8_t from = glob_fold(s[0], ignore_case), to = glob_fold(s[2], ignore_case);
            match |= from <= to ? from <= c && c <= to : to <= c && c <= from;
            s += 2;
        } else {
            match |= glob_fold(*s, ignore_case) == c;
        }
    }
    *p = s < end ? s + 1 : end;
    return match != negated;
}

/* Matches one character against the pattern element at *p, which is no star. */
static bool glob_one(const uint8_t **p, const uint8_t *end, uint8_t c, bool ignore_case)
{
    if (**p == '[') return glob_class(p, end, c, ignore_case);
    if (**p == '?') {
        ++*p;
        return true;
    }
    if (**p == '\\' && end - *p >= 2) ++*p;
    uint8_t literal = *(*p)++;
    return glob_fold(literal, ignore_case) == glob_fold(c, ignore_case);
}

bool kv_glob_match(struct kv_slice pattern, struct kv_slice text, bool ignore_case)
{
    static const uint8_t nothing[1] = {0};
    const uint8_t *p = pattern.size == 0 ? nothing : pattern.data, *p_end = p + pattern.size;
    const uint8_t *t = text.size == 0 ? nothing : text.data, *t_end = t + text.size;
    const uint8_t *star = NULL, *star_text = NULL; /* behind the last star; what it takes up to */
    for (uint32_t steps = 0; t < t_end; steps++) {
        if (steps >= GLOB_STEPS_MAX) return false;
        if (p < p_end && *p == '*') {
            star = ++p;
            star_text = t;
            if (star == p_end) return true;
            continue;
        }
        if (p < p_end && glob_one(&p, p_end, *t, ignore_case)) {
            t++;
            continue;
        }
        if (star == NULL) return false;
        p = star; /* let the star take one more */
        t = ++star_text;
    }
    while (p < p_end && *p == '*') p++;
    return p == p_end;
}
