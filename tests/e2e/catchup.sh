#!/bin/sh
# A node stays down until the log is compacted past it. It returns with its old data, catches up by snapshot
# under load, and is killed five times while it installs; nothing is lost, and it counts again.
. "$(dirname "$0")/lib.sh"
rows=${ROWS:-30000} more=${MORE:-30000}
KVD_RAFT_LOG_KEEP=1MiB KVD_STORAGE_MEMTABLE=2MiB KVD_STORAGE_SEGMENT=2MiB KVD_STORAGE_SEGMENT_MAX=2MiB
KVD_SNAPSHOT_RATE=2MiB # slow enough to be met in the middle
export KVD_RAFT_LOG_KEEP KVD_STORAGE_MEMTABLE KVD_STORAGE_SEGMENT KVD_STORAGE_SEGMENT_MAX KVD_SNAPSHOT_RATE
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
awk -v n="$rows" 'BEGIN { for (i = 0; i < n; i++) printf "row%06d\tvalue of row %d, long enough to make snapshots of some size\n", i, i }' >"$T/rows.tsv"
awk -v n="$more" 'BEGIN { for (i = 0; i < n; i++) printf "more%06d\tm%d\n", i, i }' >"$T/more.tsv"
head -n 3000 "$T/rows.tsv" >"$T/part.tsv"
kvctl import "$T/part.tsv" 2>/dev/null || die "import"
groups() { # NODE FIELD: of its replicas of the data groups, "group value"
    "$B/kvctl" --addr 127.0.0."$1":"$N" --key "$T/c/client.key" node show "$1" |
        jq -r ".groups[] | select(.id > 0) | \"\(.id) \(.$2)\""
}
groups 3 last >"$T/had" || die "node 3 does not say what it has"
cluster kill 3 >/dev/null || die "kill 3"
# Until both others have compacted their logs past all that node 3 has.
from=3001
past() {
    for i in 1 2; do groups $i compacted || return 1; done | awk 'NR == FNR { had[$1] = $2; next } $2 <= had[$1] { exit 1 }' "$T/had" -
}
while [ $from -le "$rows" ] || ! past; do
    [ $from -lt $((4 * rows)) ] || die "$from rows, and the log still reaches back to node 3"
    awk -v a=$from -v n=9500 'BEGIN { for (i = a - 1; i < a - 1 + n; i++) printf "row%06d\tvalue of row %d, long enough to make snapshots of some size\n", i, i }' >"$T/part.tsv"
    rm -f "$T/part.tsv.kvprogress"
    kvctl --timeout 20s import "$T/part.tsv" 2>"$T/part.log" || die "import without node 3: $(tail -n 1 "$T/part.log")"
    from=$((from + 9500))
done
awk -v n=$((from - 1)) 'BEGIN { for (i = 0; i < n; i++) printf "row%06d\tvalue of row %d, long enough to make snapshots of some size\n", i, i }' >"$T/rows.tsv"
kvctl --timeout 20s import "$T/more.tsv" 2>"$T/more.log" &
load=$!
started="$started $load"
k=0
while [ $k -lt 5 ]; do
    k=$((k + 1))
    was=$(wc -l <"$T/c/node-3/log")
    cluster start 3 --timeout 2 >/dev/null 2>&1 &
    starter=$!
    started="$started $starter"
    serving() { tail -n +$((was + 1)) "$T/c/node-3/log" | grep -q serving; }
    until_ok 10 serving || die "node 3 does not start"
    # Killed while snapshots stream in, or right behind the first that is in: the others are about to be.
    installed() { tail -n +$((was + 1)) "$T/c/node-3/log" | grep -q snapshot-installed; }
    if [ $((k % 2)) = 1 ]; then sleep "0.$k"; else until_ok 3 installed; fi
    cluster kill 3 >/dev/null || die "kill $k"
    wait $starter
done
wait $load || die "import under the kills: $(tail -n 1 "$T/more.log")"
cluster start 3 --timeout 60 >/dev/null || die "node 3 does not come back"
received() { # does node 3 hold, as the leaders see it, all that the data groups have?
    for i in 1 2 3; do
        "$B/kvctl" --addr 127.0.0.$i:"$N" --key "$T/c/client.key" node show $i 2>/dev/null
    done | jq -r '.node as $n | .groups[] | select(.id > 0 and .leader == $n) | . as $g
        | .replicas[] | select(.node == 3 and .match == $g.last) | $g.id' | sort -u >"$T/whole"
    [ "$(wc -l <"$T/whole")" = 8 ]
}
until_ok 60 settled 1 || die "replicas of node 3 are still being replaced"
until_ok 60 received || die "node 3 catches up with groups $(tr '\n' ' ' <"$T/whole")only"
installed=$(grep -c snapshot-installed "$T/c/node-3/log")
[ "$installed" -ge 8 ] || die "node 3 caught up with $installed snapshots though all logs were compacted past it"
check() { # WHEN
    for f in row more; do
        kvctl export "$T/out.tsv" --prefix $f 2>/dev/null || die "export $1"
        sort "$T/out.tsv" >"$T/out.sorted"
        [ $f = row ] && want=$T/rows.tsv || want=$T/more.tsv
        cmp "$T/out.sorted" "$want" || die "rows $f differ $1"
        rm -f "$T/out.tsv"
    done
}
check "after the kills"
cluster kill 1 >/dev/null || die "kill 1" # now node 3 is needed for every quorum
kvctl --timeout 10s put last write >/dev/null || die "the node that came back does not count"
check "through the node that came back"
echo "ok: nothing lost; $((from - 1)) rows; $installed snapshots installed over five kills, $(cat "$T"/c/node-*/log | grep -c 'snapshot-sent.*ok=0') cut off, $(grep -c snapshot-interrupted "$T/c/node-3/log") in the middle of an install"
cluster down >/dev/null || die "down"
