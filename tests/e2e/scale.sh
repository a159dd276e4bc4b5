#!/bin/sh
# Three nodes, each of which serves a fixed number of operations a second, under more load than that. Three more join while
# it goes on; the coordinator spreads replicas and leaders by itself, and the same clients get at least 1.7 times
# as much done (ACCEPTANCE row 11). No operation fails at any time.
. "$(dirname "$0")/lib.sh"
rate=${RATE:-300} partitions=${PARTITIONS:-64} clients=${CLIENTS:-384} seconds=${SCALE_SECONDS:-5}
KVD_LIMIT_SERVICE_RATE=$rate KVD_COORDINATOR_MOVES=64 KVD_COORDINATOR_SETTLE=1s KVD_COORDINATOR_BALANCE_LOAD=1000000
export KVD_LIMIT_SERVICE_RATE KVD_COORDINATOR_MOVES KVD_COORDINATOR_SETTLE KVD_COORDINATOR_BALANCE_LOAD # leaders by their number: the load is even
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
A=127.0.0.1:$N,127.0.0.2:$N,127.0.0.3:$N
"$B/splits" "$A" "$T/c/client.key" "$partitions" >/dev/null || die "splits"
# Replicas and leaders of COUNT nodes differ by no more than the coordinator's slack, and nothing is on its way.
is_even() { # COUNT
    kvctl node list -o json >"$T/nodes" 2>/dev/null && kvctl keyspace show default -o json >"$T/map" 2>/dev/null || return 1
    jq -se --argjson n "$1" 'def apart(f): map(f) | max - min; length == $n and apart(.replicas) <= 2 and apart(.leaders) <= 2' \
        "$T/nodes" >/dev/null && jq -e '[.ranges[].nodes | length] | all(. == 3)' "$T/map" >/dev/null
}
shares() { jq -sc 'map([.replicas, .leaders])' "$T/nodes"; }
options="--protocol native --addr $A --key $T/c/client.key --clients $clients --keys 20000 --mix read=50,write=50 --warmup 1 --json"
# shellcheck disable=SC2086 # words
bench() { "$B/kvbench" $options --seconds "$2" >"$T/$1" 2>"$T/$1.err"; } # OUT SECONDS
served() { jq '[.kinds[].rate] | add | floor' "$T/$1"; }
until_ok 30 is_even 3 || die "three nodes are not even: $(shares)"
bench before "$seconds" || die "operations failed on three nodes: $(cat "$T/before" "$T/before.err")"
# shellcheck disable=SC2086 # words
"$B/kvbench" $options --seconds 600 >"$T/during" 2>"$T/during.err" & # until told
load=$!
started="$started $load"
began=$(date +%s%3N)
for i in 4 5 6; do cluster add >/dev/null || die "add $i"; done
until_ok 60 is_even 6 || die "six nodes are not even: $(shares)"
echo "six nodes have [replicas, leaders] $(shares) $(($(date +%s%3N) - began)) ms after the first was asked for"
ended "$load" && die "the load ended: $(cat "$T/during" "$T/during.err")"
kill -TERM "$load"
wait "$load" || die "operations failed while nodes joined: $(cat "$T/during" "$T/during.err")"
bench after "$seconds" || die "operations failed on six nodes: $(cat "$T/after" "$T/after.err")"
echo "served with three nodes of $rate each: $(served before), while three joined: $(served during), with six: $(served after)"
for run in before during after; do expect "failed operations $run" 0 "$(jq '.errors + .wrong' "$T/$run")"; done
expect "three nodes serve no more than they may" true "$(jq --argjson r "$rate" '[.kinds[].rate] | add <= 3 * $r * 1.02' "$T/before")"
expect "at least 1.7 times as much" true "$(jq -n --argjson a "$(served after)" --argjson b "$(served before)" '$a >= 1.7 * $b')"
cluster down >/dev/null || die "down"
