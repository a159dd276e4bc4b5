#!/bin/sh
# The disk of one node fails under load, first a sync, then a write: the node says so, gives its
# leaderships away and stops; the others go on. Started again on a good disk it serves, and nothing
# that was acknowledged is lost.
. "$(dirname "$0")/lib.sh"
[ -e "$B/disk_fault.so" ] || die "no $B/disk_fault.so, run make tests-built"
rows=${ROWS:-4000}
# Node I with the fault-injecting library beneath it (sanitized programs insist on coming first).
start_on_bad_disk() {
    env LD_PRELOAD="$(realpath "$B/disk_fault.so")" DISK_FAULT_DIR="$T/c/node-$1/data" DISK_FAULT_FILE="$T/fault" \
        ASAN_OPTIONS="verify_asan_link_order=0:${ASAN_OPTIONS:-}" BUILD="$B" tools/cluster start --dir "$T/c" "$1"
}
state() { cluster status 2>/dev/null | awk -v n="$1" '$1 == n { print $2 }'; }
# Asks for a write each time: an idle node does not touch its disk.
is_stopped() {
    kvctl put poke poke >/dev/null 2>&1
    [ "$(state "$1")" = stopped ]
}
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
cluster kill 2 >/dev/null || die "kill 2"
round=0
for fault in 'sync eio log-' 'write eio log-'; do
    round=$((round + 1))
    start_on_bad_disk 2 >/dev/null || die "node 2 does not start with the library"
    : >"$T/c/node-2/log"
    awk -v n="$rows" -v r=$round 'BEGIN { for (i = 0; i < n; i++) printf "r%d-%06d\tvalue %d of round %d\n", r, i, i, r }' >"$T/rows-$round.tsv"
    kvctl --timeout 20s import "$T/rows-$round.tsv" 2>"$T/import.log" &
    import=$!
    started="$started $import"
    until_ok 20 kvctl get "r$round-000100" || die "the import does not begin"
    echo "$fault" >"$T/fault"
    until_ok 20 is_stopped 2 || die "node 2 still runs on a disk that fails ($fault)"
    grep -q 'poisoned.*err=IO' "$T/c/node-2/log" || die "node 2 does not say why: $(tail -n 3 "$T/c/node-2/log")"
    grep -q 'stopped.*clean=0' "$T/c/node-2/log" || die "node 2 did not stop by itself"
    wait $import || die "the others do not go on ($fault): $(tail -n 1 "$T/import.log")"
    rm "$T/fault"
done
echo "ok: a failed sync and a failed write each stop the node, the others go on"
cluster start 2 >/dev/null || die "node 2 does not come back"
cluster kill 1 >/dev/null || die "kill 1" # now node 2 is needed for every quorum
cat "$T"/rows-?.tsv >"$T/rows.tsv"
kvctl --timeout 20s export "$T/out.tsv" --prefix r 2>/dev/null || die "export"
sort "$T/out.tsv" >"$T/out.sorted"
sort "$T/rows.tsv" | cmp - "$T/out.sorted" || die "acknowledged rows are missing or changed"
echo "ok: $((2 * rows)) acknowledged rows are there"

cluster down >/dev/null || die "down"
