#!/bin/sh
# At a fixed rate of operations a node is added, drained and removed, and another one killed, round after round. No operation
# fails, and while replicas are moved the 99th percentile stays within 3 times that of a quiet moment (medians of the rounds,
# latency counted from when an operation was due). At the end each key is there exactly once.
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-5} rounds_many=9 rate=${RATE:-1000} keys=${KEYS:-20000} quiet_seconds=${QUIET_SECONDS:-3}
KVD_COORDINATOR_SETTLE=1s KVD_COORDINATOR_BALANCE_LOAD=1000000 # partition 0 moves too; leaders by their number
export KVD_COORDINATOR_SETTLE KVD_COORDINATOR_BALANCE_LOAD
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
A=127.0.0.1:$N,127.0.0.2:$N,127.0.0.3:$N
options="--protocol native --addr $A --key $T/c/client.key --keys $keys --value 500 --json"
nodes() { kvctl node list -o json | jq -se "$@" >/dev/null; }
# Replicas and leaders of the COUNT nodes that are up differ by no more than the coordinator's slack, and none is on its way.
is_even() { # COUNT
    nodes --argjson n "$1" 'def apart(f): map(f) | max - min;
        map(select(.state == "up")) | length == $n and apart(.replicas) <= 2 and apart(.leaders) <= 2' &&
        kvctl keyspace show default -o json | jq -e '[.ranges[].nodes | length] | all(. == 3)' >/dev/null
}
is_empty() { nodes --argjson n "$1" '.[] | select(.id == $n) | .replicas == 0'; } # NODE
# What COMMAND does under load. Appends the 99th percentile of reads or writes, whichever is higher, to $T/NAME, in us.
under_load() { # NAME COMMAND..
    phase=$1
    shift
    # shellcheck disable=SC2086 # words
    "$B/kvbench" $options --clients 256 --mix read=50,write=50 --rate "$rate" --warmup 0 --seconds 300 >"$T/bench" 2>"$T/bench.err" &
    load=$!
    started="$started $load"
    "$@"
    kill -TERM "$load"
    wait "$load" || die "$phase: operations failed: $(cat "$T/bench" "$T/bench.err")"
    jq '[.kinds[].latency_us.p99] | max | floor' "$T/bench" >>"$T/$phase"
    jq -r --arg phase "$phase" '"\($phase): \([.kinds[].ops] | add) operations, p99 \([.kinds[].latency_us.p99] | max | floor) us, longest \([.kinds[].latency_us.max] | max | floor) us"' "$T/bench"
    [ "$(jq '.errors + .wrong + .missing + .never_sent' "$T/bench")" = 0 ] || die "$phase: $(cat "$T/bench")"
}
stays_quiet() { until_ok "$quiet_seconds" nodes false; } # asks as often as those do that wait for something
added() {
    cluster add >/dev/null || die "add"
    until_ok 60 is_even 4 || die "node $id does not get its share: $(kvctl node list)"
}
drained() {
    kvctl node drain "$id" >/dev/null || die "drain"
    until_ok 60 is_empty "$id" || die "node $id is not emptied: $(kvctl node list)"
    until_ok 10 kvctl node remove "$id" || die "remove $id"
    cluster kill "$id" >/dev/null || die "kill $id"
}
killed() {
    cluster kill "$victim" >/dev/null || die "kill $victim"
    cluster start "$victim" >/dev/null || die "start $victim"
}
median() { sort -n "$T/$1" | sed -n "$(((round + 1) / 2))p"; }
# shellcheck disable=SC2086 # words
"$B/kvbench" $options --fill --clients 32 --depth 8 >"$T/fill" || die "fill: $(cat "$T/fill")"
for i in 1 2 3; do redis-cli -h 127.0.0."$i" -p "$P" bgsave >/dev/null; done # what was filled is not part of the first round
until_ok 30 is_even 3 || die "three nodes are not even"
# Where they are not, more rounds are asked: a machine with other work stretches some.
are_within() { for phase in add drain; do [ "$(median $phase)" -le $((3 * $(median quiet))) ] || return 1; done; }
round=0
while [ $round -lt "$rounds" ]; do
    round=$((round + 1)) id=$((round + 3)) victim=$((round % 3 + 1))
    under_load quiet stays_quiet
    under_load add added
    under_load drain drained
    under_load kill killed
    until_ok 30 is_even 3 || die "three nodes are not even: $(kvctl node list)"
    [ $round -eq "$rounds" ] && [ $round -lt $rounds_many ] && ! are_within && rounds=$((rounds + 1))
done
for phase in quiet add drain kill; do echo "$phase: p99 $(tr '\n' ' ' <"$T/$phase")us, median $(median $phase) us"; done
kvctl export "$T/rows.jsonl" -q || die "export"
jq -r .key "$T/rows.jsonl" | sort >"$T/keys"
expect "keys" "$keys" "$(wc -l <"$T/keys")"
expect "keys that are there twice" 0 "$(uniq -d "$T/keys" | wc -l)"
are_within || die "p99 while a node was added or drained is over 3 times the quiet one"
cluster down >/dev/null || die "down"
