#!/bin/sh
# One node with no configuration but its ports: durable over kill -9, keys of mode 0600, clean SIGTERM.
. "$(dirname "$0")/lib.sh"
extra=
start() {
    # shellcheck disable=SC2086 # a list
    "$B/kvd" --node-data "$T/d" --resp-port "$P" --native-port "$N" $extra 2>>"$T/kvd.log" &
    pid=$!
    started="$started $pid"
}
ctl() { "$B/kvctl" --addr 127.0.0.1:"$N" --key "$T/d/client.key" "$@"; }
start
until_ok 10 ctl put first one || die "no write within 10 s"
[ "$(du -s --block-size=1000000 "$T/d" | cut -f1)" -lt 100 ] || die "a fresh node takes $(du -sh "$T/d") of disk"
expect "key file mode" 600 "$(stat -c %a "$T/d/node.key")"
n=0
while [ $n -lt 50 ]; do
    ctl put "k$n" "$n" >/dev/null || die "put $n"
    n=$((n + 1))
done
kill -9 "$pid"
wait "$pid" 2>/dev/null
start
until_ok 10 ctl get first || die "not serving again within 10 s"
n=0
while [ $n -lt 50 ]; do
    [ "$(ctl get "k$n")" = "$n" ] || die "k$n was lost"
    n=$((n + 1))
done
echo "ok: 50 acknowledged writes survive kill -9"
"$B/kvd" --node-data "$T/d" --resp-port $((P + 2)) --native-port $((P + 3)) 2>"$T/second.log" && die "two processes on one directory"
grep -q 'in use' "$T/second.log" || die "the second process does not say why: $(cat "$T/second.log")"
kill -9 "$pid"
wait "$pid" 2>/dev/null
extra='--raft-lease 10s --raft-election 10s' # a group that never had a second member waits for no promise to run out
begin=$(date +%s)
start
until_ok 20 ctl get first || die "not serving again within 20 s"
[ $(($(date +%s) - begin)) -lt 8 ] || die "a restart waits for promises that nobody was given"
echo "ok: a node alone does not wait for a lease after a restart"
begin=$(date +%s)
kill -TERM "$pid"
wait "$pid"
expect "SIGTERM exits cleanly" 0 $?
[ $(($(date +%s) - begin)) -le 5 ] || die "SIGTERM took over 5 s"
ctl --timeout 300ms get first >/dev/null 2>"$T/err" && die "get without a node"
[ "$(wc -l <"$T/err")" = 1 ] || die "not a one-line error: $(cat "$T/err")"
echo "ok: one-line error without a node"
"$B/kvd" --node-data "$T/x" --resp-host 0.0.0.0 2>"$T/open.log" && die "RESP beyond loopback without a password"
"$B/kvd" --no-such-key 1 2>"$T/bad.log"
expect "unknown key is an error" 2 $?
