#!/bin/sh
# A rolling restart: each node in turn is told to stop and started again while clients count. Those of libkv are on all
# nodes and see no error; each increment takes effect once, although many are sent twice (ACCEPTANCE rows 7, 8).
# A client of the Redis protocol goes on at another node when it cannot connect; no command of it fails either. At the end
# no node has more descriptors open than after the first round.
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-2}
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
A=127.0.0.1:$N,127.0.0.2:$N,127.0.0.3:$N
ready() { "$B/kvctl" --addr 127.0.0."$1":"$N" --key "$T/c/client.key" ready --timeout 30s >/dev/null; }
descriptors() { find "/proc/$(cat "$T/c/node-$1/pid")/fd" -mindepth 1 | wc -l; }
resp_counts() { # FIRST: a node that is down refuses the connection, and nothing was sent
    at=$1 n=0
    while [ ! -e "$T/enough" ]; do
        got=$(redis-cli -h 127.0.0."$at" -p "$P" INCR "resp$1" 2>&1)
        case $got in
        "$((n + 1))") n=$((n + 1)) ;;
        *refused*) at=$((at % 3 + 1)) ;;
        *) echo "the next is $((n + 1)), was told: $got" >"$T/odd.$1" && break ;;
        esac
    done
    echo "$n" >"$T/counted.$1"
}
"$B/counts" "$A" "$T/c/client.key" 32 >"$T/counts" 2>"$T/counts.err" &
native=$!
started="$started $native"
for i in 1 2 3; do
    resp_counts $i &
    started="$started $!"
done
moves() { kvctl get count0000 2>/dev/null | grep -q '[1-9][0-9]'; }
until_ok 20 moves || die "the load does not begin"
round=0
while [ $round -lt "$rounds" ]; do
    round=$((round + 1))
    for i in 1 2 3; do
        kill -TERM "$(cat "$T/c/node-$i/pid")"
        until_ok 10 ended "$(cat "$T/c/node-$i/pid")" || die "node $i does not stop"
        cluster start $i >/dev/null || die "start $i"
        ready $i || die "node $i is not ready"
        ended "$native" && die "round $round, node $i: $(cat "$T/counts.err")"
        cat "$T"/odd.* 2>/dev/null && die "round $round, node $i: a Redis client was told something else than the next number"
    done
done
kill -TERM "$native"
wait "$native" || die "$(cat "$T/counts.err")"
: >"$T/enough"
ended_all() { for i in 1 2 3; do [ -e "$T/counted.$i" ] || return 1; done; }
until_ok 10 ended_all || die "a Redis client does not come to its end"
cat "$T"/odd.* 2>/dev/null && die "a Redis client was told something else than the next number"
expect "increments of libkv, each once" "$(cat "$T/counts")" "$(kvctl scan --prefix count -o json | jq -s 'map(.value | tonumber) | add')"
for i in 1 2 3; do expect "increments through port P of node $i" "$(cat "$T/counted.$i")" "$(kvctl get "resp$i" -o raw)"; done
echo "$((rounds * 3)) restarts under $(cat "$T/counts") increments of libkv and $(cat "$T"/counted.* | awk '{ n += $1 } END { print n }') through Redis"
# What clients opened is closed again: links, listeners, files and a few for the client that looks.
few() { [ "$(descriptors "$1")" -le "${DESCRIPTORS:-64}" ]; }
for i in 1 2 3; do until_ok 20 few $i || die "node $i has $(descriptors $i) descriptors open"; done
echo "ok: descriptors $(descriptors 1) $(descriptors 2) $(descriptors 3)"
cluster down >/dev/null || die "down"
