#!/bin/sh
# kvbench against kvd: every value read is the one written, open and closed loop, both protocols; a
# killed node shows as errors, never as silence.
. "$(dirname "$0")/lib.sh"
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
field() { sed -n 's/.*"'"$1"'":\([0-9.]*\).*/\1/p' "$T/out"; } # of the report's top level
bench() { "$B/kvbench" --keys 2000 --warmup 0.1 --json "$@" >"$T/out" 2>"$T/bench.log"; }
resp="--addr 127.0.0.1:$P,127.0.0.2:$P"
native="--protocol native --addr 127.0.0.3:$N --key $T/c/client.key"

# shellcheck disable=SC2086 # lists of words
{
    bench $resp --fill --clients 20 --depth 4 || die "fill: $(cat "$T/out" "$T/bench.log")"
    expect 'fill writes each key once' 2000 "$(field answered)"
    bench $native --ops 2000 --mix read=100 --clients 20 || die "read back: $(cat "$T/out")"
    expect 'every key is there' 0 "$(field missing)"
    for mix in A D F; do
        bench $resp --ycsb $mix --seconds 1 --depth 2 || die "YCSB $mix over RESP: $(cat "$T/out")"
        expect "YCSB $mix over RESP: no wrong value" 0 "$(field wrong)"
        bench $native --ycsb $mix --seconds 1 || die "YCSB $mix native: $(cat "$T/out")"
        expect "YCSB $mix native: no wrong value" 0 "$(field wrong)"
    done
    # All clients of a node share its one link to the leader; together they may have more open than one client.
    leader=$(kvctl status -o json | jq '.groups[-1].leader')
    bench --addr "127.0.0.$((leader % 3 + 1)):$P" --prefix '{a}' --clients 50 --depth 60 --ops 20000 --mix write=100 ||
        die "through a node that forwards all: $(cat "$T/out")"
    expect '3,000 open writes through one link' 0 "$(field errors)"
    bench $native --ycsb E --seconds 1 || die "YCSB E native: $(cat "$T/out")"
    bench $native --rate 200 --poisson --seconds 1 --mix read=50,write=50 || die "open loop: $(cat "$T/out")"
    expect 'an open loop leaves nothing out' 0 "$(field never_sent)"
    was=$(commits)
    bench $resp --seconds 6 --clients 10 --mix read=50,write=50 &
    running=$!
    started="$started $running"
    until_ok 20 committed_beyond $((was + 100)) || die "the load does not begin"
    cluster kill 1 || die "kill"
    if wait $running; then die "clients of a killed node saw no error"; fi
    [ "$(field errors)" -ge 1 ] || die "errors not counted: $(cat "$T/out")"
}
if bench --addr 127.0.0.1:1 --timeout 200ms; then die "succeeds with nobody there"; fi
expect 'usage is exit code 2' 2 "$("$B/kvbench" --depth 0 2>/dev/null; echo $?)"
expect 'no scans over RESP' 2 "$("$B/kvbench" --ycsb E 2>/dev/null; echo $?)"
cluster down || die "down"
