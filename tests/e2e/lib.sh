# Shared by the end-to-end tests: a temporary directory, the programs, checks that say what failed.
# Every test runs real processes on loopback and leaves none behind.
set -u
cd "$(dirname "$0")/../.." || exit 1
B=${BUILD:-build}
T=$(mktemp -d "${TMPDIR:-/tmp}/kvd-test.XXXXXX") || exit 1
started='' port_lock='' why=''
# Tests know how many partitions there are; those about load say otherwise.
export KVD_COORDINATOR_SPLIT_LOAD="${KVD_COORDINATOR_SPLIT_LOAD:-1000000000}"
kill_family() { # PID and what it started: a loop in a subshell, say
    family=$(cat /proc/"$1"/task/*/children 2>/dev/null)
    kill -9 "$1" 2>/dev/null
    for p in $family; do kill_family "$p"; done
}
cleanup() {
    status=$?
    for p in $started; do
        grep -qs "^PPid:.$$\$" "/proc/$p/status" && kill_family "$p" # others may have its number by now
    done
    # shellcheck disable=SC2086 # a list
    [ -z "$started" ] || wait $started 2>/dev/null
    [ -e "$T/c/cluster.json" ] && BUILD=$B tools/cluster down --dir "$T/c" >/dev/null 2>&1
    [ $status -eq 0 ] || { for l in "$T"/*.log "$T"/c/node-*/log; do [ -e "$l" ] && { echo "== $l"; tail -n 15 "$l"; }; done; }
    [ -z "$why" ] || echo "FAILED: $why" # again, behind the logs, where it is looked for
    [ -z "$port_lock" ] || rm -f "$port_lock"
    rm -rf "$T"
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM
die() {
    why=$*
    echo "FAILED: $why"
    exit 1
}
expect() { # WHAT WANT GOT
    [ "$2" = "$3" ] || die "$1: want '$2', got '$3'"
    echo "ok: $1"
}
cluster() {
    verb=$1
    shift
    BUILD=$B tools/cluster "$verb" --dir "$T/c" "$@"
}
kvctl() { "$B/kvctl" --cluster "$T/c/cluster.json" "$@"; }
# How many entries all groups have committed: what a load moves.
commits() { kvctl status -o json 2>/dev/null | jq '[.groups[].commit] | add'; }
committed_beyond() { [ "$(commits)" -gt "$1" ]; }
# Three voters in each of the nine groups, as NODE sees them, and nobody in between: a joint configuration
# still needs a majority with the replica that is lost, and so every other node.
settled() { # NODE
    kvctl node show "$1" 2>/dev/null | jq -e '[.groups[].replicas[].role] | length == 27 and all(. == "voter")' >/dev/null
}
# The replicas of each NODE are spread over its workers, and none is on its way: until somebody moves one descriptors stay.
seated() { # NODE..
    for seated_node in "$@"; do
        kvctl node show "$seated_node" 2>/dev/null | jq -e '.workers as $n | [.groups[].worker] as $at |
            ([range($n) as $k | [$at[] | select(. == $k)] | length] | max - min <= 1) and
            ([.groups[].replicas[].role] | all(. == "voter"))' >/dev/null || return 1
    done
}
# The stores of a node: its data directory, and one below that for each worker but the first.
stores() { # DATA_DIRECTORY
    for store in "$1" "$1"/worker-*; do
        [ ! -d "$store" ] || echo "$store"
    done
}
rot_byte() { # FILE OFFSET: ones, or zeros where ones stand
    rotten='\0377'
    [ "$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')" != 255 ] || rotten='\0000'
    printf %b "$rotten" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null || die "no rot in $1"
}
# Waits until a command succeeds, asking often, at most SECONDS: a limit for what hangs, not a measure.
until_ok() { # SECONDS COMMAND...
    end=$(($(date +%s%3N) + $1 * 1000))
    shift
    while ! "$@" >/dev/null 2>&1; do
        [ "$(date +%s%3N)" -lt "$end" ] || return 1
        sleep 0.05 # asks again; there is no event across processes to wait for
    done
}
# Has the process ended, though perhaps nobody has asked yet how?
ended() { # PID
    case $(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null) in '' | Z | X) ;; *) return 1 ;; esac
}
# Judges a duration by its median: FEW rounds of COMMAND, each of which sets `took` in ms, and where those are
# over BOUND, since a machine with other work stretches some, MANY in all.
median_within() { # WHAT BOUND FEW MANY COMMAND..
    median_of=$1 median_bound=$2 rounds_few=$3 rounds=$3 rounds_many=$4 round=0
    shift 4
    : >"$T/took"
    while [ $round -lt "$rounds" ]; do
        "$@"
        echo "$took" >>"$T/took"
        round=$((round + 1))
        median=$(sort -n "$T/took" | sed -n "$(((round + 1) / 2))p")
        [ $round -eq "$rounds_few" ] && [ "$median" -gt "$median_bound" ] && rounds=$rounds_many
    done
    echo "$median_of: $(tr '\n' ' ' <"$T/took")ms, median $median ms of at most $median_bound ms"
    [ "$median" -le "$median_bound" ] || die "$median_of: median $median ms is over $median_bound ms"
}
# An import of ROWS rows, and a Redis client at each of NODEs that counts, stopping with the first reply
# that is not the next number. What is done between the two goes on under them.
clients_begin() { # ROWS TIMEOUT_OF_IMPORT NODE..
    awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++) printf "row%06d\tvalue of row %d\n", i, i }' >"$T/rows.tsv"
    import_timeout=$2
    kvctl --timeout "$import_timeout" import "$T/rows.tsv" 2>"$T/import.log" &
    load=$!
    started="$started $load"
    shift 2
    counting=$*
    for node in $counting; do
        count_on "$node" &
        started="$started $!"
    done
    until_ok 10 test -s "$T/rows.tsv.kvprogress" || die "the load does not begin"
}
count_on() { # NODE
    n=0
    while [ ! -e "$T/enough" ]; do
        n=$((n + 1))
        got=$(redis-cli -h 127.0.0."$1" -p "$P" INCR "counter$1")
        [ "$got" = "$n" ] || { echo "$n: $got" >"$T/odd.$1" && break; }
    done
    echo "$n" >"$T/counted.$1"
}
clients_ended() {
    for node in $counting; do [ -e "$T/counted.$node" ] || return 1; done
}
clients_end() { # WHAT went on meanwhile
    wait "$load" || die "import: $(cat "$T/import.log")"
    : >"$T/enough"
    until_ok 10 clients_ended || die "a client does not come to its end"
    cat "$T"/odd.* 2>/dev/null && die "a Redis client was told something else than the next number"
    echo "ok: every client went on over $1, $(cat "$T"/counted.* | awk '{ n += $1 } END { print n }') commands"
}
# A base port P with P..P+9 unused on this machine, and nobody else's until this test and all that it started
# have ended: tests may run beside each other, and their nodes are away for a while. All of them lie below the
# ports that the kernel gives to connections.
reserve_ports() {
    tries=0
    while [ $tries -lt 300 ]; do
        tries=$((tries + 1))
        P=$((20000 + $(od -An -N2 -tu2 /dev/urandom) % 1200 * 10))
        port_lock=/tmp/kvd-test-port-$P
        true 2>/dev/null 8>"$port_lock" || continue # another user's
        exec 8>"$port_lock"
        # Who had it removes the file before letting go: what is locked must be what is there.
        flock -n 8 && [ /dev/fd/8 -ef "$port_lock" ] || continue
        are_unused "$P" && return
        rm -f "$port_lock"
    done
    port_lock=
    die "no ten free ports in $tries tries"
}
are_unused() { # P: to P+9
    awk -v p="$1" 'BEGIN { for (i = 0; i < 10; i++) ours[sprintf("%04X", p + i)] }
        { n = split($2, at, ":"); if (at[n] in ours) used = 1 }
        END { exit used }' /proc/net/tcp /proc/net/tcp6 2>/dev/null
}
reserve_ports
N=$((P + 1)) # native
