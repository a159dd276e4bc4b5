#!/bin/sh
# The tests of the tests: which planted bugs (tests/sim/mutant.h) the ordinary swarm finds.
#   mutants.sh BUILD search [NAME..]   seeds 1, 2, .. until each is found, at most SEEDS (2000); writes tests/sim/mutants.txt
#   mutants.sh BUILD replay            each once at its recorded seed; see there for those that moved
# BUILD holds a kvsim made with -include tests/sim/mutant.h. A mutant must not show without faults (but where leaders move
# for balance, in one of five seeds).
set -u
build=$1 mode=$2
shift 2
cd "$(dirname "$0")/../.." || exit 1
table=${TABLE:-tests/sim/mutants.txt}
seconds=15 seeds_max=${SEEDS:-2000}
all=$(sed -n 's/^    X(\([a-z_]*\), ".*/\1/p' tests/sim/mutant.h)

sweep() { # MUTANT FIRST LAST SECONDS: the last lines of kvsim
    KVD_MUTANT=$1 timeout "$4" nice "$build/kvsim" --seeds "$2..$3" --seconds $seconds --jobs "${JOBS:-1}" --trace 0 2>/dev/null
}
one() { # MUTANT SEED: its exit code
    KVD_MUTANT=$1 nice "$build/kvsim" --seed "$2" --seconds $seconds --trace 0 >/dev/null 2>&1
}
verdict() { # of a failure: "SEED WHY"
    sed -n 's/^seed \([0-9]*\) failed\( (signal [0-9]*)\)\{0,1\}: \(.*\)/\1 \3/p' | head -1 | cut -c1-100
}
proven() { # "SEED WHY": says it again, unless that seed fails without the mutant as well, which proves nothing
    [ -n "$1" ] || return 0
    if one "" "${1%% *}"; then echo "$1"; else echo "seed ${1%% *} fails without a mutant: mend that first" >&2; fi
}
recorded() { # MUTANT: its seed
    sed -n "s/^$1 \([0-9]*\) .*/\1/p" "$table"
}

search() {
    # shellcheck disable=SC2086 # a list of words
    [ $# -gt 0 ] || set -- $all
    missed=0
    for m in "$@"; do
        text=$(sed -n "s/^    X($m, \"\(.*\)\").*/\1/p" tests/sim/mutant.h)
        calm=$(KVD_MUTANT=$m nice "$build/kvsim" --seeds 1..5 --seconds 4 --clients 4 --faults none --keep-going --trace 0 2>/dev/null | grep -c "^seed .* failed")
        if [ "$calm" -gt 2 ]; then
            echo "$m: shows in a calm cluster, so any test would find it"
            missed=$((missed + 1))
            continue
        fi
        found=$(proven "$(sweep "$m" 1 "$seeds_max" 7200 | verdict)")
        grep -v "^$m " "$table" >"$table.new" 2>/dev/null
        if [ -n "$found" ]; then
            echo "$m: found in ${found%% *} seeds ($text): ${found#* }"
            echo "$m $found" >>"$table.new"
        else
            echo "$m: NOT found in $seeds_max seeds ($text)"
            missed=$((missed + 1))
        fi
        sort -o "$table" "$table.new"
        rm -f "$table.new"
    done
    echo "$missed not found"
    [ "$missed" -eq 0 ]
}

# Any change of the code moves the stories, so a mutant that no longer shows where it is recorded
# proves nothing yet: it is looked for again, all such in turns, for REPLAY_SECONDS (150) in all. It
# fails the replay once the seeds without it are many for how rare it was: 10 times its recorded
# seed, 300 at least (were it as frequent as then, a miss would be one in thousands), or all that
# the rule allows. What the time did not suffice for is told, and forgiven to a quarter of the list.
replay() {
    end=$(($(date +%s) + ${REPLAY_SECONDS:-150}))
    total=0 found=0 elsewhere=0 moved=""
    for m in $all; do
        total=$((total + 1))
        seed=$(recorded "$m")
        if [ -n "$seed" ] && ! one "$m" "$seed"; then found=$((found + 1)); else moved="$moved $m"; fi
    done
    first=1 step=25
    while [ -n "$moved" ] && [ $first -le "$seeds_max" ] && [ "$(date +%s)" -lt "$end" ]; do
        last=$((first + step - 1))
        [ $last -le "$seeds_max" ] || last=$seeds_max
        still=""
        for m in $moved; do
            left=$((end - $(date +%s)))
            now=""
            [ "$left" -le 0 ] || now=$(proven "$(sweep "$m" "$first" "$last" "$left" | verdict)")
            if [ -n "$now" ]; then
                seed=$(recorded "$m")
                echo "$m: not at its recorded seed ${seed:-(none)}, found at ${now%% *}: ${now#* }"
                found=$((found + 1)) elsewhere=$((elsewhere + 1))
            else
                still="$still $m"
            fi
        done
        moved=$still
        [ "$(date +%s)" -lt "$end" ] && first=$((last + 1)) step=$((2 * step))
    done
    searched=$((first - 1)) failed=0
    for m in $moved; do
        seed=$(recorded "$m")
        enough=$((${seed:-$seeds_max} * 10))
        [ $enough -ge 300 ] || enough=300
        [ $enough -le "$seeds_max" ] || enough=$seeds_max
        if [ "$searched" -ge "$enough" ]; then
            echo "$m: FAILED: not at its recorded seed ${seed:-(none)}, nor in $searched seeds"
            failed=$((failed + 1))
        else
            echo "$m: not at its recorded seed ${seed:-(none)}, nor in the first $searched; that says little: make mutants NAMES=$m"
        fi
    done
    echo "mutants: $found of $total found ($elsewhere elsewhere than recorded), $failed lost; to record anew: make mutants"
    [ $failed -eq 0 ] && [ $((4 * found)) -ge $((3 * total)) ]
}
"$mode" "$@"
