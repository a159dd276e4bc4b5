#!/bin/sh
# Clients that vanish without a word: no FIN, no reset, no packet any more. The node closes an idle one and
# one that leaves its reply unacknowledged, on both ports, and says why.
. "$(dirname "$0")/lib_namespace.sh"
. "$(dirname "$0")/lib.sh"
"$B/kvd" --node-data "$T/d" --resp-port "$P" --native-port "$N" --limit-silence 2s --limit-handshake 60s \
    --limit-output-time 30s 2>"$T/kvd.log" &
pid=$!
started=$pid
until_ok 10 "$B/kvctl" --addr 127.0.0.1:"$N" --key "$T/d/client.key" ready --timeout 5s || die "no start"
clients() { redis-cli -p "$P" client list | grep -c "addr=127.0.2.$1:"; }
present() { [ "$(clients "$1")" = 1 ]; }
absent() { [ "$(clients "$1")" = 0 ]; }
lost() { grep -q "client-lost peer=127.0.2.$1:.*limit.silence" "$T/kvd.log"; }
for i in 1 2 3; do # 3: a native one, in the middle of its handshake
    if [ $i = 3 ]; then to=$N said=''; else to=$P said='PING\r\n'; fi
    # shellcheck disable=SC2059
    printf "$said" | "$B/hostile" idle 127.0.0.1 "$to" 60000 127.0.2.$i >"$T/client.$i" 2>/dev/null &
    started="$started $!"
    until_ok 20 grep -q sent "$T/client.$i" || [ $i = 3 ] || die "client $i does not get through"
done
for i in 1 2; do until_ok 20 present $i || die "client $i is not there"; done
silent=127.0.2.1,127.0.2.3
cut 127.0.0.1 "$silent"
until_ok 20 lost 1 || die "an idle half-open client is not closed"
absent 1 || die "client 1 is still listed"
until_ok 20 lost 3 || die "a half-open native client is not closed"
present 2 || die "a silent client whose machine answers was closed"
heal
echo "ok: half-open clients are closed, an idle one is not"
# One that asks and vanishes before the answer: bytes stay unacknowledged, so no probe is sent.
mkfifo "$T/ask"
"$B/hostile" idle 127.0.0.1 "$P" 60000 127.0.2.4 <"$T/ask" >"$T/client.4" 2>/dev/null &
started="$started $!"
exec 5>"$T/ask"
until_ok 20 present 4 || die "client 4 is not there"
cut_one_way 127.0.0.1 127.0.2.4
printf 'PING\r\n' >&5
exec 5>&-
until_ok 20 lost 4 || die "a client that acknowledges nothing is not closed"
[ "$(dropped)" -gt 0 ] || die "nothing was dropped"
absent 4 || die "client 4 is still listed"
echo "ok: one that acknowledges nothing is closed"
kill -TERM "$pid"
wait "$pid"
expect "the node stops cleanly" 0 $?
