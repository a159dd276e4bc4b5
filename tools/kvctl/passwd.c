#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "server/users.h"
#include "tools/kvctl/kvctl.h"

/* Reads a line without showing it. False: the end of input. */
static bool secret_read(const char *prompt, char *out, size_t size)
{
    struct termios old;
    bool tty = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &old) == 0;
    if (tty) {
        struct termios quiet = old;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
        fprintf(stderr, "%s", prompt);
    }
    bool good = fgets(out, (int)size, stdin) != NULL;
    if (tty) {
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
        fputc('\n', stderr);
    }
    out[good ? strcspn(out, "\r\n") : 0] = 0;
    return good;
}

/* Of resp.users: a user's whole line; without --user the one of resp.password. */
static bool user_is_good(const struct kvctl *k, const char *user, const char *keyspace)
{
    if (user == NULL && keyspace != NULL) {
        kvctl_say(k, "--keyspace binds a user; next: --user NAME");
        return false;
    }
    if (user != NULL && !kv_name_is_valid(kv_str(user))) {
        kvctl_say(k, "--user %.80s: a name is a letter, then letters, digits, - _ . up to %d bytes", user, KV_NAME_BYTES_MAX);
        return false;
    }
    if (user != NULL && strcmp(user, USER_DEFAULT) == 0) {
        kvctl_say(k, "user default is the one of resp.password; next: kvctl passwd without --user, or another name");
        return false;
    }
    return true;
}

int passwd_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)words;
    (void)count;
    char first[256], again[256], line[PASSWD_LINE_BYTES];
    int code = EXIT_USAGE;
    const char *user = args_get(a, "user"), *keyspace = args_get(a, "keyspace");
    if (!user_is_good(k, user, keyspace)) return EXIT_USAGE;
    if (!secret_read("password: ", first, sizeof first) || first[0] == 0) {
        kvctl_say(k, "an empty password protects nothing");
    } else if (strlen(first) == sizeof first - 1) {
        kvctl_say(k, "a password has at most %zu bytes", sizeof first - 2);
    } else if (isatty(STDIN_FILENO) &&
               (!secret_read("again: ", again, sizeof again) || strcmp(first, again) != 0)) {
        kvctl_say(k, "the two differ");
    } else {
        enum kv_err err = passwd_make(kv_str(first), line);
        code = err == KV_OK ? EXIT_OK : EXIT_INTERNAL;
        if (err == KV_OK && user != NULL) printf("%s %s %s\n", user, keyspace != NULL ? keyspace : "*", line);
        else if (err == KV_OK) puts(line);
        else kvctl_say(k, "%s", kv_err_text(err));
    }
    explicit_bzero(first, sizeof first);
    return code;
}
