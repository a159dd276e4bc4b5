#!/bin/sh
# Replicas compare their rows: equal ones agree under load; one row of one replica is another, with a good
# checksum, which nothing but the comparison can find: that replica is told so and rebuilt from the others.
. "$(dirname "$0")/lib.sh"
export KVD_STORAGE_MEMTABLE=1MiB KVD_STORAGE_SCRUB=1s
data() { echo "$T/c/node-$1/data"; }
agreed() { # GROUPS that agreed at least once, all three answering
    [ "$(cat "$T"/c/node-?/log | sed -n 's/.* store scrub \(group=[0-9]*\) .*answers=3 .*/\1/p' | sort -u | wc -l)" -ge "$1" ]
}
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
awk 'BEGIN { for (i = 0; i < 12000; i++) printf "row%06d\tvalue of row %06d, long enough to matter, and then a little longer than that\n", i, i }' >"$T/rows.tsv"
kvctl import "$T/rows.tsv" 2>/dev/null || die "import"
until_ok 60 agreed 9 || die "not all groups were compared: $(cat "$T"/c/node-?/log | grep -o "scrub group=.*answers=.")"
grep -h 'scrub-differs\|replica-corrupt' "$T"/c/node-?/log && die "replicas that are equal were told apart"
echo "ok: nine groups agree"
cluster kill 2 >/dev/null || die "kill 2"
rewritten=0
for store in $(stores "$(data 2)"); do # one of them has it
    "$B/rewrite_row" "$store" row000042 "a value that nobody wrote" 2>/dev/null && rewritten=$((rewritten + 1))
done
expect "stores that had the row" 1 $rewritten
"$B/kvlog" verify "$(data 2)" >/dev/null || die "the row looks damaged, which is not the point"
cluster start 2 >/dev/null || die "start 2"
corrupt() { grep -q "replica-corrupt.*not those of the other replicas" "$T/c/node-2/log"; }
until_ok 60 corrupt || die "nobody finds the row: $(grep -h scrub "$T"/c/node-?/log | tail -n 3)"
expect "one replica of one node" 1 "$(cat "$T"/c/node-?/log | grep -c replica-corrupt)"
grep -qh 'scrub-differs.*majority=1' "$T"/c/node-?/log || die "the leader does not say it"
rebuilt() { grep -q snapshot-installed "$T/c/node-2/log"; }
until_ok 60 rebuilt || die "no successor"
until_ok 60 settled 1 || die "replicas of node 2 are still being replaced" # a joint quorum needs both others
for k in 1 3; do # whoever serves now, node 2 is needed for the quorum, and may lead
    until_ok 20 cluster kill $k || die "kill $k"
    expect "the row without node $k" "$(sed -n 's/^row000042\t//p' "$T/rows.tsv")" "$(kvctl --timeout 20s get row000042)"
    cluster start $k >/dev/null || die "start $k"
done
cluster down >/dev/null || die "down"
