#!/bin/sh
# The Redis port as redis-cli sees it: what the node says of itself, its clients and its commands, and what
# a write is told when nobody could do it.
. "$(dirname "$0")/lib.sh"
command -v redis-cli >/dev/null && command -v nc >/dev/null || { echo "skipped: no redis-cli or nc"; exit 0; }
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
r() { redis-cli -h 127.0.0.1 -p "$P" "$@"; }
raw() { printf '%b' "$1" | timeout 10 nc -q 1 127.0.0.1 "$P" | tr -d '\r' | tr '\n' ' '; }
says() { # WHAT PATTERN COMMAND..
    what=$1 pattern=$2
    shift 2
    "$@" >"$T/out" 2>&1
    grep -qE -- "$pattern" "$T/out" || die "$what: $(head -c 600 "$T/out")"
    echo "ok: $what"
}

for field in used_memory_rss: blocked_clients: total_connections_received: total_commands_processed: used_cpu_sys: redis_version:7 kvd_version: kvd_node:1 uptime_in_seconds: connected_clients: kvd_memtable_bytes: kvd_log_bytes: \
    kvd_disk_full:0 role:master kvd_groups:9 kvd_groups_with_leader: cluster_enabled: loading:0; do
    r INFO | grep -q "^$field" || die "INFO lacks $field"
done
echo "ok: INFO"
processed() { r INFO stats | tr -d '\r' | sed -n 's/^total_commands_processed://p'; }
was=$(processed)
r PING >/dev/null
expect "commands are counted, also of connections that are gone" $((was + 2)) "$(processed)"
own=$(r INFO memory | tr -d '\r' | sed -n 's/^used_memory://p')
anonymous=$(awk '/^RssAnon/ { print $2 * 1024 }' "/proc/$(cat "$T/c/node-1/pid")/status")
[ $((own / 2)) -lt "$anonymous" ] && [ $((own * 2)) -gt "$anonymous" ] || die "used_memory is $own, RssAnon $anonymous"
# redis-cli prints the least number there is for every field of INFO that it misses.
timeout 2 stdbuf -oL redis-cli -h 127.0.0.1 -p "$P" --stat -i 0.5 >"$T/stat" 2>&1
grep -q '^keys' "$T/stat" || die "redis-cli --stat: $(cat "$T/stat")"
! grep -q 9223372036854775808 "$T/stat" || die "redis-cli --stat misses fields: $(cat "$T/stat")"
checkpoints() { r INFO | tr -d '\r' | sed -n 's/^kvd_checkpoints://p'; }
seen=$(checkpoints)
r SET saved yes >/dev/null
expect "BGSAVE" "Background saving started" "$(r BGSAVE)"
checkpointed() { [ "$(checkpoints)" -gt "$seen" ]; }
until_ok 10 checkpointed || die "no checkpoint after BGSAVE"
expect "what was checkpointed is read" yes "$(r GET saved)"
says "BGSAVE takes one word" "syntax error" r BGSAVE now
expect "one section of INFO" "# Replication" "$(r INFO replication | head -n 1 | tr -d '\r')"

for name in GET SET SETNX SETEX PSETEX GETSET GETDEL GETEX MGET MSET MSETNX DEL UNLINK EXISTS APPEND STRLEN GETRANGE SUBSTR SETRANGE \
    INCR DECR INCRBY DECRBY INCRBYFLOAT EXPIRE PEXPIRE EXPIREAT PEXPIREAT TTL PTTL EXPIRETIME PEXPIRETIME PERSIST TYPE KEYS SCAN \
    DBSIZE RANDOMKEY RENAME RENAMENX COPY TOUCH FLUSHALL FLUSHDB SETBIT GETBIT BITCOUNT BITPOS BITOP BITFIELD BITFIELD_RO LCS PING \
    ECHO HELLO AUTH SELECT QUIT RESET CLIENT COMMAND INFO CONFIG TIME WAIT OBJECT; do
    [ "$(r COMMAND INFO $name | head -n 1)" = "$(echo $name | tr '[:upper:]' '[:lower:]')" ] || die "COMMAND INFO $name"
    r COMMAND DOCS $name | grep -q summary || die "COMMAND DOCS $name"
done
expect "every command has its INFO and DOCS" "$(r COMMAND COUNT)" "$(r --json COMMAND INFO | jq length)"
expect "an unknown command has none" null "$(r -3 --json COMMAND INFO nosuch | jq -c '.[0]')"

says "CONFIG GET of a name of Redis" '^always$' r CONFIG GET appendfsync
says "CONFIG GET of a key of ours" '^50ms$' r CONFIG GET raft.heartbeat
expect "the password is not told" "" "$(r CONFIG GET resp.password | sed -n 2p)"
expect "a level set at run time" OK "$(r CONFIG SET log.level raft=debug)"
says "and read back" 'raft=debug' r CONFIG GET log.level
r CONFIG SET log.level info >/dev/null
says "a bad level" '^ERR CONFIG SET failed' r CONFIG SET log.level loud
says "what only a start reads" 'it is read at start' r CONFIG SET limit.queue 100
says "an unknown name" '^ERR Unknown option' r CONFIG SET nosuch 1

expect "replies off, skipped and on again" "+OK \$1 2 +OK " \
    "$(raw 'CLIENT REPLY SKIP\r\nSET q 1\r\nCLIENT REPLY OFF\r\nSET q 2\r\nCLIENT REPLY ON\r\nGET q\r\nQUIT\r\n')"
expect "HTTP is closed without an answer" "" "$(raw 'POST / HTTP/1.1\r\nHost: x\r\n\r\n')"
mkfifo "$T/idle"
nc 127.0.0.1 "$P" <"$T/idle" >"$T/idle.out" &
victim=$!
started="$started $victim"
exec 4>"$T/idle"
printf 'CLIENT SETNAME victim\r\n' >&4
listed() { r CLIENT LIST | grep -q name=victim; }
until_ok 10 listed || die "CLIENT LIST lacks the named connection"
id=$(r CLIENT LIST | sed -n 's/^id=\([0-9]*\) .*name=victim.*/\1/p')
expect "CLIENT KILL by id" 1 "$(r CLIENT KILL ID "$id")"
exec 4>&-
gone() { ! listed; }
until_ok 10 gone || die "the killed connection is still listed"

says "a key that is too long was not written" '480 bytes \(applied: no\)$' r SET "$(printf '%0481d' 0)" v
says "a value that is too long neither" '\(applied: no\)$' r SETRANGE k 2000000 x
says "keys of two partitions" '^CROSSSLOT .*\{hashtag\}.* \(applied: no\)$' r MSET a 1 b 2
expect "and the remedy" OK "$(r MSET '{x}a' 1 '{x}b' 2)"

# Writes that never stop while the quorum goes: those on their way then were proposed, or forwarded, by who
# still believed in a leader, and are told the truth; those behind them meet nobody.
replication() { r INFO replication | tr -d '\r' | sed -n "s/^$1://p"; }
is_leaderless() { [ "$(replication kvd_groups_with_leader)" = 0 ]; }
expect "a value to come back to" OK "$(r SET a before)"
yes 'INCR n' | nc 127.0.0.1 "$P" >"$T/told" &
writer=$!
started="$started $writer"
until_ok 10 grep -q '^:1000' "$T/told" || die "the writes do not begin"
cluster kill 2 && cluster kill 3 || die "kill"
until_ok 10 grep -q '^-UNCERTAIN .* (applied: maybe)' "$T/told" ||
    die "no write under way is told that it may be applied: $(tail -n 3 "$T/told" | cut -c 1-300)"
until_ok 10 is_leaderless || die "node 1 still knows leaders of $(replication kvd_groups_with_leader) groups"
says "a write without a quorum" '^(CLUSTERDOWN|NOQUORUM|NOLEADER) .* \(applied: no\)$' r SET a after
says "a read without a quorum" '^(CLUSTERDOWN|NOQUORUM|NOLEADER) [^()]*$' r GET a
says "a node that hears nobody says so" '^CLUSTERDOWN .*no contact.* \(applied: no\)$' r INCR b
says "what the node itself knows" '^PONG$' r PING
kill "$writer"
wait "$writer" 2>/dev/null
sed '$d' "$T/told" | tr -d '\r' >"$T/answers" # the last may be cut
refused='^-((CLUSTERDOWN|NOQUORUM|NOLEADER) .* \(applied: no\)|UNCERTAIN .* \(applied: maybe\))$'
grep -vE '^:[0-9]+$' "$T/answers" | grep -vE "$refused" | head -n 3 >"$T/odd"
[ ! -s "$T/odd" ] || die "a write was told otherwise: $(cat "$T/odd")"
acknowledged=$(grep -c '^:' "$T/answers")
cluster start 2 || die "start"
expect "a write that was refused is not applied later" before "$(r GET a)"
[ "$(r GET n)" -ge "$acknowledged" ] || die "$(r GET n) is less than the $acknowledged acknowledged"
echo "ok: $acknowledged acknowledged, $(grep -c UNCERTAIN "$T/answers") perhaps, $(grep -c 'applied: no' "$T/answers") not"
expect "and it serves again" OK "$(r SET a 1)"
cluster down || die "down"
