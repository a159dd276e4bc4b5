#!/bin/sh
# WAIT tells the truth: how many followers hold this connection's last writes, wherever it is connected,
# and it waits for them, no longer than asked.
. "$(dirname "$0")/lib.sh"
command -v redis-cli >/dev/null || { echo "skipped: redis-cli is not installed"; exit 0; }
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
say() { redis-cli -h 127.0.0."$1" -p "$P"; } # commands on stdin, one connection
keys() { # SETs over all groups, then WAIT $1 $2
    seq 0 29 | sed 's/.*/SET k& v/'
    echo "WAIT $1 $2"
}
waits() { # WHAT NODE REPLICAS MS WANT MIN MAX: the count, and how long it took at least and at most
    began=$(date +%s%3N)
    expect "$1" "$5" "$(keys "$3" "$4" | say "$2" | tail -n 1)"
    took=$(($(date +%s%3N) - began))
    [ "$took" -ge "$6" ] && [ "$took" -le "$7" ] || die "$1: took $took ms, not $6 to $7"
}
for i in 1 2 3; do waits "both followers, asked of node $i" $i 2 5000 2 0 5000; done
expect "one partition" 2 "$(printf 'SET one 1\nWAIT 2 5000\n' | say 3 | tail -n 1)"
expect "a command over several partitions" 2 "$(printf 'SET a 1\nSET b 2\nDEL a b c d e f\nWAIT 2 5000\n' | say 2 | tail -n 1)"
expect "nothing written: who is connected" 2 "$(echo 'WAIT 0 0' | say 1)"
cluster kill 3 >/dev/null || die "kill"
serves() { [ "$(keys 0 1 | say 1 | grep -c OK)" = 30 ]; }
until_ok 10 serves || die "two nodes do not serve"
waits "one follower is gone: the other counts" 1 1 5000 1 0 5000
waits "and the one that is gone is waited for in vain" 2 2 700 1 700 6000
# It comes back while somebody waits.
keys 2 30000 | say 2 >"$T/waited" &
waiter=$!
started="$started $waiter"
cluster start 3 >/dev/null || die "start"
wait $waiter
expect "who comes back is counted" 2 "$(tail -n 1 "$T/waited")"
cluster down >/dev/null || die "down"
