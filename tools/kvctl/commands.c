#include <stdlib.h>
#include <string.h>

#include "client/base/text.h"
#include "tools/kvctl/kvctl.h"

/* Every command once: parsing, help, completion and the REPL come from these rows. */
const struct command commands[] = {
    {"put", "KEY VALUE|-", "store a value; - takes it from stdin", "ttl if-absent",
     "kvctl put greeting 'hello' --ttl 10m", 2, 2, put_run, true},
    {"get", "KEY [-]", "print a value; with - exactly its bytes", "", "kvctl get greeting", 1, 2, get_run, true},
    {"del", "KEY..", "delete keys; prints how many there were", "", "kvctl del greeting farewell", 1,
     ARGS_WORDS_MAX, del_run, true},
    {"cas", "KEY NEW|-", "replace a value if it is still the expected one (else exit 4)", "version old",
     "kvctl cas greeting --old hello 'good day'", 2, 2, cas_run, true},
    {"incr", "KEY [N]", "add N (default 1) to a number and print it", "", "kvctl incr visits -5", 1, 2, incr_run, true},
    {"scan", "", "list rows: of a range keyspace in key order, else by slot or label and then by key", "prefix from to limit cursor",
     "kvctl scan --prefix user: --limit 20", 0, 0, scan_run, true},
    {"import", "FILE|-", "store the rows of a TSV or JSON lines file; an interrupted import goes on",
     "format restart in-flight", "kvctl import packages.tsv", 1, 1, import_run, true},
    {"export", "FILE|-", "write rows to a TSV or JSON lines file", "format prefix from to",
     "kvctl export backup.jsonl", 1, 1, export_run, true},
    {"keyspace create", "NAME", "make a keyspace; returns when every partition of it is led",
     "partition replicas delimiter default", "kvctl keyspace create users --partition 'list:eu=de|fr,us=us' --replicas 3 --default us",
     1, 1, keyspace_create_run, true},
    {"keyspace list", "", "the keyspaces there are", "", "kvctl keyspace list", 0, 0, keyspace_list_run, true},
    {"keyspace show", "NAME", "a keyspace and its partitions: ranges, epochs, leaders", "", "kvctl keyspace show users", 1, 1,
     keyspace_show_run, true},
    {"keyspace alter", "NAME", "change how many replicas it has, in which zones, and add labels; waits until it is so", "replicas zones group partition no-wait",
     "kvctl keyspace alter users --replicas 5 --zones a,b,c", 1, 1, keyspace_alter_run, true},
    {"keyspace drop", "NAME", "delete a keyspace with all its keys", "yes force", "kvctl keyspace drop users --yes users", 1, 1,
     keyspace_drop_run, true},
    {"keyspace split", "NAME", "split the partition that holds a key, there; of a hash keyspace at the key's slot", "at no-wait",
     "kvctl keyspace split users --at eu/m", 1, 1, keyspace_split_run, true},
    {"keyspace merge", "NAME", "let the partition that begins at a key end in the one before it", "at no-wait",
     "kvctl keyspace merge users --at eu/m", 1, 1, keyspace_merge_run, true},
    {"explain", "OP [KEY]", "which partitions an operation asks and which are pruned; OP: get scan put del cas incr", "prefix from to",
     "kvctl explain scan --prefix '{user:4711}'", 1, 2, explain_run, true},
    {"partition move", "ID FROM TO", "move a replica between nodes and wait for it; FROM 0 adds one, TO 0 ends one; FROM as TO: to another worker of it", "no-wait",
     "kvctl partition move 4 2 5 --timeout 1m", 3, 3, partition_move_run, true},
    {"partition lead", "ID NODE", "let the voter on that node lead a partition whenever it can", "", "kvctl partition lead 4 5", 2,
     2, partition_lead_run, true},
    {"job list", "", "changes of placement under way, and the last that ended", "", "kvctl job list", 0, 0, job_list_run, true},
    {"job show", "ID", "how a job stands: progress, fence, runner, what it waits for", "", "kvctl job show 12 -o json", 1, 1, job_show_run, true},
    {"job wait", "ID", "wait until it has ended; exits 4 if it was cancelled, 7 after --timeout", "", "kvctl job wait 12 --timeout 1m", 1, 1,
     job_wait_run, true},
    {"job pause", "ID", "go no further with it; a copy that a move began is given up", "", "kvctl job pause 12", 1, 1, job_set_run, true},
    {"job resume", "ID", "go on with it", "", "kvctl job resume 12", 1, 1, job_set_run, true},
    {"job cancel", "ID", "take back what it began, and end it", "", "kvctl job cancel 12", 1, 1, job_set_run, true},
    {"hot", "", "the hottest keys: requests a second, and by how much that may be too high", "limit", "kvctl hot --keyspace users --limit 10", 0, 0, hot_run,
     true},
    {"status", "", "nodes and groups; exits 6 if a group lacks a quorum", "", "kvctl status", 0, 0, status_run, true},
    {"ready", "", "wait until every node named takes writes and reads of every group", "",
     "kvctl ready --addr 127.0.0.1:7401 --timeout 5s", 0, 0, ready_run, true},
    {"node list", "", "the nodes of the cluster", "", "kvctl node list", 0, 0, node_list_run, true},
    {"node show", "ID", "what a node says of itself, as JSON", "", "kvctl node show 2", 1, 1, node_show_run, true},
    {"node token", "", "make a token that lets one new node join", "ttl", "kvctl node token --ttl 1h", 0, 0, node_token_run, true},
    {"node cordon", "ID", "the node gets no new replicas", "dry-run", "kvctl node cordon 4", 1, 1, node_state_run, true},
    {"node uncordon", "ID", "it may have some again; ends a drain too", "dry-run", "kvctl node uncordon 4", 1, 1, node_state_run, true},
    {"node drain", "ID", "its replicas go to other nodes, as a job; refused if one has nowhere to go", "dry-run force", "kvctl node drain 4 --dry-run", 1, 1,
     node_state_run, true},
    {"node remove", "ID", "the node, without replicas by now, leaves the cluster for good", "dry-run", "kvctl node remove 4", 1, 1,
     node_state_run, true},
    {"node replace", "ID", "give a node's replicas new ids, after its data were lost", "",
     "kvctl node replace 2", 1, 1, node_replace_run, true},
    {"log level", "NODE MODULE=LEVEL", "change what a node writes into its own log", "",
     "kvctl log level 1 raft=debug,peer=info", 2, 2, log_level_run, true},
    {"history check", "FILE", "judge what clients saw: linearizable or not, JSON lines or EDN", "model limit",
     "kvctl history check register.jsonl --limit 60s", 1, 1, history_check_run, false},
    {"passwd", "", "ask for a password, print the line for resp.password, or a user's for the file of resp.users", "user",
     "kvctl passwd --user app --keyspace orders >>users", 0, 0, passwd_run, false},
    {"completion", "bash", "print the completion script of a shell", "", ". <(kvctl completion bash)", 1, 1,
     completion_run, false},
    {"version", "", "print the version", "", "kvctl version", 0, 0, version_run, false},
    {0}};

const struct command *command_find(const struct args *a, uint32_t *name_words)
{
    for (const struct command *c = commands; c->name != NULL; c++) {
        const char *blank = strchr(c->name, ' ');
        *name_words = blank == NULL ? 1 : 2;
        if (a->word_count < *name_words) continue;
        size_t first = blank == NULL ? strlen(c->name) : (size_t)(blank - c->name);
        if (strlen(a->words[0]) != first || memcmp(a->words[0], c->name, first) != 0) continue;
        if (blank == NULL || strcmp(a->words[1], blank + 1) == 0) return c;
    }
    return NULL;
}

static bool in_list(const char *list, const char *name)
{
    size_t size = strlen(name);
    for (const char *at = list; *at != 0; at += strcspn(at, " "), at += *at == ' ')
        if (strcspn(at, " ") == size && memcmp(at, name, size) == 0) return true;
    return false;
}

static void options_help(const char *list, FILE *out)
{
    for (uint32_t i = 0; args_option(i) != NULL; i++) {
        const struct args_option *o = args_option(i);
        char text[64];
        if (!in_list(list, o->name)) continue;
        snprintf(text, sizeof text, "%s%c%s--%s %s", o->letter != 0 ? "-" : "", o->letter != 0 ? o->letter : ' ',
                 o->letter != 0 ? ", " : "   ", o->name, o->value);
        fprintf(out, "  %-32s %s\n", text, o->help);
    }
}

void command_help(const struct command *c, FILE *out)
{
    fprintf(out, "kvctl %s%s%s\n  %s\n\n", c->name, c->operands[0] != 0 ? " " : "", c->operands, c->summary);
    if (c->options[0] != 0) fprintf(out, "options\n");
    options_help(c->options, out);
    fprintf(out, "%sexample\n  %s\n\nof every command\n", c->options[0] != 0 ? "\n" : "", c->example);
    options_help(GLOBAL_OPTIONS, out);
}

void commands_help(FILE *out)
{
    fprintf(out, "kvctl COMMAND [OPTIONS], or kvctl alone for a prompt\n\n");
    for (const struct command *c = commands; c->name != NULL; c++)
        fprintf(out, "  %-14s %-18s %s\n", c->name, c->operands, c->summary);
    fprintf(out, "\noptions\n");
    options_help(GLOBAL_OPTIONS, out);
    fprintf(out, "\nexit codes: 0 ok, 1 internal, 2 usage or malformed input, 3 not found, 4 condition failed,\n"
                 "5 auth, 6 no quorum, 7 timeout or maybe applied, 8 throttled\n"
                 "example\n  kvctl put greeting hello && kvctl get greeting\n"
                 "kvctl COMMAND --help says more, with an example.\n");
}

bool command_globals(struct kvctl *k, const struct args *a)
{
    const char *keyspace = args_get(a, "keyspace");
    const char *timeout = args_get(a, "timeout"), *format = args_get(a, "output"), *level = args_get(a, "level");
    if (keyspace != NULL) {
        if (!kv_name_is_valid(kv_str(keyspace))) {
            kvctl_say(k, "--keyspace %s: not a name; next: kvctl keyspace list", keyspace);
            return false;
        }
        if (strcmp(k->keyspace, keyspace) != 0) kvctl_close(k); /* the handle is of another */
        memcpy(k->keyspace, keyspace, strlen(keyspace) + 1);
    }
    if (timeout != NULL) {
        uint64_t ns;
        if (!kv_parse_duration(timeout, &ns) || ns < 1000000u || ns / 1000000u > UINT32_MAX) {
            kvctl_say(k, "--timeout %s: not a duration from 1ms on, as 500ms or 5s", timeout);
            return false;
        }
        k->timeout_ms = (uint32_t)(ns / 1000000u);
        k->timeout_given = true;
        if (k->kv != NULL) kv_set_timeout(k->kv, k->timeout_ms);
    }
    if (format != NULL) {
        if (strcmp(format, "table") == 0) k->format = FORMAT_TABLE;
        else if (strcmp(format, "json") == 0) k->format = FORMAT_JSON;
        else if (strcmp(format, "raw") == 0) k->format = FORMAT_RAW;
        else {
            kvctl_say(k, "--output %s: not table, json or raw", format);
            return false;
        }
    }
    if (level != NULL && !kv_level_parse(kv_str(level), &k->level, &k->bounded_ms)) {
        kvctl_say(k, "--level %s: not linearizable, lease, bounded:MS or any", level);
        return false;
    }
    if (args_get(a, "quiet") != NULL) k->quiet = true;
    if (k->quiet) k->progress = false;
    return true;
}

/* "node" alone lacks its second word; anything else is no command. */
static int command_unknown(const struct kvctl *k, const char *word)
{
    char seconds[128] = "";
    size_t size = strlen(word);
    for (const struct command *c = commands; c->name != NULL; c++) {
        size_t used = strlen(seconds);
        if (size > 0 && strncmp(c->name, word, size) == 0 && c->name[size] == ' ')
            snprintf(seconds + used, sizeof seconds - used, "%s%s", used > 0 ? ", " : "", c->name + size + 1);
    }
    if (seconds[0] != 0) return kvctl_usage(k, "%s: one of %s must follow; next: kvctl --help", word, seconds);
    return kvctl_usage(k, "unknown command %.100s; next: kvctl --help", word);
}

/* "help put", "help node list" */
static int command_help_of(const struct kvctl *k, const struct args *a)
{
    struct args rest = *a;
    uint32_t name_words;
    rest.word_count--;
    memmove(rest.words, rest.words + 1, rest.word_count * sizeof rest.words[0]);
    const struct command *c = command_find(&rest, &name_words);
    if (c == NULL) return command_unknown(k, rest.words[0]);
    command_help(c, stdout);
    return EXIT_OK;
}

int command_run(struct kvctl *k, const struct args *a)
{
    uint32_t name_words = 0;
    k->command = NULL;
    if (a->word_count > 1 && strcmp(a->words[0], "help") == 0) return command_help_of(k, a);
    const struct command *c = command_find(a, &name_words);
    if (c == NULL && (args_get(a, "help") != NULL || (a->word_count > 0 && strcmp(a->words[0], "help") == 0))) {
        commands_help(stdout);
        return EXIT_OK;
    }
    if (c == NULL) return command_unknown(k, a->word_count > 0 ? a->words[0] : "");
    k->command = c->name;
    if (args_get(a, "help") != NULL) {
        command_help(c, stdout);
        return EXIT_OK;
    }
    for (uint32_t i = 0; args_option(i) != NULL; i++) {
        const char *name = args_option(i)->name;
        if (args_get(a, name) != NULL && !in_list(GLOBAL_OPTIONS, name) && !in_list(c->options, name))
            return kvctl_usage(k, "has no option --%s; next: kvctl %s --help", name, c->name);
    }
    uint32_t count = a->word_count - name_words;
    if (count < c->words_min || count > c->words_max)
        return kvctl_usage(k, "takes %s, not %u words; as: %s", c->operands[0] != 0 ? c->operands : "no words", count,
                           c->example);
    if (!command_globals(k, a)) return EXIT_USAGE;
    return c->run(k, a, a->words + name_words, count);
}

int version_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)k;
    (void)a;
    (void)words;
    (void)count;
    printf("kvctl 0.1.0 (protocol %s)\n", "kvd/1");
    return EXIT_OK;
}
