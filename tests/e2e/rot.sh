#!/bin/sh
# Flipped bits under real nodes: in the log, in a value of the state, in an inner page of the state, while
# the node is down and while it runs. Each time the replica says where, neither votes nor serves, and is
# rebuilt from its peers under a new id by itself; no wrong value is ever read and nothing is lost.
. "$(dirname "$0")/lib.sh"
rows=${ROWS:-6000}
export KVD_STORAGE_MEMTABLE=1MiB # checkpoints early
data() { echo "$T/c/node-$1/data"; }
log_of() { echo "$T/c/node-$1/log"; }
# The replicas that NODE is a voter with: GROUP ID WORKER. What came to be since: successors, under ids that were not there.
replicas() {
    kvctl -o json node show "$1" 2>/dev/null | jq -r --argjson n "$1" '.groups[] | . as $g | .replicas[] | select(.node == $n and .role == "voter") | "\($g.id) \(.id) \($g.worker)"'
}
remember() { replicas "$1" >"$T/replicas.$1"; } # NODE
successors() { replicas "$1" | grep -vcxFf "$T/replicas.$1"; } # NODE
rebuilt() { # NODE AT_LEAST
    [ "$(successors "$1")" -ge "$2" ]
}
all_there() { # WHAT
    kvctl --timeout 20s export "$T/out.tsv" --prefix row 2>"$T/export.log" || die "$1: export: $(cat "$T/export.log")"
    sort "$T/out.tsv" | cmp - "$T/rows.tsv" || die "$1: rows are missing or changed"
    echo "ok: $1"
}
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
awk -v n="$rows" 'BEGIN { for (i = 0; i < n; i++) printf "row%06d\tvalue of row %06d, long enough to matter, and then a little longer than that\n", i, i }' >"$T/rows.tsv"
kvctl import "$T/rows.tsv" 2>/dev/null || die "import"
checkpointed() { for store in $(stores "$(data 1)"); do grep -q "value of row" "$store/state/data.mdb" || return 1; done; }
until_ok 20 checkpointed || die "no checkpoint"

# The log of node 2, far below its synced end.
remember 2
cluster kill 2 >/dev/null || die "kill 2"
"$B/kvlog" dump "$(data 2)" >"$T/dump" || die "dump"
at=$(grep ' entry .* row' "$T/dump" | sed -n "$((rows / 20))p" | cut -d' ' -f1)
rot_byte "$(data 2)/${at%:*}" $((${at#*:} + 40))
: >"$(log_of 2)"
cluster start 2 >/dev/null || die "node 2 does not come back after damage to its log"
grep -q "damage.*${at%:*} at [0-9]*: " "$(log_of 2)" || die "file and offset are not told"
grep -q 'replica-not-intact' "$(log_of 2)" || die "replicas on a damaged log took part"
until_ok 60 rebuilt 2 1 || die "no successor on node 2"
until_ok 60 settled 2 || die "replicas of node 2 are still being replaced"
cluster kill 1 >/dev/null || die "kill 1" # node 2 is needed for every quorum
all_there "rot in the log: rebuilt under new ids"
cluster start 1 >/dev/null || die "start 1"

# A value in the state of node 3, while it is down.
row_places() { # NODE ROW: every copy of it, of earlier commits too: FILE:OFFSET
    for store in $(stores "$(data "$1")"); do
        grep -abo "value of row $2," "$store/state/data.mdb" | cut -d: -f1 | sed "s|^|$store/state/data.mdb:|"
    done
}
flip_row() { for place in $(row_places "$1" "$2"); do rot_byte "${place%:*}" $((${place##*:} + 3)); done; } # NODE ROW
row=$(for i in $(seq 1 400); do r=$(printf '%06d' $i); [ -z "$(row_places 3 $r)" ] || { echo $r; break; }; done)
[ -n "$row" ] || die "no row in the state of node 3"
remember 3
cluster kill 3 >/dev/null || die "kill 3"
flip_row 3 "$row"
: >"$(log_of 3)"
cluster start 3 >/dev/null || die "node 3 does not come back after damage to a value"
grep -q 'damage.*state/data.mdb: offset [0-9]*: page' "$(log_of 3)" || die "the place is not told"
until_ok 60 rebuilt 3 1 || die "no successor on node 3"
all_there "rot in a value, found at the start"

# The same under a running node, found by whoever reads it. The one that leads most groups will do.
n=$(kvctl -o json status | grep -o '"leader":[0-9]*' | sort | uniq -c | sort -n | tail -n 1 | cut -d: -f2)
: >"$(log_of "$n")"
for i in $(seq 401 440); do flip_row "$n" "$(printf '%06d' "$i")"; done
for i in $(seq 401 440); do
    r=$(printf 'row%06d' "$i")
    got=$(kvctl --timeout 20s get "$r") || die "$r cannot be read while its replica is rebuilt"
    [ "$got" = "$(sed -n "s/^$r\t//p" "$T/rows.tsv")" ] || die "a wrong value was served: $got"
done
grep -q 'replica-corrupt.*not what was written' "$(log_of "$n")" || die "nobody met a rotten value"
replaced() { [ "$(grep -c snapshot-installed "$(log_of "$n")")" -ge "$(grep -c replica-corrupt "$(log_of "$n")")" ]; }
until_ok 60 replaced || die "no successor of a corrupt replica"
all_there "rot in values under a running node"

# An inner page of the same node's state: a child that is another page.
store=$(stores "$(data "$n")" | tail -n 1) # of one worker, the last
worker=${store##*/data} worker=${worker#/worker-}
inner() { "$B/kvlog" pages "$store" | grep -v 'free' | grep " $1 inner, " | head -n 1 | cut -d' ' -f1; }
until_ok 60 settled "$n" || die "replicas of node $n are still being replaced"
remember "$n"
cluster kill "$n" >/dev/null || die "kill $n"
at=$(inner data)
[ -n "$at" ] || die "the state of node $n has no inner page"
offset=${at##*:}
# the number of its second child stands where the second of its offsets says
second=$(od -An -tu2 -j $((offset + 18)) -N 2 "$store/state/data.mdb" | tr -d ' ')
rot_byte "$store/state/data.mdb" $((offset + second))
: >"$(log_of "$n")"
cluster start "$n" >/dev/null || die "node $n does not come back after damage to an inner page"
grep -q "state-damaged.*state/data.mdb: offset [0-9]*: page" "$(log_of "$n")" || die "the place is not told: $(head -n 5 "$(log_of "$n")")"
expect "the damaged file is kept" yes "$([ -s "$store/state.damaged/data.mdb" ] && echo yes)"
grep " ${worker:-0}\$" "$T/replicas.$n" >"$T/damaged" # the replicas of that worker
rebuilt_all() { replicas "$n" >"$T/now" && [ "$(wc -l <"$T/now")" = 9 ] && ! grep -qxFf "$T/damaged" "$T/now"; }
until_ok 60 rebuilt_all || die "node $n has $(successors "$n") of $(wc -l <"$T/damaged") successors"
other=$((n % 3 + 1))
cluster kill $other >/dev/null || die "kill $other" # node n is needed for every quorum
all_there "rot in an inner page: all replicas rebuilt"
cluster start $other >/dev/null || die "start $other"

# A crash, perhaps inside LMDB: the next start reads all of the state, and finds it whole.
kill -SEGV "$(sed -n "s/.*\"id\":$n,\"pid\":\([0-9]*\).*/\1/p" "$T/c/cluster.json")"
crashed() { for store in $(stores "$(data "$n")"); do [ ! -s "$store/state/suspect" ] || return 0; done && return 1; }
until_ok 10 crashed || die "a crash leaves no mark"
until_ok 10 cluster kill "$n"
cluster start "$n" >/dev/null || die "node $n does not come back after a crash"
crashed && die "the mark stays"
echo "ok: a crash marks the state, a walk clears it"

# An inner page under the running node, found by its next checkpoint: LMDB is not to be asked again, so the
# node stops; its next start reads everything, finds the page and begins anew.
mkdir -p "$T/copy/state" && cp "$store/state/data.mdb" "$T/copy/state/" || die "copy"
at=$("$B/kvlog" pages "$T/copy" | grep " data inner, " | head -n 1 | cut -d' ' -f1)
offset=${at##*:}
second=$(od -An -tu2 -j $((offset + 18)) -N 2 "$T/copy/state/data.mdb" | tr -d ' ')
: >"$(log_of "$n")"
rot_byte "$store/state/data.mdb" $((offset + second + 4)) # far behind the end of the file
sed 's/^row/more/' "$T/rows.tsv" >"$T/more.tsv"
kvctl --timeout 20s import "$T/more.tsv" 2>"$T/import.log" || die "the others do not go on: $(tail -n 1 "$T/import.log")"
stopped() { cluster status 2>/dev/null | grep -q "^$n *stopped"; }
until_ok 20 stopped || die "node $n runs on over a damaged page"
crashed || die "the next start would not know: $(tail -n 3 "$(log_of "$n")")"
: >"$(log_of "$n")"
cluster start "$n" >/dev/null || die "node $n does not come back after LMDB met a damaged page"
grep -q "state-damaged.*state/data.mdb: offset [0-9]*: page" "$(log_of "$n")" || die "the place is not told: $(head -n 5 "$(log_of "$n")")"
cluster kill $other >/dev/null || die "kill $other"
all_there "rot in an inner page under a running node"
cluster start $other >/dev/null || die "start $other"
cluster down >/dev/null || die "down"
