#!/bin/sh
# Three nodes of two workers each: partitions are spread over them, requests find their worker, replicas move between the workers of
# a node, sides of a merge come together first, and nobody sees anything of it. A directory stays one of two workers.
. "$(dirname "$0")/lib.sh"
rows=${ROWS:-6000}
unset KVD_WORKERS
cluster up --nodes 3 --base-port "$P" --workers 2 >/dev/null || die "up"
workers_of() { kvctl node show "$1" 2>/dev/null | jq -c '[.groups[].worker] | group_by(.) | map(length)'; }
even() {
    for n in 1 2 3; do
        kvctl node show $n 2>/dev/null | jq -e '[.groups[].worker] | group_by(.) | map(length) | length == 2 and max - min <= 1' >/dev/null || return 1
    done
}
even || die "uneven from the start: $(workers_of 1) $(workers_of 2) $(workers_of 3)"
map() { kvctl keyspace show default -o json | jq "$@"; }

# One connection's replies in its order, though the keys are of both workers, of leaders here and elsewhere.
ordered() { # NODE
    seq 1 2000 | awk '{ printf "SET k%d %d\r\nGET k%d\r\nINCR n%d\r\nECHO %d\r\n", $1, $1, $1, $1 % 7, $1 } END { printf "QUIT\r\n" }' |
        "$B/hostile" send 127.0.0."$1" "$P" 30000 2>/dev/null | tr -d '\r' |
        awk -v base="$2" '
            NR > 12000 { exit $0 != "+OK" }
            NR % 6 == 1 { bad = $0 != "+OK" }
            NR % 6 == 3 || NR % 6 == 0 { bad = $0 != int((NR + 5) / 6) }
            NR % 6 == 4 { i = int((NR + 5) / 6); want = base * (int(2000 / 7) + (i % 7 > 0 && i % 7 <= 2000 % 7)) + ++seen[i % 7]; bad = $0 != ":" want }
            bad { print "line " NR ": " $0; exit 1 }' || die "replies of a pipeline through node $1"
}
for node in 1 2 3; do ordered $node $((node - 1)); done
echo "ok: replies come in the order of their commands"

# Splits, merges and moves between workers, under load.
clients_begin "$rows" 30s 1 2
for i in 10 300 4000; do kvctl keyspace split default --at "row00$i" >/dev/null || die "split at row00$i"; done
place() { kvctl node show "$2" 2>/dev/null | jq --argjson p "$1" '[.groups[] | select(.id == $p)] | if length == 1 and (.[0].replicas | all(.role == "voter")) then .[0].worker else empty end'; }
moved() { w=$(place "$1" "$2") && [ -n "$w" ] && [ "$w" != "$3" ]; }
for node in 1 2 3; do # the left side of a border, so that its right side has to follow
    id=$(map -r '.ranges | sort_by(.from) | .[0].id')
    before=$(place "$id" $node)
    until_ok 10 kvctl partition move "$id" $node $node || die "move of $id on node $node"
    until_ok 20 moved "$id" $node "$before" || die "partition $id is where it was on node $node"
done
echo "ok: replicas have moved to the other worker of each node"
for i in 10 300 4000; do until_ok 60 kvctl keyspace merge default --at "row00$i" || die "merge at row00$i"; done
clients_end "3 splits, 3 moves and 3 merges"
expect "eight again" 8 "$(map '.ranges | length')"
expect "every row once" "$rows" "$(kvctl scan --prefix row -o json | jq -r .key | sort -u | wc -l)"

# A keyspace is born on worker 0, and spreads.
kvctl keyspace create more --partition hash:12 --replicas 3 >/dev/null || die "create"
until_ok 90 seated 1 2 3 || die "uneven: $(workers_of 1) $(workers_of 2) $(workers_of 3)"
echo "ok: a keyspace spreads over the workers: $(workers_of 1) $(workers_of 2) $(workers_of 3)"
# One replica alone goes too: the only voter is not lost on the way.
kvctl keyspace create lone --partition hash:1 --replicas 1 >/dev/null || die "create lone"
kvctl --keyspace lone put x 1 >/dev/null || die "put"
id=$(kvctl keyspace show lone -o json | jq '.ranges[0].id') node=$(kvctl keyspace show lone -o json | jq '.ranges[0].nodes[0]')
until_ok 60 seated 1 2 3 || die "uneven again"
before=$(place "$id" "$node")
until_ok 10 kvctl partition move "$id" "$node" "$node" || die "move of the only replica"
until_ok 20 moved "$id" "$node" "$before" || die "the only replica is where it was"
expect "its row" 1 "$(kvctl --keyspace lone get x)"

# Killed, each comes back with all it had.
for n in 1 2; do kvctl put "kept$n" "$n" >/dev/null || die "put"; done
cluster kill 1 2 3 >/dev/null || die "kill"
cluster start 1 2 3 >/dev/null || die "start"
until_ok 20 kvctl get kept1 || die "not serving"
for n in 1 2; do expect "kept$n" $n "$(kvctl get "kept$n")"; done
expect "every row after that" "$rows" "$(kvctl scan --prefix row -o json | jq -r .key | sort -u | wc -l)"

# INFO and levels are of all workers.
info() { redis-cli -h 127.0.0.1 -p "$P" INFO "$1" | tr -d '\r' | sed -n "s/^$2://p"; }
expect "kvd_workers" 2 "$(info replication kvd_workers)"
[ "$(info replication kvd_groups)" -ge 21 ] || die "kvd_groups: $(info replication kvd_groups)"
debug_lines() { grep -c 'debug raft .* group=1 ' "$T/c/node-1/log"; } # group 1 is on worker 1
redis-cli -h 127.0.0.1 -p "$P" CONFIG SET log.level raft=debug >/dev/null || die "CONFIG SET"
speaks() { kvctl partition lead 1 1 >/dev/null 2>&1; kvctl partition lead 1 2 >/dev/null 2>&1; [ "$(debug_lines)" -gt 0 ]; }
until_ok 30 speaks || die "worker 1 of node 1 does not log by the new level"
redis-cli -h 127.0.0.1 -p "$P" CONFIG SET log.level info >/dev/null
echo "ok: a log level is that of all workers"

# Stopping hands everything over within its five seconds.
pid=$(cat "$T/c/node-2/pid")
kill -TERM "$pid"
until_ok 6 ended "$pid" || die "stopping takes over 5 s"
grep -q 'stopped clean=1' "$T/c/node-2/log" || die "not stopped cleanly"
# Another number of workers, or a part of the directory that is not there, is refused by name.
data=$(find "$T/c/node-2" -name worker-1 -type d | head -n 1)
data=${data%/worker-1}
[ -n "$data" ] || die "no worker-1 in $T/c/node-2"
refused() { # WANT ARGUMENTS..
    want=$1
    shift
    "$B/kvd" --node-data "$data" --node-id 2 --native-port 0 --resp-port 0 "$@" 2>"$T/refused" && die "it starts: $*"
    grep -q "$want" "$T/refused" || die "want '$want', got: $(cat "$T/refused")"
}
"$B/kvlog" verify "$data" >"$T/verify" || die "verify: $(cat "$T/verify")"
grep -q '^worker-1/ ok: ' "$T/verify" || die "verify does not look at worker 1: $(cat "$T/verify")"
"$B/kvlog" salvage "$data" >"$T/saved" 2>"$T/report" || die "salvage: $(cat "$T/report")"
expect "kvlog saves what all workers have" "$rows" "$(jq -r .key "$T/saved" | grep -c '^row')"
expect "each row once" "$(wc -l <"$T/saved")" "$(jq -r .key "$T/saved" | sort -u | wc -l)"
cp -r "$data" "$T/copy" && mv "$T/copy/worker-1" "$T/worker-1"
"$B/kvlog" salvage "$T/copy" >"$T/part" 2>"$T/report"
expect "salvage without a worker's directory" 4 $?
grep -q '^worker-1/: no such directory, though the node was of 2 workers' "$T/report" || die "what is missing is not told: $(cat "$T/report")"
refused 'holds the data of 2 workers, not of 1; next: ' --workers 1
refused 'holds the data of 2 workers, not of 3; next: ' --workers 3
data=$T/copy
refused 'worker-1 is not the directory that belongs there' --workers 2
# Rows that two stores have, as while a replica is on its way, are saved once.
cluster kill 3 >/dev/null || die "kill 3"
lines() { wc -l <"$1"; }
shared=0
for store in $(stores "$T/c/node-3/data"); do # beside worker 0 of node 2
    rm -rf "$data/worker-1" && cp -r "$store" "$data/worker-1" && rm -rf "$data/worker-1/worker-1" || die "copy"
    "$B/kvlog" salvage "$data" >"$T/both" 2>"$T/report" || die "salvage: $(cat "$T/report")"
    "$B/kvlog" salvage "$data/worker-1" >"$T/other" 2>/dev/null
    expect "each row once, of two stores" "$(lines "$T/both")" "$(jq -r .key "$T/both" | sort -u | wc -l)"
    expect "and all of them" "$(cat "$T/part" "$T/other" | jq -r .key | sort -u | wc -l)" "$(lines "$T/both")"
    shared=$((shared + $(lines "$T/part") + $(lines "$T/other") - $(lines "$T/both")))
done
[ $shared -gt 0 ] || die "no row was in two stores"
cluster start 2 >/dev/null || die "start 2"
# Emptied as that said, it is filled again.
cluster wipe 3 >/dev/null || die "wipe 3"
cluster start 3 >/dev/null || die "start 3"
filled() { kvctl node show 3 2>/dev/null | jq -e '[.groups[].replicas[].role] | length >= 63 and all(. == "voter")' >/dev/null; }
until_ok 60 filled || die "node 3 is not filled again: $(kvctl node show 3 | jq -c '[.groups[] | {id, r: [.replicas[].role]}]')"
until_ok 60 seated 1 2 3 || die "uneven after the wipe: $(workers_of 3)"
expect "every row in the end" "$rows" "$(kvctl scan --prefix row -o json | jq -r .key | sort -u | wc -l)"
