/* Runs the transcripts in tests/script/raft: commands, "----", and what they must print.
 *
 *   test_script [--rewrite] [FILE...]   rewrites the expected output with what happened;
 *                                       read the diff before you commit it
 *
 * A line starting with # is the story; a command starting with - is not printed. The
 * commands are listed in tests/script/raft/README.md. Every raft_check() after every
 * command, election safety and state machine safety are asserted on the way. */
#include "tests/unit/raft/stage.h"
#include <glob.h>

struct args {
    char *words[24];
    uint32_t count;
};

static uint64_t number(const char *text)
{
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    if (*end != 0 || end == text) {
        fprintf(stderr, "not a number: %s\n", text);
        exit(2);
    }
    return n;
}

static struct actor *actor(struct stage *s, const char *text)
{
    uint64_t id = number(text);
    if (id == 0 || id > ACTORS) {
        fprintf(stderr, "no such replica: %s\n", text);
        exit(2);
    }
    return &s->actors[id];
}

/* "name=value" -> value */
static const char *option(const struct args *a, const char *name)
{
    size_t length = strlen(name);
    for (uint32_t i = 1; i < a->count; i++)
        if (strncmp(a->words[i], name, length) == 0 && a->words[i][length] == '=')
            return a->words[i] + length + 1;
    return NULL;
}

static uint8_t ids(const char *text, raft_id out[RAFT_MEMBERS_MAX])
{
    uint8_t n = 0;
    while (text != NULL && *text != 0) {
        out[n++] = (raft_id)strtoul(text, NULL, 10);
        text = strchr(text, ',');
        if (text != NULL) text++;
    }
    return n;
}

static struct raft_conf parse_conf(const struct args *a)
{
    struct raft_conf c = {0};
    c.voter_count = ids(option(a, "voters"), c.voters);
    c.old_count = ids(option(a, "old"), c.old);
    c.learner_count = ids(option(a, "learners"), c.learners);
    return c;
}

static const char *verdict_text(enum raft_verdict v)
{
    switch (v) {
    case RAFT_OK: return "ok";
    case RAFT_NOT_LEADER: return "not leader";
    case RAFT_WINDOW_FULL: return "window full";
    case RAFT_CONF_PENDING: return "configuration pending";
    case RAFT_STALE: return "stale";
    }
    return "?";
}

/* ---- commands ---------------------------------------------------------------- */

static void cmd_set(struct stage *s, const struct args *a)
{
    const char *v;
    if ((v = option(a, "disk")) != NULL) s->disk_manual = strcmp(v, "manual") == 0;
    if ((v = option(a, "apply")) != NULL) s->apply_manual = strcmp(v, "manual") == 0;
    if ((v = option(a, "noop")) != NULL) s->noop_off = strcmp(v, "off") == 0;
    if ((v = option(a, "prevote")) != NULL) s->options.prevote = strcmp(v, "off") != 0;
    if ((v = option(a, "quorum")) != NULL) s->options.check_quorum = strcmp(v, "off") != 0;
    if ((v = option(a, "hide")) != NULL) s->hide_beats = strcmp(v, "heartbeats") == 0;
    if ((v = option(a, "lease")) != NULL) s->options.lease_ns = number(v) * MS;
    if ((v = option(a, "drift")) != NULL) s->options.drift_ppm = (uint32_t)number(v);
    if ((v = option(a, "quiet")) != NULL) s->options.quiet_ns = number(v) * MS;
    if ((v = option(a, "window")) != NULL) s->options.window_entries = (uint32_t)number(v);
    if ((v = option(a, "batch")) != NULL) s->options.batch_entries = (uint32_t)number(v);
}

/* add 1 2 3 [voters=1,2,3] [learners=4]: fresh replicas; the first `add` names the configuration */
static void cmd_add(struct stage *s, const struct args *a)
{
    if (s->conf_count == 0) s->confs[s->conf_count++] = parse_conf(a);
    for (uint32_t i = 1; i < a->count; i++) {
        if (strchr(a->words[i], '=') != NULL) continue;
        struct actor *n = actor(s, a->words[i]);
        n->id = (raft_id)number(a->words[i]);
        n->memory = n->memory != NULL ? n->memory : malloc(raft_memory());
        assert(n->memory != NULL);
        n->exists = true;
        start(s, n, true);
    }
}

/* recover 1 log=1,1,2 [term=2] [vote=1] [commit=0]: a replica as storage found it, long after its crash */
static void cmd_recover(struct stage *s, const struct args *a)
{
    struct actor *n = actor(s, a->words[1]);
    const char *v, *log = option(a, "log");
    n->id = (raft_id)number(a->words[1]);
    n->memory = n->memory != NULL ? n->memory : malloc(raft_memory());
    assert(n->memory != NULL);
    n->exists = true;
    while (log != NULL && *log != 0) {
        char *end;
        uint32_t term = (uint32_t)strtoul(log, &end, 10), conf = 0;
        if (*end == 'c') { /* "4c2": changes to configuration 2 of the `known` ones */
            conf = (uint32_t)strtoul(end + 1, &end, 10);
            assert(conf > 0 && conf < s->conf_count);
        }
        raft_index i = ++n->disk_last;
        n->disk[i] = (struct line){term, (uint32_t)(1000000 + term * 1000 + i), conf};
        n->disk_hard.term = term;
        log = *end == ',' ? end + 1 : NULL;
    }
    if ((v = option(a, "term")) != NULL) n->disk_hard.term = number(v);
    if ((v = option(a, "vote")) != NULL) n->disk_hard.vote = (raft_id)number(v);
    if ((v = option(a, "commit")) != NULL) n->disk_hard.commit = number(v);
    if ((v = option(a, "owed")) != NULL) n->owed_index = number(v);
    if ((v = option(a, "owed_term")) != NULL) n->owed_term = number(v);
    start(s, n, true);
}

/* known voters=... [old=...]: names a configuration for `recover` */
static void cmd_known(struct stage *s, const struct args *a)
{
    s->confs[s->conf_count++] = parse_conf(a);
}

/* wait MS [ids]: time passes in steps of 10 ms; only `ids` (default: all) notice */
static void cmd_wait(struct stage *s, const struct args *a)
{
    for (uint64_t left = number(a->words[1]); left > 0;) {
        uint64_t part = left < 10 ? left : 10;
        s->now += part * MS;
        left -= part;
        for (uint32_t i = 1; i <= ACTORS; i++) {
            bool named = a->count == 2;
            for (uint32_t k = 2; k < a->count; k++)
                named |= number(a->words[k]) == i;
            if (!named || !s->actors[i].up) continue;
            raft_tick(s->actors[i].raft, s->now);
            settle(s, &s->actors[i], NULL);
        }
    }
}

/* campaign 1: time passes until its election timer fires; nobody else notices */
static void cmd_campaign(struct stage *s, const struct args *a)
{
    struct actor *n = actor(s, a->words[1]);
    if (raft_role_now(n->raft) == RAFT_LEADER) return;
    uint64_t at = raft_deadline(n->raft);
    if (at == UINT64_MAX) {
        tell(s, "%u will not campaign", n->id);
        return;
    }
    if (at > s->now) s->now = at;
    raft_tick(n->raft, s->now);
    settle(s, n, NULL);
}

static bool route_matches(const char *route, const struct raft_msg *m)
{
    const char *arrow = strstr(route, "->");
    if (arrow == NULL) return number(route) == m->to;
    return (route[0] == '*' || strtoul(route, NULL, 10) == m->from) &&
           (arrow[2] == '*' || strtoul(arrow + 2, NULL, 10) == m->to);
}

/* deliver [route...]: what is under way now; a route is 2 (all to 2) or 1->2 or 1->* */
static void cmd_deliver(struct stage *s, const struct args *a)
{
    uint32_t left = s->mail_count;
    for (uint32_t i = 0; left > 0; left--) {
        bool match = a->count == 1;
        for (uint32_t k = 1; k < a->count; k++)
            match |= route_matches(a->words[k], &s->mail[i].msg);
        if (match)
            deliver_one(s, i);
        else
            i++;
    }
}

static void cmd_drop(struct stage *s, const struct args *a)
{
    for (uint32_t i = 0; i < s->mail_count;) {
        bool match = a->count == 1;
        for (uint32_t k = 1; k < a->count; k++)
            match |= route_matches(a->words[k], &s->mail[i].msg);
        if (!match) {
            i++;
            continue;
        }
        tell_letter(s, "lost: ", &s->mail[i]);
        memmove(&s->mail[i], &s->mail[i + 1], (--s->mail_count - i) * sizeof s->mail[0]);
    }
}

/* again ROUTE: duplicates what is under way there */
static void cmd_again(struct stage *s, const struct args *a)
{
    for (uint32_t i = 0, n = s->mail_count; i < n; i++)
        if (route_matches(a->words[1], &s->mail[i].msg)) s->mail[s->mail_count++] = s->mail[i];
}

static void cmd_sync(struct stage *s, const struct args *a)
{
    struct actor *n = actor(s, a->words[1]);
    uint64_t count = a->count > 2 ? number(a->words[2]) : n->write_count;
    for (; count > 0 && n->write_count > 0; count--)
        sync_first(s, n);
    settle(s, n, NULL);
}

static void cmd_apply(struct stage *s, const struct args *a)
{
    struct actor *n = actor(s, a->words[1]);
    raft_index to = a->count > 2 ? number(a->words[2]) : n->apply_to;
    while (n->applied < to && n->applied < n->apply_to) {
        apply_one(s, n);
        settle(s, n, NULL);
    }
}

/* stabilize: everything is delivered, synced and applied until nothing moves */
static void cmd_stabilize(struct stage *s, const struct args *a)
{
    (void)a;
    for (uint32_t turn = 0; turn < 500; turn++) {
        uint32_t moved = s->mail_count;
        for (uint32_t left = s->mail_count; left > 0; left--)
            deliver_one(s, 0);
        for (uint32_t i = 1; i <= ACTORS; i++) {
            struct actor *n = &s->actors[i];
            if (!n->up) continue;
            moved += n->write_count + (uint32_t)(n->apply_to - n->applied);
            while (n->write_count > 0)
                sync_first(s, n);
            while (n->applied < n->apply_to)
                apply_one(s, n);
            settle(s, n, NULL);
        }
        if (moved == 0 && s->mail_count == 0) return;
    }
    tell(s, "it does not come to rest");
}

/* run MS: time passes for all, and whatever is sent arrives */
static void cmd_run(struct stage *s, const struct args *a)
{
    struct args step = {.words = {"wait", "10"}, .count = 2};
    for (uint64_t left = number(a->words[1]); left > 0; left -= left < 10 ? left : 10) {
        cmd_wait(s, &step);
        cmd_stabilize(s, &step);
    }
}

/* crash 1 [landed]: unsynced writes are lost, but for the first `landed` */
static void cmd_crash(struct stage *s, const struct args *a)
{
    struct actor *n = actor(s, a->words[1]);
    uint64_t landed = a->count > 2 ? number(a->words[2]) : 0;
    for (uint32_t i = 0; i < n->write_count && i < landed; i++) {
        const struct unsynced_write *w = &n->writes[i];
        n->disk_hard = w->hard;
        if (w->truncate_from != 0) n->disk_last = w->truncate_from - 1;
        for (uint32_t k = 0; k < w->append_count; k++)
            n->disk[w->append_first + k] = w->entries[k];
        if (w->append_count > 0) n->disk_last = w->append_first + w->append_count - 1;
    }
    n->write_count = 0;
    n->up = false;
}

static void cmd_restart(struct stage *s, const struct args *a)
{
    start(s, actor(s, a->words[1]), false);
}

static void cmd_propose(struct stage *s, const struct args *a)
{
    struct actor *n = actor(s, a->words[1]);
    enum raft_verdict verdict;
    propose(s, n, a->count > 2 ? (uint32_t)number(a->words[2]) : 1, 0, &verdict);
    if (verdict != RAFT_OK) tell(s, "%u: %s", n->id, verdict_text(verdict));
    settle(s, n, NULL);
}

/* conf 1 voters=... [old=...] [learners=...] */
static void cmd_conf(struct stage *s, const struct args *a)
{
    struct actor *n = actor(s, a->words[1]);
    struct raft_conf c = parse_conf(a);
    if (!raft_conf_is_valid(&c)) {
        tell(s, "not a configuration");
        return;
    }
    s->confs[s->conf_count] = c;
    enum raft_verdict verdict;
    propose(s, n, 1, s->conf_count, &verdict);
    if (verdict == RAFT_OK)
        s->conf_count++;
    else
        tell(s, "%u: %s", n->id, verdict_text(verdict));
    settle(s, n, NULL);
}

static void cmd_read(struct stage *s, const struct args *a)
{
    struct actor *n = actor(s, a->words[1]);
    enum raft_verdict verdict = raft_read_index(n->raft, ++s->reads, s->now);
    if (verdict != RAFT_OK) tell(s, "%u: %s", n->id, verdict_text(verdict));
    settle(s, n, NULL);
}

static void cmd_lease(struct stage *s, const struct args *a)
{
    struct actor *n = actor(s, a->words[1]);
    tell(s, "%u %s", n->id,
         raft_lease_held(n->raft, s->now) ? "holds the lease" : "holds no lease");
}

static void cmd_transfer(struct stage *s, const struct args *a)
{
    struct actor *n = actor(s, a->words[1]);
    enum raft_verdict verdict = raft_transfer(n->raft, (raft_id)number(a->words[2]), s->now);
    if (verdict != RAFT_OK) tell(s, "%u: %s", n->id, verdict_text(verdict));
    settle(s, n, NULL);
}

static void cmd_yield(struct stage *s, const struct args *a)
{
    struct actor *n = actor(s, a->words[1]);
    raft_yield(n->raft, s->now);
    settle(s, n, NULL);
}

/* closed 1 2: replica 1 sees its connection to 2 break */
static void cmd_closed(struct stage *s, const struct args *a)
{
    struct actor *n = actor(s, a->words[1]);
    raft_peer_closed(n->raft, (raft_id)number(a->words[2]), 0, s->now);
    settle(s, n, NULL);
}

static void cmd_unreachable(struct stage *s, const struct args *a)
{
    struct actor *n = actor(s, a->words[1]);
    raft_unreachable(n->raft, (raft_id)number(a->words[2]));
    settle(s, n, NULL);
}

static void cmd_compact(struct stage *s, const struct args *a)
{
    struct actor *n = actor(s, a->words[1]);
    n->disk_applied = n->disk_base = number(a->words[2]);
    raft_compacted(n->raft, n->disk_base);
    settle(s, n, NULL);
}

/* snapshot 1 2 [fails]: the snapshot that 1 owes 2 arrives */
static void cmd_snapshot(struct stage *s, const struct args *a)
{
    struct actor *from = actor(s, a->words[1]), *to = actor(s, a->words[2]);
    if (a->count > 3) {
        raft_snapshot_done(from->raft, to->id, false);
        settle(s, from, NULL);
    } else {
        install(s, from, to);
    }
}

/* cut 1 [2...]: nothing passes between 1 and those, or anybody; heal: everything passes */
static void cmd_cut(struct stage *s, const struct args *a)
{
    uint64_t one = actor(s, a->words[1])->id;
    for (uint64_t i = 1; i <= ACTORS; i++) {
        bool named = a->count == 2;
        for (uint32_t k = 2; k < a->count; k++)
            named |= number(a->words[k]) == i;
        if (named) s->cut[one][i] = s->cut[i][one] = true;
    }
}

/* rest 1: nothing of its owner's needs the group awake; wake 1: something does; beat 1: its node sends heartbeats */
static void cmd_rest(struct stage *s, const struct args *a)
{
    struct actor *n = actor(s, a->words[1]);
    raft_rest(n->raft, s->now);
    settle(s, n, NULL);
}

static void cmd_wake(struct stage *s, const struct args *a)
{
    struct actor *n = actor(s, a->words[1]);
    raft_wake(n->raft, s->now);
    settle(s, n, NULL);
}

static void cmd_beat(struct stage *s, const struct args *a)
{
    struct actor *n = actor(s, a->words[1]);
    raft_beat(n->raft, s->now);
    settle(s, n, NULL);
}

/* quiet: who is */
static void cmd_quiet(struct stage *s, const struct args *a)
{
    (void)a;
    raft_id ids_quiet[ACTORS];
    uint32_t count = 0;
    char text[64];
    for (uint32_t i = 1; i <= ACTORS; i++)
        if (s->actors[i].up && raft_is_quiet(s->actors[i].raft)) ids_quiet[count++] = i;
    tell(s, "quiet: %s", count == 0 ? "nobody" : id_list(ids_quiet, count, text));
}

static void cmd_heal(struct stage *s, const struct args *a)
{
    (void)a;
    memset(s->cut, 0, sizeof s->cut);
}

/* send 3 1 TYPE [term=] [index=] [index_term=] [commit=] [context=] [reject=1] [transfer=1] [quiet=1] */
static void cmd_send(struct stage *s, const struct args *a)
{
    struct letter l = {
        .msg = {.from = (raft_id)number(a->words[1]), .to = actor(s, a->words[2])->id}};
    const char *v;
    while (l.msg.type <= RAFT_READ_REPLY && strcmp(raft_msg_text(l.msg.type), a->words[3]) != 0)
        l.msg.type++;
    if ((v = option(a, "term")) != NULL) l.msg.term = number(v);
    if ((v = option(a, "index")) != NULL) l.msg.index = number(v);
    if ((v = option(a, "index_term")) != NULL) l.msg.index_term = number(v);
    if ((v = option(a, "commit")) != NULL) l.msg.commit = number(v);
    if ((v = option(a, "context")) != NULL) l.msg.context = number(v);
    l.msg.reject = option(a, "reject") != NULL;
    l.msg.transfer = option(a, "transfer") != NULL;
    l.msg.quiet = option(a, "quiet") != NULL;
    post(s, &l);
}

static void cmd_status(struct stage *s, const struct args *a)
{
    for (uint32_t i = 1; i <= ACTORS; i++) {
        struct actor *n = &s->actors[i];
        bool named = a->count == 1;
        for (uint32_t k = 1; k < a->count; k++)
            named |= number(a->words[k]) == i;
        if (!n->exists || !named) continue;
        if (!n->up) {
            tell(s, "%u is down", i);
            continue;
        }
        struct raft_status t;
        raft_status(n->raft, s->now, &t);
        char runs[256], conf[256];
        struct raft_run r[LOG_MAX];
        uint32_t count = 0;
        for (raft_index k = t.compacted + 1; k <= t.last; k++) {
            bool more = count > 0 && r[count - 1].term == n->log[k].term &&
                        r[count - 1].is_conf == (n->log[k].conf != 0);
            if (more)
                r[count - 1].count++;
            else
                r[count++] = (struct raft_run){n->log[k].term, 1, n->log[k].conf != 0};
        }
        tell(s, "%u %s term=%u leader=%u commit=%u applied=%u log=%u+%s %s%s", i,
             raft_role_text(t.role), (unsigned)t.term, t.leader, (unsigned)t.commit,
             (unsigned)t.applied, (unsigned)t.compacted, runs_text(r, count, runs),
             conf_text(&t.conf, conf), t.conf_pending ? " pending" : "");
        for (uint32_t k = 0; k < t.peer_count; k++)
            if (t.peers[k].id != i)
                tell(s, "  %u%s match=%u next=%u%s%s", t.peers[k].id,
                     t.peers[k].voter ? "" : " learner", (unsigned)t.peers[k].match,
                     (unsigned)t.peers[k].next, t.peers[k].active ? "" : " silent",
                     t.peers[k].snapshot ? " snapshot" : "");
    }
}

static const struct command {
    const char *name;
    void (*run)(struct stage *s, const struct args *a);
    uint32_t words_min;
} commands[] = {
    {"set", cmd_set, 2},           {"add", cmd_add, 2},
    {"recover", cmd_recover, 2},   {"known", cmd_known, 2},
    {"wait", cmd_wait, 2},         {"campaign", cmd_campaign, 2},
    {"deliver", cmd_deliver, 1},   {"drop", cmd_drop, 1},
    {"again", cmd_again, 2},       {"sync", cmd_sync, 2},
    {"apply", cmd_apply, 2},       {"stabilize", cmd_stabilize, 1},
    {"crash", cmd_crash, 2},       {"restart", cmd_restart, 2},
    {"propose", cmd_propose, 2},   {"conf", cmd_conf, 3},
    {"read", cmd_read, 2},         {"lease", cmd_lease, 2},
    {"transfer", cmd_transfer, 3}, {"yield", cmd_yield, 2},
    {"closed", cmd_closed, 3},     {"unreachable", cmd_unreachable, 3},
    {"compact", cmd_compact, 3},   {"snapshot", cmd_snapshot, 3},
    {"cut", cmd_cut, 2},           {"heal", cmd_heal, 1},
    {"rest", cmd_rest, 2},
    {"wake", cmd_wake, 2},
    {"beat", cmd_beat, 2},
    {"quiet", cmd_quiet, 1},
    {"send", cmd_send, 4},         {"status", cmd_status, 1},
    {"run", cmd_run, 2},
};

/* ---- files -------------------------------------------------------------------- */

static void run_command(struct stage *s, const char *file, char *line)
{
    struct args a = {.count = 0};
    s->quiet = line[0] == '-';
    char *save = NULL;
    for (char *w = strtok_r(line + (s->quiet ? 1 : 0), " \t", &save); w != NULL && a.count < 24;
         w = strtok_r(NULL, " \t", &save))
        a.words[a.count++] = w;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (a.count >= commands[i].words_min && strcmp(commands[i].name, a.words[0]) == 0) {
            commands[i].run(s, &a);
            for (uint32_t k = 1; k <= ACTORS; k++)
                if (s->actors[k].up) raft_check(s->actors[k].raft);
            return;
        }
    fprintf(stderr, "%s: bad command: %s\n", file, a.count > 0 ? a.words[0] : line);
    exit(2);
}

static char *slurp(const char *path)
{
    FILE *f = fopen(path, "rb");
    char *text = calloc(1, TEXT_MAX);
    if (f == NULL || text == NULL) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(2);
    }
    size_t n = fread(text, 1, TEXT_MAX - 1, f);
    assert(n < TEXT_MAX - 1);
    fclose(f);
    return text;
}

static char *next_line(char **at)
{
    char *line = *at;
    if (*line == 0) return NULL;
    char *end = strchr(line, '\n');
    if (end != NULL) {
        *end = 0;
        *at = end + 1;
    } else {
        *at = line + strlen(line);
    }
    return line;
}

/* Plays one file and returns it with the output that really came. */
static char *play(const char *path)
{
    struct stage *s = calloc(1, sizeof *s);
    char *out = calloc(1, TEXT_MAX), *script = slurp(path), *at = script, *line;
    assert(s != NULL && out != NULL);
    s->text = calloc(1, TEXT_MAX);
    assert(s->text != NULL);
    s->now = 1000 * MS;
    s->options = (struct raft_options){
        .id = 1,
        .election_ns = 300 * MS,
        .heartbeat_ns = 50 * MS,
        .lease_ns = 200 * MS,
        .stagger_ns = 20 * MS,
        .drift_ppm = 500,
        .window_entries = 64,
        .batch_entries = 16,
        .prevote = true,
        .check_quorum = true,
    };
    size_t length = 0;
    bool expected = false; /* between "----" and the empty line */
    while ((line = next_line(&at)) != NULL) {
        if (expected) {
            expected = *line != 0;
            if (expected) continue;
        }
        assert(length + s->text_length + strlen(line) + 16 < TEXT_MAX);
        length += (size_t)sprintf(out + length, "%s\n", line);
        if (strcmp(line, "----") == 0) {
            length += (size_t)sprintf(out + length, "%s", s->text);
            s->text_length = 0;
            s->text[0] = 0;
            expected = true;
        } else if (*line != 0 && *line != '#') {
            run_command(s, path, line);
        }
    }
    for (uint32_t i = 1; i <= ACTORS; i++)
        free(s->actors[i].memory);
    free(s->text);
    free(s);
    free(script);
    return out;
}

static bool check_file(const char *path, bool rewrite)
{
    char *now = play(path), *before = slurp(path);
    bool same = strcmp(now, before) == 0;
    if (!same && rewrite) {
        FILE *f = fopen(path, "wb");
        assert(f != NULL);
        fputs(now, f);
        fclose(f);
        printf("%s: rewritten\n", path);
    } else if (!same) {
        char *a = now, *b = before, *x = NULL, *y = NULL;
        uint32_t line = 0;
        do {
            x = next_line(&a);
            y = next_line(&b);
            line++;
        } while (x != NULL && y != NULL && strcmp(x, y) == 0);
        printf("%s:%u: expected: %s\n%s:%u: happened: %s\n", path, line, y != NULL ? y : "(end)",
               path, line, x != NULL ? x : "(end)");
    }
    free(now);
    free(before);
    return same || rewrite;
}

int main(int argc, char **argv)
{
    bool rewrite = argc > 1 && strcmp(argv[1], "--rewrite") == 0, good = true;
    int first = rewrite ? 2 : 1;
    glob_t found = {0};
    if (first == argc && glob("tests/script/raft/*.txt", 0, NULL, &found) != 0) {
        fprintf(stderr, "no transcripts: run this from the top of the tree\n");
        return 2;
    }
    size_t count = first == argc ? found.gl_pathc : (size_t)(argc - first);
    for (size_t i = 0; i < count; i++)
        good &= check_file(first == argc ? found.gl_pathv[i] : argv[first + (int)i], rewrite);
    printf("%zu transcripts: %s\n", count, good ? "ok" : "FAILED");
    if (first == argc) globfree(&found);
    return good ? 0 : 1;
}
