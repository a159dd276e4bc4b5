#!/bin/sh
# Hundreds of partitions that nobody uses cost next to nothing, and are there all the same: each takes a write and is
# read, and those of a node that is killed, or stands still, are back as soon as any others.
. "$(dirname "$0")/lib.sh"
partitions=${PARTITIONS:-300} seconds=5
percent_max=5 # of one core, for each node; on a quiet machine it is one
cluster up --nodes 3 --base-port "$P" || die "up"
"$B/splits" 127.0.0.1:"$N",127.0.0.2:"$N",127.0.0.3:"$N" "$T/c/client.key" "$partitions" || die "split"
node() { # I COMMAND...
    i=$1
    shift
    "$B/kvctl" --addr 127.0.0."$i":"$N" --key "$T/c/client.key" "$@"
}
pid() { cat "$T/c/node-$1/pid"; }
is_quiet() { # every replica on every node
    for n in 1 2 3; do
        node $n node show $n -o json 2>/dev/null | jq -e "[.groups[].quiet] | length == $partitions + 1 and all" >/dev/null || return 1
    done
}
is_settled() { # and the coordinator, which begins some seconds after a start, has nothing left to even out (its slack is 2)
    is_quiet && node 1 node show 1 -o json | jq -e '(.groups | all(.leader == .replicas[0].node)) and
        ([.groups | group_by(.leader)[] | length] | length == 3 and max - min <= 2)' >/dev/null
}
ticks() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$(pid "$1")/stat"; }
until_ok 60 is_settled || die "not all are quiet, or leaders unevenly spread"
for n in 1 2 3; do ticks $n; done >"$T/before"
sleep $seconds # what is measured is that nothing happens
for n in 1 2 3; do ticks $n; done | paste "$T/before" - | awk -v hz="$(getconf CLK_TCK)" -v s=$seconds -v max=$percent_max '
    { p = 100 * ($2 - $1) / hz / s; printf "node %d: %.1f %% of a core with nothing to do\n", NR, p; if (p > max) over = 1 }
    END { exit over }' || die "over $percent_max %"
is_quiet || die "they did not stay quiet"
node 1 ready --timeout 20s || die "a partition does not take a write, or is not read"
until_ok 30 is_quiet || die "not all are quiet again"
gap() { # SIGNAL I: the milliseconds until every partition takes a write again
    start=$(date +%s%3N)
    kill "-$1" "$(pid "$2")" || die "$1 $2"
    node $(($2 % 3 + 1)) ready --timeout 20s >/dev/null || die "not every partition serves 20 s after SIG$1 of node $2"
    took=$(($(date +%s%3N) - start))
}
victim=0
killed() {
    victim=$((victim % 3 + 1))
    until_ok 60 is_quiet || die "not all are quiet"
    gap KILL $victim
    cluster start $victim >/dev/null || die "start $victim"
}
paused() {
    until_ok 60 is_quiet || die "not all are quiet"
    gap STOP 2
    cluster resume 2 >/dev/null || die "resume"
}
median_within "gaps after kill -9 of a node in quiet" "${KILLED_MS:-2000}" "${KILLS:-1}" 5 killed
median_within "gaps after pausing one" 2000 1 5 paused
cluster down >/dev/null || die "down"
