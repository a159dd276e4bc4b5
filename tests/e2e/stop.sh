#!/bin/sh
# SIGTERM: one node hands its leadership over, and no operation of libkv fails meanwhile; all nodes at
# once stop cleanly within 5 s, under load, and nothing acknowledged is lost.
. "$(dirname "$0")/lib.sh"
bound=${STOP_MS:-5000}
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
pid() { cat "$T/c/node-$1/pid"; }
gone() { ended "$(pid "$1")"; }
clean() { grep -c 'main stopped clean=1' "$T/c/node-$1/log"; }
leads() { # does node $1 lead its three groups?
    [ "$("$B/kvctl" --addr 127.0.0."$1":"$N" --key "$T/c/client.key" status -o json 2>/dev/null |
        jq -s "[.. | objects | select(.leader? == $1)] | length")" -ge 3 ]
}
field() { sed -n 's/.*"'"$1"'":\([0-9.]*\).*/\1/p' "$T/bench"; }
for i in 1 2 3; do
    until_ok 20 leads $i || die "node $i does not lead"
    was=$(commits)
    "$B/kvbench" --protocol native --addr "127.0.0.$((i % 3 + 1)):$N" --key "$T/c/client.key" --clients 16 --keys 2000 \
        --mix read=50,write=50 --warmup 0.2 --seconds 3 --json >"$T/bench" 2>"$T/bench.err" &
    load=$!
    started="$started $load"
    until_ok 20 committed_beyond $((was + 500)) || die "the load does not begin"
    began=$(date +%s%3N)
    kill -TERM "$(pid $i)"
    until_ok 10 gone $i || die "node $i does not stop"
    took=$(($(date +%s%3N) - began))
    wait $load || die "operations failed while node $i stopped: $(cat "$T/bench" "$T/bench.err")"
    expect "node $i stops cleanly" 1 "$(clean $i)"
    [ "$took" -le "$bound" ] || die "node $i took $took ms"
    expect "no failed operation of $(field answered)" 0 "$(field errors)"
    echo "ok: node $i handed over and stopped within $took ms"
    cluster start $i >/dev/null || die "start $i"
done
awk 'BEGIN { for (i = 0; i < 200000; i++) printf "row%06d\tvalue of row %d\n", i, i }' >"$T/rows.tsv"
"$B/kvctl" --cluster "$T/c/cluster.json" --timeout 2s import "$T/rows.tsv" 2>"$T/import.log" &
load=$!
started="$started $load"
until_ok 10 test -s "$T/rows.tsv.kvprogress" || die "the import does not begin"
began=$(date +%s%3N)
kill -TERM "$(pid 1)" "$(pid 2)" "$(pid 3)"
for i in 1 2 3; do until_ok 10 gone $i || die "node $i does not stop"; done
took=$(($(date +%s%3N) - began))
for i in 1 2 3; do expect "node $i stops cleanly" 2 "$(clean $i)"; done
[ "$took" -le "$bound" ] || die "all together took $took ms"
echo "ok: all three stopped within $took ms"
wait $load && die "an import without any node succeeded"
cluster start all >/dev/null || die "start"
rows=$(jq .sequence "$T/rows.tsv.kvprogress")
kvctl export "$T/out.tsv" --prefix row 2>/dev/null || die "export"
sort "$T/out.tsv" | head -n "$rows" | cmp - "$T/rows.tsv" 2>&1 | grep -q EOF || [ "$rows" = 200000 ] ||
    die "the first $rows rows were acknowledged, and differ"
echo "ok: $rows acknowledged rows are there"
cluster down >/dev/null || die "down"
