#include <errno.h>
#include <histedit.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/kvctl/kvctl.h"

/* The prompt: the same commands, one connection, history over sessions, names completed with Tab.
 * Without a terminal it reads commands line by line and stops with the first that fails. */
enum { REPL_LINE_BYTES = 64 << 10, REPL_HISTORY = 1000 };

static char *repl_prompt(EditLine *el)
{
    (void)el;
    return (char *)"kv> "; /* libedit wants a char *, and writes nothing */
}

/* Tab: the only command that begins so is put in; several are listed. */
static unsigned char repl_complete(EditLine *el, int ch)
{
    (void)ch;
    const LineInfo *line = el_line(el);
    size_t size = (size_t)(line->cursor - line->buffer);
    const struct command *only = NULL;
    uint32_t found = 0;
    for (const struct command *c = commands; c->name != NULL; c++)
        if (strncmp(c->name, line->buffer, size) == 0) {
            only = c;
            found++;
        }
    if (found == 0) return CC_ERROR;
    if (found == 1) {
        char rest[64];
        snprintf(rest, sizeof rest, "%s ", only->name + size);
        return el_insertstr(el, rest) == 0 ? CC_REFRESH : CC_ERROR;
    }
    fputc('\n', stderr);
    for (const struct command *c = commands; c->name != NULL; c++)
        if (strncmp(c->name, line->buffer, size) == 0) fprintf(stderr, "%s  ", c->name);
    fputc('\n', stderr);
    return CC_REDISPLAY;
}

/* Runs one line; options given there hold for that line only. *leave: it was exit or quit. */
static int repl_words(struct kvctl *k, const char *line, char *storage, bool *leave)
{
    const char *words[ARGS_WORDS_MAX];
    struct args a;
    char why[ARGS_WHY_BYTES];
    k->command = NULL;
    int count = args_split(line, storage, REPL_LINE_BYTES, words, ARGS_WORDS_MAX, why);
    if (count < 0) return kvctl_usage(k, "%s", why);
    if (count == 0) return EXIT_OK;
    *leave = strcmp(words[0], "exit") == 0 || strcmp(words[0], "quit") == 0;
    if (*leave) return EXIT_OK;
    if (!args_parse(&a, count, words, why)) return kvctl_usage(k, "%s", why);
    if (args_get(&a, "cluster") != NULL || args_get(&a, "addr") != NULL || args_get(&a, "key") != NULL)
        return kvctl_usage(k, "--cluster, --addr and --key are chosen when kvctl starts");
    struct kvctl before = *k;
    int code = command_run(k, &a);
    before.kv = k->kv; /* a connection that the line opened stays */
    *k = before;
    if (k->kv != NULL) kv_set_timeout(k->kv, k->timeout_ms);
    return code;
}

static int repl_line(struct kvctl *k, const char *line, bool *leave)
{
    char *storage = malloc(REPL_LINE_BYTES);
    if (storage == NULL) return EXIT_INTERNAL;
    int code = repl_words(k, line, storage, leave);
    free(storage);
    return code;
}

static bool history_path(char path[PATH_MAX])
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (state != NULL && state[0] == '/') n = snprintf(path, PATH_MAX, "%s/kvctl_history", state);
    else if (home != NULL) n = snprintf(path, PATH_MAX, "%s/.kvctl_history", home);
    return n > 0 && n < PATH_MAX;
}

static void history_save(History *past, const char *path)
{
    HistEvent event;
    mode_t old = umask(077); /* values stand in it */
    (void)history(past, &event, H_SAVE, path);
    (void)umask(old);
}

static int repl_script(struct kvctl *k)
{
    char *line = malloc(REPL_LINE_BYTES);
    bool leave = false;
    int code = EXIT_OK;
    if (line == NULL) return EXIT_INTERNAL;
    while (code == EXIT_OK && !leave && fgets(line, REPL_LINE_BYTES, stdin) != NULL) {
        if (strchr(line, '\n') == NULL && !feof(stdin))
            code = kvctl_usage(k, "a line of more than %d bytes; next: kvctl import", REPL_LINE_BYTES - 2);
        else
            code = repl_line(k, line, &leave);
    }
    free(line);
    return code;
}

int repl_run(struct kvctl *k)
{
    if (!isatty(STDIN_FILENO)) return repl_script(k);
    char path[PATH_MAX];
    bool keep = history_path(path), leave = false;
    HistEvent event;
    History *past = history_init();
    EditLine *el = el_init("kvctl", stdin, stdout, stderr);
    if (past == NULL || el == NULL) {
        if (past != NULL) history_end(past);
        if (el != NULL) el_end(el);
        kvctl_say(k, "no line editor on this terminal");
        return EXIT_INTERNAL;
    }
    (void)history(past, &event, H_SETSIZE, REPL_HISTORY);
    (void)history(past, &event, H_SETUNIQUE, 1);
    if (keep) (void)history(past, &event, H_LOAD, path);
    (void)el_set(el, EL_HIST, history, past);
    (void)el_set(el, EL_PROMPT, repl_prompt);
    (void)el_set(el, EL_EDITOR, "emacs");
    (void)el_set(el, EL_SIGNAL, 1);
    (void)el_set(el, EL_ADDFN, "kvctl-complete", "complete a command", repl_complete);
    (void)el_set(el, EL_BIND, "^I", "kvctl-complete", NULL);
    fprintf(stderr, "%s (%s); help lists the commands, exit leaves\n", k->target.addresses, k->target.source);
    int size;
    const char *line;
    while (!leave && (line = el_gets(el, &size)) != NULL && size > 0) {
        if (line[0] != '\n') (void)history(past, &event, H_ENTER, line);
        if (keep) history_save(past, path); /* now: the session may end by Ctrl-C or with its terminal */
        (void)repl_line(k, line, &leave);
        fflush(stdout);
    }
    el_end(el);
    history_end(past);
    if (!leave) fputc('\n', stderr);
    return EXIT_OK;
}
