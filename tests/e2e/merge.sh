#!/bin/sh
# Partitions are merged and split again while rows are imported and Redis clients count through every node, and a node is killed
# in the middle of it: no client sees an error, every row is there exactly once.
. "$(dirname "$0")/lib.sh"
rows=${ROWS:-20000}
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
map() { kvctl keyspace show default -o json | jq "$@"; }
expect "eight partitions" 8 "$(map '.ranges | length')"
clients_begin "$rows" 30s 1 2
split_and_merge() { # KEY: what was split there is one again
    kvctl keyspace split default --at "$1" >/dev/null || die "split at $1"
    until_ok 30 kvctl keyspace merge default --at "$1" || die "merge at $1" # the node that is asked may hear of the split a little later
}
for i in 10 300 4000 9999; do split_and_merge "row00$i"; done
expect "eight again" 8 "$(map '.ranges | length')"
kvctl keyspace merge default --at row0010 2>"$T/nothing"
expect "a merge where no partition begins: exit" 4 $?
grep -q 'no partition begins there' "$T/nothing" || die "a merge where none begins: $(cat "$T/nothing")"
for i in 10 300 4000 9999; do kvctl keyspace split default --at "row00$i" >/dev/null || die "split at row00$i again"; done
# One that begins while a node dies either takes effect or is undone by itself; then it is asked for again.
ranges() { map '.ranges | length'; }
are_eight() {
    for k in 10 300 4000 9999; do kvctl keyspace merge default --at "row00$k" --timeout 10s 2>"$T/merge"; done
    [ "$(ranges)" = 8 ]
}
twelve() { [ "$(ranges)" = 12 ]; }
until_ok 10 twelve || die "twelve partitions: $(ranges)"
kvctl keyspace merge default --at row0010 --timeout 10s >/dev/null 2>&1 &
first=$!
started="$started $first"
cluster kill 3 >/dev/null || die "kill 3"
wait $first
cluster start 3 >/dev/null || die "start 3"
until_ok 60 are_eight || die "eight in the end: $(ranges), $(cat "$T/merge")"
clients_end "8 merges and a death"
expect "every row once" "$rows" "$(kvctl scan --prefix row -o json | jq -r .key | sort -u | wc -l)"
expect "DBSIZE of it all" $((rows + 2)) "$(redis-cli -h 127.0.0.3 -p "$P" DBSIZE)"
