#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/kvctl/kvctl.h"

/* kvctl: the command line of a kvd cluster. One command, or a prompt if there is none. */
int main(int argc, char **argv)
{
    struct kvctl k = {.timeout_ms = KV_TIMEOUT_MS_DEFAULT, .progress = isatty(STDERR_FILENO) != 0};
    struct args a;
    char why[1024];
    (void)setlocale(LC_CTYPE, "");
    (void)signal(SIGPIPE, SIG_IGN); /* a closed stdout is an error with a line, not a death */
    if (argc == 2 && strcmp(argv[1], "--version") == 0) argv[1] = "version"; /* else an option of cas */
    if (!args_parse(&a, argc - 1, (const char *const *)(argv + 1), why))
        return kvctl_usage(&k, "%s; next: kvctl --help", why);
    struct target_hints hints = {.cluster = args_get(&a, "cluster"),
                                 .addr = args_get(&a, "addr"),
                                 .key = args_get(&a, "key"),
                                 .env_cluster = getenv("KVD_CLUSTER"),
                                 .env_addr = getenv("KVD_ADDR"),
                                 .env_key = getenv("KVD_KEY")};
    uint32_t name_words;
    const struct command *c = command_find(&a, &name_words);
    bool offline = args_get(&a, "help") != NULL || (a.word_count > 0 && (c == NULL || !c->online));
    if (!offline && !target_find(&k.target, &hints, why, sizeof why)) return kvctl_usage(&k, "%s", why);
    int code;
    if (a.word_count == 0 && args_get(&a, "help") == NULL)
        code = command_globals(&k, &a) ? repl_run(&k) : EXIT_USAGE;
    else
        code = command_run(&k, &a);
    kvctl_close(&k);
    if (fflush(stdout) != 0 && code == EXIT_OK) {
        code = EXIT_INTERNAL;
        kvctl_say(&k, "stdout cannot be written: %s", strerror(errno));
    }
    return code;
}
