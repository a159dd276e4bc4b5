#!/bin/sh
# All tests a pull request must pass: layers and unit tests, JOBS at a time, then the programs themselves on loopback, one after
# another, as time matters there. usage: all.sh BUILD_DIR. Prints a line each; behind them of each that failed its last lines
# and the command that repeats it; at last "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
measured() { # OUT COMMAND...: its output to OUT, to OUT.result its exit code and how many ms it took
    out=$1 start=$(date +%s%N)
    shift
    timeout --foreground --kill-after=20 "${TEST_SECONDS:-300}" "$@" >"$out" 2>&1
    echo "$? $((($(date +%s%N) - start) / 1000000))" >"$out.result"
}
if [ "${1:-}" = --one ]; then # OUT COMMAND..., for xargs
    shift
    measured "$@"
    exit 0
fi
build=${1:-build}
BUILD=$build
CK_TIMEOUT_MULTIPLIER=${CK_TIMEOUT_MULTIPLIER:-4} # the limits of unit tests are for what hangs, on any machine
export BUILD CK_TIMEOUT_MULTIPLIER
passed=0 failed=0 running=
work=$(mktemp -d "${TMPDIR:-/tmp}/kvd-all.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
end_early() { # all that runs is in a process group of its own
    [ -z "$running" ] || { kill -TERM -- "-$running" 2>/dev/null && wait "$running"; }
    [ ! -f "$work/report" ] || cat "$work/report"
    echo "stopped in the middle of $name: $passed passed, $failed failed"
    exit 143
}
trap end_early INT TERM
tell() { # NAME OUT COMMAND...
    name=$1 out=$2
    shift 2
    read -r status ms <"$out.result" || status=127 ms=0
    case $status in
    0) result=ok passed=$((passed + 1)) ;;
    124 | 137) result="FAILED (not over in ${TEST_SECONDS:-300} s)" ;;
    *) result="FAILED (exit $status)" ;;
    esac
    printf '%-40s %7d ms  %s\n' "$name" "$ms" "$result"
    grep -aE '^(skipped|seed)' "$out"
    [ "$status" -ne 0 ] || return 0
    failed=$((failed + 1))
    {
        printf '\n== %s: %s\n' "$name" "$result"
        tail -n 40 "$out" | sed 's/^/    /'
        echo "again: ${TEST_SEED:+TEST_SEED=$TEST_SEED }BUILD=$build $*"
    } >>"$work/report"
}
await() { # COMMAND...
    setsid "$@" &
    running=$!
    wait "$running"
    running=
}
step() { # NAME COMMAND...
    name=$1
    shift
    await sh tests/all.sh --one "$work/out" "$@"
    tell "$name" "$work/out" "$@"
}
step layers sh tools/layers.sh
name="the unit tests"
for t in "$build"/unit/*/test_*; do
    [ -x "$t" ] && echo "$t"
done >"$work/unit"
while read -r t; do echo "$work/$(echo "$t" | tr / _) $t"; done <"$work/unit" >"$work/jobs"
await xargs -a "$work/jobs" -P "${JOBS:-$(nproc)}" -L 1 sh tests/all.sh --one
while read -r t; do tell "${t#"$build"/}" "$work/$(echo "$t" | tr / _)" "$t"; done <"$work/unit"
for t in tests/e2e/*.sh; do
    case $t in */lib.sh | */lib_*.sh) continue ;; esac
    step "${t#tests/}" sh "$t"
done
[ ! -f "$work/report" ] || cat "$work/report"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
