#!/bin/sh
# Moves under a slow snapshot rate, while whoever runs them, the leader of partition 0, is killed 20 times: each takes effect
# exactly once. Then jobs are paused, resumed, cancelled and waited for.
. "$(dirname "$0")/lib.sh"
rows=${ROWS:-12000} kills=${KILLS:-20}
KVD_SNAPSHOT_RATE=256KiB KVD_COORDINATOR_ENABLED=false KVD_COORDINATOR_MOVES=3
KVD_RAFT_LOG_KEEP=1MiB KVD_STORAGE_MEMTABLE=2MiB KVD_STORAGE_SEGMENT=2MiB KVD_STORAGE_SEGMENT_MAX=2MiB # so that a copy is a snapshot
export KVD_SNAPSHOT_RATE KVD_COORDINATOR_ENABLED KVD_COORDINATOR_MOVES KVD_RAFT_LOG_KEEP KVD_STORAGE_MEMTABLE KVD_STORAGE_SEGMENT KVD_STORAGE_SEGMENT_MAX
cluster up --nodes 4 --base-port "$P" >/dev/null || die "up"
awk -v n="$rows" 'BEGIN { for (i = 0; i < n; i++) printf "row%06d\t%0400d\n", i, i }' >"$T/rows.tsv"
kvctl --timeout 60s import "$T/rows.tsv" 2>"$T/import.log" || die "import: $(cat "$T/import.log")"
map() { kvctl keyspace show default -o json --timeout 10s | jq "$@"; }
jobs_of() { kvctl job list -o json --timeout 10s | jq -s "$@"; }
job() { # ID FILTER
    kvctl job show "$1" -o json --timeout 10s | jq -r "$2"
}
coordinator() { kvctl status -o json 2>/dev/null | jq '.groups[] | select(.id == 0) | .leader // 0'; }

# One move of each partition, from the last of its nodes to the one without it.
round_begin() {
    map -r '.ranges[] | "\(.id) \(.nodes[-1]) \([1, 2, 3, 4] - .nodes | first)"' >"$T/plan"
    while read -r id from to; do
        kvctl partition move "$id" "$from" "$to" --no-wait -o raw --timeout 20s >>"$T/opened" 2>"$T/move" || die "move $id $from $to: $(cat "$T/move")"
        echo "$id $from $to" >>"$T/moved"
    done <"$T/plan"
}
open_count() { jobs_of '[.[] | select(.state | IN("queued", "running"))] | length'; }
nothing_open() { [ "$(open_count)" = 0 ]; }
until_ok 60 seated 1 2 3 4 || die "replicas still move between the workers of a node"
epochs() { map -r '.ranges[] | "\(.id) \(.conf_epoch)"' | sort; }
epochs >"$T/epochs"
killed=0 fence_max=0
: >"$T/opened"
while [ $killed -lt "$kills" ]; do
    if nothing_open; then round_begin; fi
    victim=$(coordinator)
    [ "${victim:-0}" -gt 0 ] || continue
    cluster kill "$victim" >/dev/null || die "kill $victim"
    killed=$((killed + 1))
    cluster start "$victim" --timeout 1 >/dev/null 2>&1 # it is a learner of what moves: nobody waits for that
    until_ok 30 kvctl node show "$victim" || die "node $victim does not come back"
done
until_ok 180 nothing_open || die "jobs are left: $(jobs_of -c '.[] | select(.state == "running" or .state == "queued")')"
expect "every job is there once" "$(sort -n "$T/opened" | tr '\n' ' ')" "$(jobs_of -r '.[].id' | sort -n | tr '\n' ' ')"
expect "every job is done" '["done"]' "$(jobs_of -c '[.[].state] | unique')"
fence_max=$(jobs_of '[.[].fence] | max')
[ "$fence_max" -gt 1 ] || die "no job had a second runner"
while read -r id _ to; do
    map -e --argjson id "$id" --argjson to "$to" '.ranges[] | select(.id == $id) | .nodes | length == 3 and index($to) != null' >/dev/null || die "partition $id is not on node $to"
done <"$T/plan"
# Who came and who went, by the descriptors of both configurations that nodes have applied: PARTITION EPOCH FROM TO. Moves between workers of
# one node are among them; they are nobody's job.
until_ok 60 seated 1 2 3 4 || die "replicas are still on their way: $(map -c '.ranges')"
cat "$T"/c/node-?/log | sed -n 's/.* raft descriptor group=\([0-9]*\) conf_epoch=\([0-9]*\) .* joint=1 members="\(.*\)"$/\1 \2 \3/p' | sort -u | awk '{
        for (i = 3; i <= NF; i++) { split($i, r, "[@:]"); if (r[3] == "outgoing") from = r[2]; if (r[3] == "incoming") to = r[2] }
        print $1, $2, from, to }' | sort -n -k 1,1 -k 2,2 >"$T/joint"
expect "each move took effect once" "$(sort "$T/moved")" "$(awk '$3 != $4 { print $1, $3, $4 }' "$T/joint" | sort)"
# Each is three descriptors: a learner, both configurations, the new one.
awk 'FILENAME ~ /epochs/ { epoch[$1] = $2; next } $2 > epoch[$1] { epoch[$1] += 3 } END { for (id in epoch) print id, epoch[id] }' "$T/epochs" "$T/joint" | sort >"$T/want"
expect "and nothing else has changed a descriptor" "$(cat "$T/want")" "$(epochs)"
echo "ok: $(wc -l <"$T/opened") moves, each once, over $killed kills of their runner; the highest fence was $fence_max"
expect "every row" "$rows" "$(kvctl scan --prefix row -o json --timeout 20s | jq -r .key | sort -u | wc -l)"

# ---- pause, resume, cancel, wait ----
plan_of() { map -r --argjson id "$1" '.ranges[] | select(.id == $id) | "\($id) \(.nodes[-1]) \([1, 2, 3, 4] - .nodes | first)"'; }
learners() { # of partition ID where the plan has it go, on its leader's word
    kvctl node show "$(map --argjson id "$1" '.ranges[] | select(.id == $id) | .leader')" |
        jq --argjson id "$1" --argjson to "${plan##* }" '[.groups[] | select(.id == $id) | .replicas[] | select(.role == "learner" and .node == $to)] | length'
}
nodes_of() { map -c --argjson id "$1" '.ranges[] | select(.id == $id) | .nodes | sort'; }
copies() { [ "$(learners 1)" = 1 ]; }
copies_none() { [ "$(learners 1)" = 0 ]; }
is() { [ "$(job "$1" .state)" = "$2" ]; }
plan=$(plan_of 1) nodes=$(nodes_of 1)
# shellcheck disable=SC2086 # three words
j=$(kvctl partition move $plan --no-wait -o raw) || die "move $plan"
until_ok 10 copies || die "no copy begins"
kvctl job pause "$j" >/dev/null || die "pause"
expect "a job that is paused" paused "$(job "$j" .state)"
until_ok 10 copies_none || die "the copy of a paused move goes on"
kvctl job wait "$j" --timeout 300ms 2>"$T/wait"
expect "waiting for a paused job: exit" 7 $?
kvctl job resume "$j" >/dev/null || die "resume"
until_ok 10 copies || die "it does not go on"
kvctl job cancel "$j" >/dev/null || die "cancel: $(job "$j" .note)"
until_ok 15 is "$j" cancelled || die "it is $(job "$j" .state)"
expect "nothing is left of a cancelled move" 0 "$(learners 1)"
kvctl job wait "$j" 2>"$T/wait"
expect "waiting for a cancelled job: exit" 4 $?
expect "it moved nothing" "$nodes" "$(nodes_of 1)"
# shellcheck disable=SC2086
j=$(kvctl partition move $plan --no-wait -o raw) || die "move $plan again"
# shellcheck disable=SC2086
expect "the same move is the same job" "$j" "$(kvctl partition move $plan --no-wait -o raw)"
kvctl partition move 1 "${plan##* }" "${plan%% *}" 2>"$T/other"
expect "another move of that partition: exit" 4 $?
grep -q "has job $j already" "$T/other" || die "another move: $(cat "$T/other")"
measured() { kvctl job show "$j" -o json | jq -e '.unit == "bytes" and .done > 0 and .eta_ms > 0' >/dev/null || is "$j" "done"; }
until_ok 20 measured || die "no progress: $(job "$j" .)"
kvctl job wait "$j" --timeout 60s >/dev/null 2>"$T/wait" || die "wait: $(cat "$T/wait")"
kvctl job cancel "$j" 2>"$T/late"
expect "cancelling what is done: exit" 4 $?
kvctl job show 99999 2>/dev/null
expect "a job that is none: exit" 3 $?

# ---- blockers ----
plan=$(plan_of 2)
away=${plan##* }
cluster kill "$away" >/dev/null || die "kill $away"
# shellcheck disable=SC2086
j=$(kvctl partition move $plan --no-wait -o raw --timeout 20s) || die "move $plan to a dead node"
waits() { job "$j" .note | grep -q "waiting for node $away, which is not connected"; }
until_ok 20 waits || die "its note: $(job "$j" .note)"
cluster start "$away" >/dev/null || die "start $away"
kvctl job wait "$j" --timeout 60s >/dev/null 2>"$T/wait" || die "wait: $(cat "$T/wait")"
echo "ok: a move to a node that is away waits for it, and says so"
d=$(kvctl node drain 4 -o json | jq .job)
expect "a drain is a job" running "$(until_ok 10 is "$d" running; job "$d" .state)"
kvctl job cancel "$d" >/dev/null || die "cancel the drain"
expect "a cancelled drain leaves the node up" up "$(kvctl node list -o json | jq -r 'select(.id == 4) | .state')"
