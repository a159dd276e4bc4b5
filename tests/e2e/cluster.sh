#!/bin/sh
# Every verb of tools/cluster does what it says, may be repeated, and fails with one line.
. "$(dirname "$0")/lib.sh"
refused() { # WHAT, words of the reason, verb and arguments
    what=$1 reason=$2
    shift 2
    if said=$(cluster "$@" 2>&1); then die "$what: succeeded"; fi
    expect "$what: one line" 1 "$(printf '%s\n' "$said" | wc -l)"
    case $said in *"$reason"*) ;; *) die "$what: says '$said'" ;; esac
}
pid() { sed -n 's/^ {"id":'"$1"',"pid":\([0-9]*\),.*/\1/p' "$T/c/cluster.json"; }
state() { sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null; }

refused 'start without a cluster' 'no cluster' start 1
refused 'a bad number of nodes' '--nodes' up --nodes 0
from_nothing() {
    cluster wipe all || die "wipe all"
    began=$(date +%s%3N)
    cluster up --nodes 3 --base-port "$P" || die "up"
    took=$(($(date +%s%3N) - began))
}
median_within "up" 5000 1 5 from_nothing
one=$(pid 1) two=$(pid 2)
cluster up || die "up again"
expect 'up again starts nothing' "$one $two" "$(pid 1) $(pid 2)"
refused 'another size' 'wipe all' up --nodes 5
refused 'an unknown node' "no node '4'" kill 4
refused 'no node named' 'needs a node' pause
refused 'an unknown verb' 'unknown verb' jump
expect 'client.key is private' 600 "$(stat -c %a "$T/c/client.key")"
kvctl put before wipe >/dev/null || die "put"

cluster pause 2 || die "pause"
expect 'a paused node stands still' T "$(state "$two")"
cluster pause 2 || die "pause again"
cluster resume 2 || die "resume"
cluster resume 2 || die "resume again"

cluster kill 3 || die "kill"
cluster kill 3 || die "kill again"
expect 'a killed node has no pid' 0 "$(pid 3)"
if cluster status >/dev/null 2>&1; then die 'status succeeds while a node is down'; fi
refused 'pausing a node that does not run' 'does not run' pause 3
cluster start 3 || die "start"
cluster start 3 || die "start again"
cluster wipe 3 || die "wipe"
[ ! -e "$T/c/node-3/data" ] || die "wipe left data"
cluster start 3 || die "a wiped node does not come back"
learns=$("$B/kvctl" --addr 127.0.0.3:"$N" --key "$T/c/client.key" node show 3 |
    jq '[.groups[].replicas[] | select(.node == 3 and .role != "voter")] | length')
expect 'it is ready when all its replicas vote, and nothing is left of those it lost' 0 "$learns"
cluster kill 1 || die "kill the leader"
expect 'what the wiped node took over serves' wipe "$(kvctl get before)"
cluster start 1 || die "start 1"

cluster down || die "down"
cluster down || die "down again"
cluster up || die "up after down"
expect 'the data is still there' wipe "$(kvctl get before)"
cluster wipe all || die "wipe all"
cluster wipe all || die "wipe all again"
expect 'nothing is left' '' "$(ls "$T/c")"
