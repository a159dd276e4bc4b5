#include "jepsen/recorder.h"

bool recorder_open(struct recorder *r, const char *path, struct env *env)
{
    *r = (struct recorder){.out = fopen(path, "we"), .env = env, .start_ns = env_now_ns(env)};
    return r->out != NULL;
}

void recorder_event(struct recorder *r, const struct history_event *e, json_t *value)
{
    struct history_event now = *e;
    now.value = value;
    now.time_ns = env_now_ns(r->env) - r->start_ns;
    history_write_json(r->out, r->index++, &now);
    r->counts[e->type]++;
    json_decref(value);
}

/* Digits differ from one error to the next of its kind; they end the words that are kept. */
void recorder_error(struct recorder *r, const char *text)
{
    char words[RECORDER_ERROR_BYTES];
    size_t n = 0;
    while (n + 1 < sizeof words && text[n] != '\0' && (text[n] < '0' || text[n] > '9')) {
        words[n] = text[n];
        n++;
    }
    while (n > 0 && words[n - 1] == ' ') n--;
    words[n] = '\0';
    uint32_t i = 0;
    while (i < r->error_count && strcmp(r->errors[i].text, words) != 0) i++;
    if (i == RECORDER_ERRORS_MAX) return;
    if (i == r->error_count) memcpy(r->errors[r->error_count++].text, words, sizeof words);
    r->errors[i].count++;
}

bool recorder_close(struct recorder *r)
{
    bool good = !ferror(r->out) && !r->failed;
    if (fclose(r->out) != 0) good = false;
    r->out = NULL;
    return good;
}
