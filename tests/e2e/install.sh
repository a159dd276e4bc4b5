#!/bin/sh
# A node that lost everything is killed five times while it installs snapshots under load; then it
# comes back whole, and nothing is lost.
. "$(dirname "$0")/lib.sh"
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
awk 'BEGIN { for (i = 0; i < 60000; i++) printf "row%06d\tvalue of row %d, long enough to make snapshots of some size\n", i, i }' >"$T/rows.tsv"
kvctl import "$T/rows.tsv" 2>/dev/null || die "import"
cluster wipe 3 >/dev/null || die "wipe"
awk 'BEGIN { for (i = 0; i < 20000; i++) printf "more%06d\tm%d\n", i, i }' >"$T/more.tsv"
kvctl --timeout 20s import "$T/more.tsv" 2>"$T/more.log" &
load=$!
started="$started $load"
k=0
while [ $k -lt 5 ]; do
    k=$((k + 1))
    was=$(cat "$T/c/node-3/log" | wc -l)
    cluster start 3 --timeout 2 >/dev/null 2>&1 &
    starter=$!
    started="$started $starter" # it must not start nodes behind a failed test's back
    # killed at the k-th 200 ms of its life, wherever the install is then
    serving() { tail -n +$((was + 1)) "$T/c/node-3/log" | grep -q serving; }
    until_ok 20 serving || die "node 3 does not start"
    sleep "0.$((k * 2 - 1))"
    ended "$(cat "$T/c/node-3/pid")" && die "node 3 died by itself: $(tail -n 1 "$T/c/node-3/log")"
    cluster kill 3 >/dev/null || die "kill $k"
    wait $starter
done
wait $load || die "import under the kills: $(tail -n 1 "$T/more.log")"
cluster start 3 >/dev/null || die "node 3 does not come back"
until_ok 60 settled 1 || die "replicas of node 3 are still being replaced"
for f in row more; do
    kvctl export "$T/out.tsv" --prefix $f 2>/dev/null || die "export"
    sort "$T/out.tsv" >"$T/out.sorted"
    [ $f = row ] && want=$T/rows.tsv || want=$T/more.tsv
    cmp "$T/out.sorted" "$want" || die "rows $f differ"
    rm -f "$T/out.tsv"
done
cluster kill 1 >/dev/null || die "kill 1" # now node 3 is needed for every quorum
kvctl put last write >/dev/null || die "the node that came back does not count"
expect "reads through the new replicas" write "$(kvctl get last)"
installed=$(grep -c snapshot-installed "$T/c/node-3/log")
[ "$installed" -ge 1 ] || die "what node 3 has did not come by snapshot"
echo "ok: nothing lost; $installed snapshots installed over five kills"
cluster down >/dev/null || die "down"
