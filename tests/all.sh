#!/bin/sh
# All tests a pull request must pass: unit tests, layers, then the programs themselves on loopback.
# usage: all.sh BUILD_DIR. Prints a line each; behind them of each that failed its last lines and the command
# that repeats it; at last "N passed, N failed".
set -u
build=${1:-build}
BUILD=$build
CK_TIMEOUT_MULTIPLIER=${CK_TIMEOUT_MULTIPLIER:-4} # the limits of unit tests are for what hangs, on any machine
export BUILD CK_TIMEOUT_MULTIPLIER
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0 running=
out=$(mktemp "${TMPDIR:-/tmp}/kvd-all.XXXXXX") && report=$(mktemp "${TMPDIR:-/tmp}/kvd-all.XXXXXX") || exit 1
trap 'rm -f "$out" "$report"' EXIT
end_early() { # a test in its own process group outlives us, unless told
    [ -z "$running" ] || { kill -TERM "$running" 2>/dev/null && wait "$running"; }
    cat "$report"
    echo "stopped in the middle of $name: $passed passed, $failed failed"
    exit 143
}
trap end_early INT TERM
step() { # NAME COMMAND...
    name=$1 again="${TEST_SEED:+TEST_SEED=$TEST_SEED }BUILD=$build"
    shift
    start=$(date +%s%N)
    timeout --kill-after=20 "${TEST_SECONDS:-300}" "$@" >"$out" 2>&1 &
    running=$!
    wait "$running"
    status=$? running=
    case $status in
    0) result=ok passed=$((passed + 1)) ;;
    124 | 137) result="FAILED (not over in ${TEST_SECONDS:-300} s)" ;;
    *) result="FAILED (exit $status)" ;;
    esac
    printf '%-40s %7d ms  %s\n' "$name" $((($(date +%s%N) - start) / 1000000)) "$result"
    grep -aE '^(skipped|seed)' "$out"
    [ $status -ne 0 ] || return 0
    failed=$((failed + 1))
    { printf '\n== %s: %s\n' "$name" "$result" && tail -n 40 "$out" | sed 's/^/    /' && echo "again: $again $*"; } >>"$report"
}
step layers sh tools/layers.sh
for t in "$build"/unit/*/test_*; do
    [ -x "$t" ] && step "${t#"$build"/}" "$t"
done
for t in tests/e2e/*.sh; do
    case $t in */lib.sh | */lib_*.sh) continue ;; esac
    step "${t#tests/}" sh "$t"
done
cat "$report"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
