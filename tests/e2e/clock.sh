#!/bin/sh
# Wall clocks that are set back an hour while nodes run: one node's, then all, then all over a restart.
# TTLs go on by the monotonic clock, the odd node raises the alarm, nothing is lost and nobody crashes.
. "$(dirname "$0")/lib.sh"
command -v redis-cli >/dev/null || { echo "skipped: redis-cli is not installed"; exit 0; }
fake=$(find /usr/lib /usr/local/lib -name libfaketimeMT.so.1 2>/dev/null | head -n 1)
[ -n "$fake" ] || { echo "skipped: libfaketime is not installed"; exit 0; }
mkdir "$T/bin"
cat >"$T/bin/kvd" <<TEXT
#!/bin/sh
case \$2 in *node-*) i=\${2%/kvd.yaml} i=\${i##*node-} ;; *) exec "$(realpath "$B")/kvd" "\$@" ;; esac
LD_PRELOAD=$fake FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_CACHE_DURATION=1 FAKETIME_TIMESTAMP_FILE=$T/time.\$i
ASAN_OPTIONS=verify_asan_link_order=0:\${ASAN_OPTIONS:-}
export LD_PRELOAD FAKETIME_DONT_FAKE_MONOTONIC FAKETIME_CACHE_DURATION FAKETIME_TIMESTAMP_FILE ASAN_OPTIONS
exec "$(realpath "$B")/kvd" "\$@"
TEXT
chmod +x "$T/bin/kvd"
ln -s "$(realpath "$B")/kvctl" "$T/bin/kvctl"
B=$T/bin
clock() { # OFFSET NODE..
    offset=$1
    shift
    for i in "$@"; do echo "$offset" >"$T/time.$i.new" && mv "$T/time.$i.new" "$T/time.$i"; done
}
resp() { # NODE; commands on stdin
    redis-cli -h 127.0.0."$1" -p "$P"
}
each() { # FORMAT: 24 commands, over all groups
    i=0
    while [ $i -lt 24 ]; do
        # shellcheck disable=SC2059
        printf "$1\n" $i
        i=$((i + 1))
    done
}
gone() { [ "$(each "EXISTS $1%d" | resp 2 | grep -c 1)" = 0 ]; }
alarms() { # NODE: what it says of its clock
    printf 'INFO replication\n' | resp "$1" | tr -d '\r' | sed -n 's/kvd_clock_alarm://p'
}
alarm() { [ "$(alarms "$1")" = "$2" ]; }
ttls_right() { # WHAT PREFIX MS: keys set now live for MS, not longer, not shorter
    median_within "$1: keys of $3 ms are gone after" $(($3 * 17 / 16 + ${TTL_SLACK_MS:-1500})) 1 5 lifetime "$@"
}
lifetime() { # WHAT PREFIX MS, in a round of its own
    set -- "$1" "$2$round." "$3" "$(date +%s%3N)"
    [ "$(each "SET $2%d x PX $3" | resp 1 | grep -c OK)" = 24 ] || die "$1: set"
    each "PTTL $2%d" | resp 2 >"$T/ttl"
    spent=$(($(date +%s%3N) - $4))
    # a stamp may be ahead by what clocks of a healthy cluster differ, and slower by a sixteenth
    awk -v low=$(($3 - spent - 500)) -v high="$3" '$1 < low || $1 > high { exit 1 }' "$T/ttl" ||
        die "$1: of $3 ms, $spent ms later, are left: $(tr '\n' ' ' <"$T/ttl")"
    until_ok $(($3 / 1000 + 10)) gone "$2" || die "$1: keys outlive their deadline"
    took=$(($(date +%s%3N) - $4))
    [ "$took" -ge $(($3 - 500)) ] || die "$1: keys of $3 ms are gone after $took ms"
}
clock +0 1 2 3
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
cat "$T"/c/node-*/pid >"$T/pids"
[ "$(each 'SET keep%d forever' | resp 1 | grep -c OK)" = 24 ] || die "set"
[ "$(each 'SET before%d x PX 9000' | resp 1 | grep -c OK)" = 24 ] || die "set"
since=$(date +%s%3N)

clock -3600 1
until_ok 20 alarm 1 1 || die "no alarm at the node whose clock went back"
kvctl status | grep -q 'clock is off' || die "kvctl status does not show the alarm"
grep -q 'error main clock-alarm ahead_ms=-3[56]' "$T/c/node-1/log" || die "the journal does not show the alarm"
expect "the others' clocks are right" "0 0" "$(alarms 2) $(alarms 3)"
ttls_right "one clock an hour back" one 2000
until_ok 25 gone before || die "keys set before the jump outlive their deadline"
spent=$(($(date +%s%3N) - since))
[ $spent -gt 8500 ] || die "keys set before the jump are gone after $spent ms of 9000"
echo "ok: keys set before the jump are gone after $spent ms of 9000"
clock +0 1
until_ok 20 alarm 1 0 || die "the alarm stands though the clock is right again"

clock -3600 1 2 3
went_back() { # all of them?
    for i in 1 2 3; do
        [ "$(echo TIME | resp $i | head -n 1)" -lt $(($(date +%s) - 3000)) ] || return 1
    done
}
until_ok 20 went_back || die "the nodes do not see their clocks go back"
ttls_right "all clocks an hour back" all 2000
expect "all agree, nobody is alarmed" "0 0 0" "$(alarms 1) $(alarms 2) $(alarms 3)"
expect "nobody crashed" "$(cat "$T/pids")" "$(cat "$T"/c/node-*/pid)"
cluster kill all || die "kill"
cluster start all >/dev/null || die "start"
ttls_right "and over a restart" again 2000
expect "nothing is lost" 24 "$(each 'GET keep%d' | resp 3 | grep -c forever)"
cluster down || die "down"
