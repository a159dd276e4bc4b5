#!/bin/sh
# A rolling restart: each node in turn is told to stop and started again while clients count. Those of libkv are on all
# nodes and see no error; each increment takes effect once, although many are sent twice (ACCEPTANCE rows 7, 8).
# A client of the Redis protocol goes on at another node when it cannot connect; no command of it is refused either. At the end
# no node has more descriptors open than it needs.
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-2}
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
A=127.0.0.1:$N,127.0.0.2:$N,127.0.0.3:$N
descriptors() { find "/proc/$(cat "$T/c/node-$1/pid")/fd" -mindepth 1 | wc -l; }
resp_counts() { # FIRST
    at=$1 n=0
    while [ ! -e "$T/enough" ]; do
        got=$(redis-cli -h 127.0.0."$at" -p "$P" INCR "resp$1" 2>&1)
        case $got in
        "$((n + 1))") n=$((n + 1)) ;;
        *refused*) at=$((at % 3 + 1)) ;; # nothing was sent
        *closed* | *reset*) # without an answer, which Redis' protocol leaves open: asked elsewhere, it is one or none
            at=$((at % 3 + 1))
            got=$(redis-cli -h 127.0.0."$at" -p "$P" GET "resp$1" 2>&1)
            [ "${got:-0}" = "$n" ] || [ "$got" = $((n + 1)) ] || { echo "$n: $got" >"$T/odd.$1" && break; }
            n=${got:-0}
            echo "$n" >>"$T/unanswered"
            ;;
        *) echo "the next is $((n + 1)), was told: $got" >"$T/odd.$1" && break ;;
        esac
    done
    echo "$n" >"$T/counted.$1"
}
: >"$T/descriptors"
for i in 1 2 3; do descriptors $i >>"$T/descriptors"; done
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
echo "$((rounds * 3)) restarts under $(cat "$T/counts") increments of libkv and $(cat "$T"/counted.* | awk '{ n += $1 } END { print n }') through Redis, of which $(cat "$T/unanswered" 2>/dev/null | wc -l) ended without an answer"
# What clients opened is closed again. Node 1 has served since it was started first in the last round.
most=$(sort -n "$T/descriptors" | tail -n 1)
few() { [ "$(descriptors "$1")" -le $((most + 4)) ]; }
for i in 1 2 3; do until_ok 20 few $i || die "node $i has $(descriptors $i) descriptors open, before the load $most"; done
echo "ok: descriptors $(descriptors 1) $(descriptors 2) $(descriptors 3), before the load at most $most"
cluster down >/dev/null || die "down"
