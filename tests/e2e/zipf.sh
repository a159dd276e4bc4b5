#!/bin/sh
# Three nodes, a fresh keyspace, 100,000 keys asked for by Zipf(0.99) at a capped rate. Within a minute the node that serves most
# serves at most 1.3 times the mean: hot partitions are split where half of their load ends, and leaders spread by load.
# Served is what a node answers from its own replicas, not what it forwards. Then the load ends, and what was split is merged again.
. "$(dirname "$0")/lib.sh"
rate=${RATE:-2000} window=5
KVD_COORDINATOR_SPLIT_LOAD=100 KVD_COORDINATOR_MERGE_AFTER=5s
export KVD_COORDINATOR_SPLIT_LOAD KVD_COORDINATOR_MERGE_AFTER
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
begin=$(date +%s%3N)
"$B/kvbench" --addr "127.0.0.1:$P,127.0.0.2:$P,127.0.0.3:$P" --clients 32 --keys 100000 --zipf 0.99 --mix read=50,write=50 \
    --rate "$rate" --warmup 0 --seconds "${SECONDS_MAX:-90}" --json >"$T/bench.json" 2>"$T/bench.log" &
load=$!
started="$started $load"
served() { kvctl status -o json | jq -c '[.nodes[].served | .reads + .writes]'; }
partitions() { kvctl keyspace show default -o json | jq '.ranges | length'; }
# Hottest over mean of what was served in one window.
measure() {
    before=$(served)
    sleep "$window" # the window itself
    ratio=$(served | jq --argjson before "$before" '[., $before] | transpose | map(.[0] - .[1]) | [max, add / length, add] |
        if .[2] == 0 then 9 else .[0] / .[1] end')
    at=$((($(date +%s%3N) - begin) / 1000))
    echo "after $at s: hottest over mean $(printf %.2f "$ratio"), $(partitions) partitions"
}
good=0
while [ "$good" -lt 2 ]; do # two windows one behind the other
    measure
    if jq -ne --argjson r "$ratio" '$r <= 1.3' >/dev/null; then good=$((good + 1)); else good=0; fi
    [ "$at" -le 60 ] || die "after $at s the hottest node still serves $ratio times the mean"
done
echo "ok: Zipf(0.99), hottest node at most 1.3 times the mean after $at s"
is_split() { [ "$(partitions)" -gt 8 ]; }
until_ok 30 is_split || die "no partition was split"
hottest=$(kvctl hot --limit 1 -o json)
jq -ne --argjson h "$hottest" --argjson rate "$rate" '$h.ops > $rate / 40' >/dev/null || die "the hottest key is $hottest"
echo "ok: the hottest key: $hottest"
for more in 1 2; do
    measure
    jq -ne --argjson r "$ratio" '$r <= 1.3' >/dev/null || die "it does not stay so: $ratio in window $more"
done
kill "$load" 2>/dev/null
wait "$load"
grep -hq ' shaping .*reason=split-load' "$T"/c/node-*/log || die "nobody says that it split anything"
as_created() { [ "$(partitions)" = 8 ]; }
until_ok 90 as_created || die "cold partitions are not merged: $(partitions)"
echo "ok: cold again, the keyspace has the partitions that it was created with"
