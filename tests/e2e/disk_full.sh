#!/bin/sh
# A full disk and back, on a small file system of the test's own: writes are refused with NO_SPACE, reads and
# deletes work, also after a restart; with room again it goes on by itself, and nothing is lost. Alone, and as
# one and two of three.
if [ -z "${KVD_TEST_NAMESPACE:-}" ]; then
    unshare -rm mount -t tmpfs none /mnt 2>/dev/null || {
        echo "skipped: no user namespaces here, so no file system of our own"
        exit 0
    }
    exec env KVD_TEST_NAMESPACE=1 unshare -rm sh "$0" "$@"
fi
. "$(dirname "$0")/lib.sh"
export KVD_STORAGE_RESERVE=8MiB KVD_STORAGE_SEGMENT_MAX=4MiB KVD_STORAGE_MEMTABLE=1MiB
disks=
let_go() { # of the file systems, which end with the namespace; then as always
    status=$?
    for d in $disks; do umount -l "$d"; done
    (exit $status)
    cleanup
}
trap let_go EXIT
small_disk() { # DIRECTORY
    mkdir -p "$1"
    mount -t tmpfs -o size=40m none "$1" || die "mount"
    disks="$disks $1"
}
fill() { # DIRECTORY
    dd if=/dev/zero of="$1/filler" bs=64k 2>/dev/null
    [ "$(df --output=avail "$1" | tail -n 1)" -eq 0 ] || dd if=/dev/zero of="$1/filler2" bs=4k 2>/dev/null
}
make_room() { rm -f "$1/filler" "$1/filler2"; }

small_disk "$T/disk"
start() {
    "$B/kvd" --node-data "$T/disk/d" --resp-port "$P" --native-port "$N" 2>>"$T/kvd.log" &
    pid=$!
    started="$started $pid"
}
ctl() { "$B/kvctl" --addr 127.0.0.1:"$N" --key "$T/disk/d/client.key" "$@"; }
refused() { # asks for a write, wants a refusal that says why
    ctl --timeout 2s put refused x >/dev/null 2>"$T/err" && return 1
    grep -q 'the device is full.*applied: no' "$T/err"
}
start
until_ok 20 ctl put first one || die "no write within 20 s"
awk 'BEGIN { for (i = 0; i < 3000; i++) printf "row%06d\tvalue of row %d\n", i, i }' >"$T/rows.tsv"
ctl import "$T/rows.tsv" 2>/dev/null || die "import"
(n=0 && while ctl put "during$n" "$n" >/dev/null 2>&1; do n=$((n + 1)) && echo "$n" >"$T/acked"; done) &
writer=$!
started="$started $writer"
until_ok 20 [ -e "$T/acked" ] || die "the writer does not begin"
fill "$T/disk"
until_ok 20 refused || die "no refusal on a full disk: $(cat "$T/err")"
wait $writer
[ "$(ctl get row001234)" = "value of row 1234" ] || die "no read on a full disk"
n=0
while [ $n -lt 60 ]; do
    ctl del "$(printf 'row%06d' $n)" >/dev/null || die "no delete on a full disk"
    n=$((n + 1))
done
refused || die "deletes of a few rows are no reason to take writes: $(cat "$T/err")"
echo "ok: full: writes are refused, reads and deletes work"
kill -9 "$pid"
wait "$pid" 2>/dev/null
start
until_ok 20 ctl get row001234 || die "no start on a full disk: $(tail -n 1 "$T/kvd.log")"
until_ok 20 refused || die "no refusal after a restart: $(cat "$T/err")"
ctl del row000060 >/dev/null || die "no delete after a restart on a full disk"
make_room "$T/disk"
until_ok 20 ctl put room again || die "it does not recover with room: $(tail -n 3 "$T/kvd.log")"
ctl export "$T/out.tsv" --prefix row 2>/dev/null || die "export"
sort "$T/out.tsv" | cmp - "$(tail -n +62 "$T/rows.tsv" >"$T/left.tsv" && echo "$T/left.tsv")" || die "rows are missing, or back"
n=0
while [ $n -lt "$(cat "$T/acked")" ]; do
    [ "$(ctl get "during$n")" = "$n" ] || die "during$n was acknowledged and is lost"
    n=$((n + 1))
done
grep -q poisoned "$T/kvd.log" && die "a full disk poisoned the node"
kill -TERM "$pid"
wait "$pid"
expect "ends cleanly" 0 $?

# Of three nodes two get small disks.
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
cluster down >/dev/null || die "down"
for i in 2 3; do
    mv "$T/c/node-$i/data" "$T/c/node-$i/old"
    small_disk "$T/c/node-$i/data"
    rm -f "$T/c/node-$i/old/RESERVE" # sparse when copied
    cp -a "$T/c/node-$i/old/." "$T/c/node-$i/data/" || die "copy"
done
cluster up >/dev/null || die "up on small disks"
full() { kvctl -o json status 2>/dev/null | grep -o "{\"id\":$1,[^}]*" | grep -q '"full":true'; }
not_full() { kvctl -o json status 2>/dev/null | grep -o "{\"id\":$1,[^}]*" | grep -q '"full":false'; }
fill "$T/c/node-2/data"
until_ok 20 full 2 || die "node 2 does not say that its disk is full"
cp "$T/rows.tsv" "$T/rows3.tsv"
kvctl --timeout 20s import "$T/rows3.tsv" 2>"$T/err" || die "one full disk of three stops the cluster: $(cat "$T/err")"
echo "ok: one full disk of three: the others go on"
fill "$T/c/node-3/data"
until_ok 20 full 3 || die "node 3 does not say that its disk is full"
refused_by_all() {
    kvctl --timeout 2s put refused x >/dev/null 2>"$T/err" && return 1
    grep -q 'the device is full.*applied: no' "$T/err"
}
until_ok 20 refused_by_all || die "two full disks of three: no refusal: $(cat "$T/err")"
[ "$(kvctl get row001234)" = "value of row 1234" ] || die "no read with two full disks"
kvctl del row000000 >/dev/null || die "no delete with two full disks"
echo "ok: two full disks of three: writes are refused, reads and deletes work"
for i in 2 3; do make_room "$T/c/node-$i/data"; done
until_ok 20 not_full 2 || die "node 2 does not recover"
until_ok 20 kvctl put room again || die "no writes with room again"
cluster kill 1 >/dev/null || die "kill 1" # now both are needed
kvctl --timeout 20s export "$T/out3.tsv" --prefix row 2>/dev/null || die "export"
sort "$T/out3.tsv" | cmp - "$(tail -n +2 "$T/rows.tsv" >"$T/left.tsv" && echo "$T/left.tsv")" || die "rows are missing, or back"
echo "ok: room again: nothing is lost"
cluster down >/dev/null || die "down"
