#!/bin/sh
# kill -9 of random nodes under load: every acknowledged write is read back. KILLS=50 for the long run.
. "$(dirname "$0")/lib.sh"
kills=${KILLS:-8} rows=${ROWS:-20000}
seed=${TEST_SEED:-$$}
echo "seed $seed (TEST_SEED=$seed sh $0)"
cluster up --nodes 3 --base-port "$P" || die "up"
make_rows() { # FROM TO
    awk -v from="$1" -v to="$2" 'BEGIN { for (i = from; i < to; i++) printf "row%07d\tvalue of row %d\n", i, i }'
}
load() { # until the last kill is over, and at least $rows rows
    n=0
    while [ ! -e "$T/over" ] || [ $n -lt "$rows" ]; do
        make_rows $n $((n + 2000)) >"$T/part.tsv"
        rm -f "$T/part.tsv.kvprogress"
        kvctl --timeout 20s import "$T/part.tsv" --in-flight 16 2>"$T/import.log" || return 1
        n=$((n + 2000))
        echo $n >"$T/acknowledged"
    done
}
load &
load=$!
started="$started $load"
k=0
while [ $k -lt "$kills" ]; do
    seed=$(((seed * 1103515245 + 12345) % 2147483648))
    victim=$((seed / 65536 % 3 + 1))
    cluster kill $victim || die "kill $victim"
    cluster start $victim || die "start $victim after kill $k"
    k=$((k + 1))
done
: >"$T/over"
wait $load || die "import: $(tail -n 1 "$T/import.log")"
rows=$(cat "$T/acknowledged")
make_rows 0 "$rows" >"$T/rows.tsv"
kvctl export "$T/out.tsv" --prefix row 2>/dev/null || die "export"
sort "$T/out.tsv" >"$T/out.sorted"
cmp "$T/rows.tsv" "$T/out.sorted" || die "acknowledged rows are missing or changed"
echo "ok: $rows acknowledged writes survive $kills kills"
cluster down || die "down"
