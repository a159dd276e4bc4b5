#!/bin/sh
# All tests a pull request must pass: layers, then unit tests and the programs themselves on loopback, JOBS at a time, and those where
# time itself is measured one by one. usage: all.sh BUILD_DIR. Leaves out the E2E_SKIP named. Prints a line each; behind them of
# each that failed its last lines and the command that repeats it; at last "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
alone="clock cut failover half_open hostile kvbench levels memory order quiet reshape rolling scale stop wait zipf"
if [ "${1:-}" = --one ]; then # NAME OUT COMMAND...: its output to OUT, its exit code to OUT.status
    name=$2 out=$3 start=$(date +%s%N)
    shift 3
    timeout --foreground --kill-after=20 "${TEST_SECONDS:-300}" "$@" >"$out" 2>&1
    status=$?
    case $status in
    0) result=ok ;;
    124 | 137) result="FAILED (not over in ${TEST_SECONDS:-300} s)" ;;
    *) result="FAILED (exit $status)" ;;
    esac
    echo "$status" >"$out.status"
    { printf '%-40s %7d ms  %s\n' "$name" $((($(date +%s%N) - start) / 1000000)) "$result" && grep -aE '^(skipped|seed)' "$out"; } >"$out.line"
    cat "$out.line" # at once, since others print as well
    exit 0
fi
build=${1:-build}
BUILD=$build
CK_TIMEOUT_MULTIPLIER=${CK_TIMEOUT_MULTIPLIER:-4} # the limits of unit tests are for what hangs, on any machine
export BUILD CK_TIMEOUT_MULTIPLIER
passed=0 failed=0 running=
work=$(mktemp -d "${TMPDIR:-/tmp}/kvd-all.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
count() { # what has run; those that failed are told of behind all others
    : >"$work/report"
    while read -r name out command; do
        status=$(cat "$out.status" 2>/dev/null) || continue
        [ "$status" -ne 0 ] || { passed=$((passed + 1)) && continue; }
        failed=$((failed + 1))
        {
            printf '\n== %s: exit %s\n' "$name" "$status"
            tail -n 40 "$out" | sed 's/^/    /'
            echo "again: ${TEST_SEED:+TEST_SEED=$TEST_SEED }BUILD=$build $command"
        } >>"$work/report"
    done <"$work/all"
    cat "$work/report"
}
end_early() { # all that runs is in a process group of its own
    [ -z "$running" ] || { kill -TERM "-$running" 2>/dev/null && wait "$running"; }
    count
    echo "stopped in the middle: $passed passed, $failed failed"
    exit 143
}
trap end_early INT TERM
number=0
add() { # LIST NAME COMMAND...
    number=$((number + 1)) list=$1 name=$2
    shift 2
    echo "$name $work/$number $*" >>"$work/$list"
}
run() { # LIST HOW_MANY_AT_A_TIME
    [ -f "$work/$1" ] || return 0
    cat "$work/$1" >>"$work/all"
    setsid xargs -a "$work/$1" -P "$2" -L 1 sh tests/all.sh --one &
    running=$!
    wait "$running"
    running=
}
add first layers sh tools/layers.sh
for t in "$build"/unit/*/test_*; do
    [ -x "$t" ] && add first "${t#"$build"/}" "$t"
done
add_e2e() { # NAME SUFFIX [ENV...]
    e2e=$1 suffix=$2
    shift 2
    case " ${E2E_SKIP:-} " in *" $e2e "* | *" $e2e$suffix "*) return ;; esac
    case " $alone " in *" $e2e "*) when=last ;; *) when=first ;; esac
    add $when "e2e/$e2e.sh$suffix" "$@" sh "tests/e2e/$e2e.sh"
}
for t in tests/e2e/*.sh; do
    case $t in */lib.sh | */lib_*) ;; *) add_e2e "$(basename "$t" .sh)" '' ;; esac
done
# With two workers a node, where that is another path.
for t in cluster order merge kills rot rot_single hot keyspaces hostile levels stop; do add_e2e $t ,workers=2 env KVD_WORKERS=2; done
run first "${JOBS:-$(nproc)}"
run last 1
count
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
