#!/bin/sh
# A killed leader is replaced and every partition serves again within 500 ms (median), a paused one
# within 2 s; a node that was away for long, or lost its data, catches up, and nothing is lost.
. "$(dirname "$0")/lib.sh"
kills=${KILLS:-5}
cluster up --nodes 3 --base-port "$P" || die "up"
node() { # I COMMAND...
    i=$1
    shift
    "$B/kvctl" --addr 127.0.0."$i":"$N" --key "$T/c/client.key" "$@"
}
leads() { # does node $1 lead its three groups again?
    [ "$(node "$1" status -o json 2>/dev/null | jq -s "[.. | objects | select(.leader? == $1)] | length")" -ge 3 ]
}
gap() { # SIGNAL I: the milliseconds until every partition takes a write again
    start=$(date +%s%3N)
    kill "-$1" "$(cat "$T/c/node-$2/pid")" || die "$1 $2"
    node $(($2 % 3 + 1)) ready --timeout 20s >/dev/null || die "not every partition serves 20 s after SIG$1 of node $2"
    took=$(($(date +%s%3N) - start))
}
k=0
next_leader() { # each in its turn
    victim=$((k % 3 + 1)) k=$((k + 1))
    until_ok 30 leads $victim || die "node $victim does not lead its groups again"
}
killed_leader() {
    next_leader
    gap KILL $victim
    cluster start $victim >/dev/null || die "start $victim"
}
paused_leader() {
    next_leader
    gap STOP $victim
    cluster resume $victim >/dev/null || die "resume $victim"
}
awk 'BEGIN { for (i = 0; i < 3000; i++) printf "row%06d\tvalue of row %d\n", i, i }' >"$T/rows.tsv"
kvctl import "$T/rows.tsv" 2>/dev/null || die "import"
median_within "gaps after kill -9" 500 "$kills" 20 killed_leader
median_within "gaps after pausing a leader" 2000 1 5 paused_leader
commands() { # FORMAT: 40 of them, over all groups
    seq 0 39 | while read -r i; do
        # shellcheck disable=SC2059
        printf "$1\r\n" "$i"
    done
}
until_ok 30 leads 2 || die "node 2 does not lead"
[ "$(commands 'SET k%d old' | redis-cli -p "$P" | grep -c OK)" = 40 ] || die "set"
gap STOP 2
[ "$(commands 'SET k%d new' | redis-cli -p "$P" | grep -c OK)" = 40 ] || die "set beside a paused leader"
# Reads that wait in the paused leader's socket are the first thing it sees when it goes on.
{ commands 'GET k%d' && printf 'QUIT\r\n'; } | "$B/hostile" send 127.0.0.2 "$P" 20000 >"$T/reads" 2>"$T/reads.end" &
reads=$!
started="$started $reads"
wait_unread() { # bytes that the kernel holds for the paused node's Redis port
    awk -v at="0200007F:$(printf %04X "$P")" '$2 == at && $4 == "01" && $5 !~ /:00000000$/ { n++ } END { exit !n }' /proc/net/tcp
}
until_ok 20 wait_unread || die "the reads do not wait"
cluster resume 2 >/dev/null || die "resume"
wait $reads
grep -q old "$T/reads" && die "a leader that was paused answered from the past"
expect "reads of a leader that was paused are new or refused" 40 "$(grep -c -e '^new' -e '^-' "$T/reads")"
cluster wipe 3 >/dev/null && cluster start 3 >/dev/null || die "a wiped node does not come back"
kvctl export "$T/out.tsv" --prefix row 2>/dev/null || die "export"
sort "$T/out.tsv" | cmp - "$T/rows.tsv" || die "rows differ"
echo "ok: nothing lost over $kills kills, a pause and a wipe"
cluster down >/dev/null || die "down"
