#!/bin/sh
# A silent cut: no packet passes between node 2 and the others, no reset comes, for 15 s. The others
# serve on, node 2 answers nothing old; within 1 s of healing all groups serve and all replicas receive.
. "$(dirname "$0")/lib_namespace.sh"
. "$(dirname "$0")/lib.sh"
seconds=${CUT_SECONDS:-15} bound=${HEAL_MS:-1000}
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
node() { # I COMMAND...
    i=$1
    shift
    "$B/kvctl" --addr 127.0.0."$i":"$N" --key "$T/c/client.key" "$@"
}
# Of every group: the last index and the match of node 2's replica, as their leaders see it.
replicas() {
    for i in 1 2 3; do node $i --timeout 1s node show $i 2>/dev/null; done | jq -r --slurp '
        .[] | .node as $n | .groups[] | select(.leader == $n and .role == "leader")
            | . as $g | .replicas[] | select(.node == 2) | "\($g.id) \($g.last) \(.match)"' | sort -n
}
received() { # does node 2 hold all that all groups have?
    replicas >"$T/seen"
    [ "$(awk '$2 == $3 && !seen[$1]++' "$T/seen" | wc -l)" = 9 ]
}
put_each() { for i in 1 2 3; do node $i put before$i "$1" >/dev/null || die "put"; done; }
round=0
cut_and_healed() {
    round=$((round + 1)) old=here$round
    put_each $old
    cut 127.0.0.2 127.0.0.1,127.0.0.3
    began=$(date +%s)
    node 1 ready --timeout 20s >/dev/null || die "the majority does not serve"
    node 3 put before1 changed >/dev/null || die "put at the majority"
    reads=0
    while [ $(($(date +%s) - began)) -lt "$seconds" ]; do # the length of the cut is what is tried
        said=$(timeout 5 redis-cli -h 127.0.0.2 -p "$P" get before1 2>&1)
        case $said in *$old*) die "the cut node answered an old value" ;; esac
        reads=$((reads + 1))
        node 1 put "during$reads" x >/dev/null || die "put at the majority"
    done
    [ "$(dropped)" -gt 100 ] || die "the cut dropped $(dropped) packets"
    # Four links are down, each is dialled at least every 200 ms: 20 a second, 12 on a machine that has other work.
    tried=$(dials)
    [ "$tried" -ge $((seconds * ${DIALS:-12})) ] || die "only $tried dials in $seconds s"
    echo "ok: cut for $seconds s, $(dropped) packets dropped, $tried dials, $reads reads at the cut node, none old"
    node 1 ready --timeout 20s >/dev/null || die "the majority does not serve" # writes to all groups but the system's
    replicas >"$T/cut"
    [ "$(awk '$1 > 0 && $3 < $2' "$T/cut" | wc -l)" = 8 ] || die "replicas received through the cut: $(cat "$T/cut")"
    began=$(date +%s%3N)
    heal
    node 2 ready --timeout 20s >/dev/null || die "node 2 does not serve 20 s after the cut"
    until_ok 20 received || die "node 2 does not receive: $(cat "$T/seen")"
    took=$(($(date +%s%3N) - began))
}
median_within "all groups serve and all replicas receive after healing" "$bound" 1 3 cut_and_healed
grep -q 'heartbeats stayed unanswered' "$T/c/node-1/log" || die "node 1 does not say why it closed the link"
cluster down >/dev/null || die "down"
