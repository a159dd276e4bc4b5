#!/bin/sh
# Pipelined writes of one connection to one key take effect once and in their order, also through a node
# that forwards them while their leader dies, stands still, or gives its leadership away.
. "$(dirname "$0")/lib.sh"
writes=${WRITES:-8000} rounds=${ROUNDS:-2} late=0
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
leader_of_k() { # of the partition that holds slot 7629
    kvctl status -o json 2>/dev/null | jq '.groups[] | select(.id == 4).leader'
}
settled() { [ "$(leader_of_k)" -gt 0 ] 2>/dev/null; }
seq 1 "$writes" | awk '{ printf "APPEND k %05d,\r\n", $1 } END { printf "QUIT\r\n" }' >"$T/commands"
# By its pid, at once: the writes must still be on their way, or it met nothing.
strike() { # VERB I
    pid=$(cat "$T/c/node-$2/pid")
    case $1 in kill) signal=KILL ;; pause) signal=STOP ;; stop) signal=TERM ;; esac
    kill -$signal "$pid" || die "$1 $2"
    answered=$(wc -l <"$T/replies")
    if [ "$1" = pause ]; then cluster pause "$2" >/dev/null; else until_ok 20 ended "$pid"; fi || die "node $2 survives $1"
}
round() { # VERB UNDO
    until_ok 15 settled || die "no leader"
    kvctl del k >/dev/null 2>&1
    leader=$(leader_of_k)
    other=$((leader % 3 + 1))
    : >"$T/replies"
    "$B/hostile" send 127.0.0.$other "$P" 60000 <"$T/commands" >"$T/replies" 2>"$T/end" &
    sender=$!
    started="$started $sender"
    until_ok 20 test -s "$T/replies" || die "nothing is answered"
    strike "$1" "$leader"
    wait $sender
    cluster "$2" "$leader" >/dev/null || die "$2 $leader"
    if [ "$answered" -ge "$writes" ]; then # this machine was busy with something else: once more
        late=$((late + 1))
        [ $late -le 3 ] || die "$1 came when all was answered; more WRITES"
        round "$@"
        return
    fi
    kvctl get k >"$T/value" || die "get"
    tr ',' '\n' <"$T/value" | awk -v n="$writes" -v answered="$answered" -v verb="$1" '
        FNR == NR { # the replies, of which the last answers QUIT
            if (FNR <= n) { if (/^:/) { state[FNR] = "ok"; ok++ } else if (/maybe/) state[FNR] = "maybe"; else state[FNR] = "no" }
            answers = FNR
            next
        }
        $1 == "" { next }
        {
            got = $1 + 0
            if (got <= before) { print "write " got " took effect behind " before; bad = 1; exit 1 }
            for (i = before + 1; i < got; i++) if (state[i] == "ok") { print "write " i " is lost"; bad = 1; exit 1 }
            if (state[got] == "no") { print "write " got " was refused and took effect"; bad = 1; exit 1 }
            before = got
        }
        END {
            if (bad) exit 1
            for (i = before + 1; i <= n; i++) if (state[i] == "ok") { print "write " i " is lost"; exit 1 }
            printf "%s behind %d of %d writes: %d ok, in order, each once\n", verb, answered, n, ok
            exit answers != n + 1 || ok == 0
        }' "$T/replies" - || die "order after $1"
}
i=0
while [ $i -lt "$rounds" ]; do
    round kill start
    round pause resume
    round stop start
    i=$((i + 1))
done
