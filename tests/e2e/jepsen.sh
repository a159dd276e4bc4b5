#!/bin/sh
# The fault tests test themselves: a run under real cuts passes and leaves a history that kvctl's
# checker accepts too; one whose cut drops nothing, whose node crashes and whose client read what
# nobody wrote is reported as failed, for each of these reasons; a matrix counts both kinds. JEPSEN_SECONDS=3 each.
. "$(dirname "$0")/lib.sh"
seconds=${JEPSEN_SECONDS:-3} seed=${TEST_SEED:-1}
skip() {
    echo "skipped: jepsen: $*"
    exit 0
}
command -v nft >/dev/null || skip "no nft"
unshare -rnm --pid --fork --kill-child nft add table ip test 2>/dev/null || skip "no namespaces or no nftables here"
echo "seed $seed (TEST_SEED=$seed sh $0)"
jepsen() { BUILD=$B jepsen/run --workload register --nodes 3 --seed "$seed" --seconds "$seconds" --dir "$T/run" "$@"; }

jepsen --nemesis split >"$T/good.log" || die "a sound run fails: $(cat "$T/good.log")"
expect "a sound run under a split passes" passed "$(sed -n 's/.*  \([a-zA-Z]*\)$/\1/p' "$T/good.log")"
expect "its result says so" true "$(jq .passed "$T/run/result.json")"
expect "every cut dropped packets" 0 "$(jq '[.faults[].proof | select(test("^[1-9][0-9]* packets dropped$") | not)] | length' "$T/run/result.json")"
expect "reads of each level were judged" "true" "$(jq ".reads | length == 4 and all(. > 0)" "$T/run/result.json")"
expect "its picture is whole" '</svg>' "$(tail -n 1 "$T/run/timeline.svg")"
"$B/kvctl" history check "$T/run/history.jsonl" >"$T/check.log" || die "kvctl: $(cat "$T/check.log")"
echo "ok: kvctl history check accepts it"

jepsen --nemesis split --sabotage cut --sabotage node --sabotage read >"$T/bad.log"
expect "a spoilt run exits as a violation" 4 $?
grep -q 'shows no effect: 0 packets dropped' "$T/bad.log" || die "a cut that drops nothing goes unnoticed: $(cat "$T/bad.log")"
echo "ok: a cut that drops nothing fails the run"
grep -q 'node 1 ended by itself' "$T/bad.log" || die "a crashed node goes unnoticed: $(cat "$T/bad.log")"
echo "ok: a node that crashes fails the run"
grep -q 'violation: register .*: no order' "$T/bad.log" || die "a read of what nobody wrote goes unnoticed: $(cat "$T/bad.log")"
echo "ok: a read of what nobody wrote fails the run"
grep -q '^  again: jepsen/run .*--seed '"$seed" "$T/bad.log" || die "no command that replays it"
echo "ok: the command that replays it is printed"

jepsen --nemesis kill --doors native --sabotage stale >"$T/stale.log"
expect "a run with reads older than they may be exits as a violation" 4 $?
grep -q "gone for longer than its bound allows" "$T/stale.log" || die "an old read goes unnoticed: $(cat "$T/stale.log")"

jepsen --nemesis unite --sabotage lost >"$T/lost.log" && die "a key that is gone goes unnoticed: $(cat "$T/lost.log")"
grep -q "ownership: key .* 0 times" "$T/lost.log" || die "a key that is gone goes unnoticed: $(cat "$T/lost.log")"
echo "ok: a key that was read and is gone fails the run"

# What administrators do, beside deaths and cuts; each of it is done in the end.
jepsen --nemesis churn --nodes 5 --seconds 8 >"$T/churn.log" || die "a sound run under churn fails: $(cat "$T/churn.log")"
expect "nothing that was asked for is left" 0 "$(jq "[.faults[].proof | select(. == \"not done yet\")] | length" "$T/run/result.json")"
jepsen --nemesis move >"$T/few.log" 2>&1 && die "a move among three nodes passes"
grep -q "nemesis move needs 4 nodes" "$T/few.log" || die "a move without room is not refused by name: $(cat "$T/few.log")"
echo "ok: a move among as many nodes as replicas is refused"

# A matrix: several runs at a time, each counted, also one that fails. Its own build folder, since results go there.
mkdir "$T/build" && ln -s "$(cd "$B" && pwd)"/kv* "$(cd "$B" && pwd)"/libkvjepsen_disk.so "$T/build" || die "links"
matrix() { BUILD=$T/build jepsen/run --runs 2 --jobs 2 --nodes 3 --seed "$seed" --seconds "$seconds" "$@" >"$T/matrix.log"; }
matrix || die "a sound matrix fails: $(cat "$T/matrix.log")"
grep -q '^2 runs passed, 0 failed' "$T/matrix.log" || die "not two runs: $(cat "$T/matrix.log")"
expect "a report of both" 2 "$(grep -c 'timeline.svg) |$' "$T/build/jepsen/REPORT.md")"
matrix --sabotage read && die "a matrix of spoilt runs passes"
grep -q '^0 runs passed, 2 failed' "$T/matrix.log" || die "not two failures: $(cat "$T/matrix.log")"
echo "ok: a matrix counts the runs that passed and those that failed"

# A node that recovers for longer than the nemesis is quiet is told to stop before it serves (seed 6 strikes one node twice).
mv "$T/build/kvd" "$T/build/kvd-itself" || die "mv"
printf '#!/bin/sh\ncase $1 in --config) sleep 3 ;; esac\nexec "%s" "$@"\n' "$T/build/kvd-itself" >"$T/build/kvd" && chmod +x "$T/build/kvd" || die "kvd"
BUILD=$T/build jepsen/run --workload register --nemesis restart --nodes 3 --seed 6 --seconds 8 --dir "$T/run" >"$T/slow.log" ||
    die "a node that is told to stop while it starts fails the run: $(cat "$T/slow.log")"
echo "ok: a node that is told to stop while it starts has stopped"
