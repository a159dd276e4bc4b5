#!/bin/sh
# Runs test programs one after another, prints one line each, the output of those that
# failed, and a last line "N passed, N failed". usage: run.sh PROGRAM...
set -u
passed=0 failed=0 out=$(mktemp)
trap 'rm -f "$out"' EXIT
for t in "$@"; do
    start=$(date +%s%N)
    if timeout "${TEST_SECONDS:-300}" "$t" >"$out" 2>&1; then
        result=ok passed=$((passed + 1))
    else
        result="FAILED (exit $?)" failed=$((failed + 1))
    fi
    printf '%-44s %6d ms  %s\n' "${t#*/unit/}" $((($(date +%s%N) - start) / 1000000)) "$result"
    grep -E '^skipped' "$out"
    [ "$result" = ok ] || sed 's/^/    /' "$out"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
