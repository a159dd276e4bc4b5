#!/bin/sh
# Runs every fuzzer for a while from its stored corpus. usage: run.sh BUILD SECONDS; TEST_SEED=n chooses as before
set -u
build=$1 seconds=$2 failed='' seed=${TEST_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
echo "seed $seed"
for f in "$build"/bin/fuzz_*; do
    [ -x "$f" ] || continue
    name=${f##*/fuzz_}
    corpus=$build/corpus/$name
    mkdir -p "$corpus"
    stored=tests/fuzz/corpus/$name
    [ -d "$stored" ] || stored=
    # shellcheck disable=SC2086
    if "$f" -seed="$seed" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -artifact_prefix="$build/" "$corpus" $stored >"$build/$name.log" 2>&1; then
        echo "fuzz $name: ok, $(grep -oE 'stat::number_of_executed_units: *[0-9]+|#[0-9]+' "$build/$name.log" | tail -1)"
    else
        tail -n 30 "$build/$name.log"
        found=$(sed -n "s/.*Test unit written to //p" "$build/$name.log" | tail -n 1)
        said="fuzz $name: FAILED; again: $f ${found:--seed=$seed -max_total_time=$seconds $corpus $stored}"
        echo "$said"
        failed="$failed$said
"
    fi
done
printf %s "$failed"
[ -z "$failed" ]
