#!/bin/sh
# The disk that fault tests preload: what was synced stays, everything else is taken back, or page by
# page some of it, in files that grew, shrank, were replaced, removed or made.
. "$(dirname "$0")/lib.sh"
case $B in /*) ;; *) B=$PWD/$B ;; esac
round() { # SEED: even loses all, odd some
    rm -rf "$T/data" "$T/shim" && mkdir "$T/data" "$T/shim" && truncate -s 4096 "$T/shim/control" || die "directories"
    LD_PRELOAD=$B/libkvjepsen_disk.so ASAN_OPTIONS=verify_asan_link_order=0 KVJEPSEN_DATA=$T/data KVJEPSEN_SHIM=$T/shim \
        "$B/jepsen_disk" work "$T/data" || die "work under the disk"
    "$B/jepsen_disk" check "$T/data" "$T/shim" "$1" || die "seed $1"
}
round 0
echo "ok: everything that was not synced is gone"
seed=1
while [ $seed -lt 60 ]; do
    round $seed
    seed=$((seed + 2))
done
echo "ok: or any part of it, page by page"
