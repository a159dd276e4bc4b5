#!/bin/sh
# A node loses its data and is replaced by `kvctl node replace` under load: a learner in each group, then a
# joint configuration, then out of it. No write fails, nothing is lost, no replica id is used again.
. "$(dirname "$0")/lib.sh"
rows=${ROWS:-30000} more=${MORE:-30000}
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
awk -v n="$rows" 'BEGIN { for (i = 0; i < n; i++) printf "row%06d\tvalue of row %d, long enough to make snapshots of some size\n", i, i }' >"$T/rows.tsv"
awk -v n="$more" 'BEGIN { for (i = 0; i < n; i++) printf "more%06d\tm%d\n", i, i }' >"$T/more.tsv"
kvctl import "$T/rows.tsv" 2>/dev/null || die "import"
show() { # a jq filter over what node 1 says of its groups
    "$B/kvctl" --addr 127.0.0.1:"$N" --key "$T/c/client.key" node show 1 | jq -r ".groups[] | $1" | sort -n
}
members() { # "group id node role"
    show '.id as $g | .replicas[] | "\($g) \(.id) \(.node) \(.role)"'
}
epochs() { show '"\(.id) \(.conf_epoch)"'; }
epochs >"$T/before"
kvctl --timeout 10s import "$T/more.tsv" 2>"$T/more.log" &
load=$!
started="$started $load"
until_ok 10 test -s "$T/more.tsv.kvprogress" || die "the load does not begin"
cluster wipe 3 >/dev/null || die "wipe 3"
replace() { kvctl node replace 3 >"$T/replace" 2>&1; } # it asks to be run again while a group has no leader
until_ok 10 replace || die "node replace: $(cat "$T/replace")"
cluster start 3 --timeout 60 >/dev/null || die "node 3 does not come back"
done_with() { # every group: three voters, node 3's under an id it never had
    members >"$T/after"
    [ "$(grep -c voter "$T/after")" = 27 ] && [ "$(wc -l <"$T/after")" = 27 ] &&
        [ "$(awk '$3 == 3 && $2 > 3' "$T/after" | wc -l)" = 9 ]
}
until_ok 60 done_with || die "replicas: $(cat "$T/after")"
wait $load || die "import under the replacement: $(tail -n 1 "$T/more.log")"
epochs >"$T/epochs" # and not the journal, which leaves out what comes too often
changed=$(join "$T/before" "$T/epochs" | awk '$3 - $2 >= 3' | wc -l)
expect 'every group changed three times: a learner, joint, out of it' 9 "$changed"
cluster kill 1 >/dev/null || die "kill 1" # now node 3 is needed for every quorum
kvctl --timeout 10s put last write >/dev/null || die "the new replicas do not count"
for f in row more; do
    kvctl export "$T/out.tsv" --prefix $f 2>/dev/null || die "export"
    sort "$T/out.tsv" >"$T/out.sorted"
    [ $f = row ] && want=$T/rows.tsv || want=$T/more.tsv
    cmp "$T/out.sorted" "$want" || die "rows $f differ"
    rm -f "$T/out.tsv"
done
echo "ok: nothing lost"
cluster down >/dev/null || die "down"
