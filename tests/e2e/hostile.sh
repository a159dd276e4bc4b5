#!/bin/sh
# Clients that lie about lengths, talk HTTP, say nothing, read nothing: each is answered or closed with
# a reason, the node's memory stays where it is, and everybody else is served.
. "$(dirname "$0")/lib.sh"
start() { # LOG OPTION..: a single node
    log=$1
    shift
    "$B/kvd" --node-data "$T/d" --resp-port "$P" --native-port "$N" "$@" 2>>"$log" &
    pid=$!
    started="$started $pid"
    until_ok 10 "$B/kvctl" --addr 127.0.0.1:"$N" --key "$T/d/client.key" ready --timeout 5s || die "no start"
}
says() { # PORT; bytes on stdin: what the node answers within 5 s, and whether it closed
    "$B/hostile" send 127.0.0.1 "$1" "${2:-5000}" 2>"$T/end"
}
closes() { # WHAT ANSWER PORT BYTES(printf): answered so and closed
    # shellcheck disable=SC2059
    said=$(printf "$4" | says "$3" | tr -d '\r')
    case $said in "$2"*) ;; *) die "$1: answered '$said'" ;; esac
    grep -q ^closed "$T/end" || die "$1: not closed"
    echo "ok: $1"
}
lives() { # WHAT ANSWER BYTES: answered so; a PING behind it too
    # shellcheck disable=SC2059
    said=$(printf "$3"'PING\r\nQUIT\r\n' | says "$P" | tr -d '\r' | tr '\n' ' ')
    case $said in "$2"*"+PONG +OK ") echo "ok: $1" ;; *) die "$1: answered '$said'" ;; esac
}
rss() { awk '/^RssAnon/ { print int($2 / 1024) }' /proc/"$pid"/status; } # MB

start "$T/kvd.log" --limit-output-time 2s --limit-handshake 1s --limit-output 16MiB --resp-deadline 30s
before=$(rss)
closes "4 GiB bulk" "-ERR Protocol error: invalid bulk length" "$P" '*1\r\n$4294967296\r\n'
closes "4 GiB array" "-ERR Protocol error: invalid multibulk length" "$P" '*4294967296\r\n'
closes "negative bulk" "-ERR Protocol error: invalid bulk length" "$P" '*2\r\n$3\r\nGET\r\n$-5\r\n'
closes "negative bulk of -1" "-ERR Protocol error: invalid bulk length" "$P" '*2\r\n$3\r\nGET\r\n$-1\r\n'
closes "nested array" "-ERR Protocol error: expected '\$', got '*'" "$P" '*2\r\n$3\r\nGET\r\n*1\r\n$1\r\na\r\n'
closes "number that overflows" "-ERR Protocol error" "$P" '*1\r\n$99999999999999999999999\r\n'
closes "a bulk too long for its length" "-ERR Protocol error" "$P" '*2\r\n$3\r\nGET\r\n$1\r\nabc\r\n'
closes "POST" "" "$P" 'POST / HTTP/1.1\r\nHost: x\r\n\r\nSET stolen 1\r\n'
closes "Host:" "" "$P" 'Host: x\r\nSET stolen 1\r\n'
closes "inline without end" "-ERR Protocol error: too big inline request" "$P" "$(head -c 70000 /dev/zero | tr '\0' x)"
lives "negative array is skipped" "" '*-1\r\n'
lives "nothing" "" '\r\n*0\r\n'
lives "HTTP ran nothing" ":0 " 'EXISTS stolen\r\n'
lives "binary key and value" '+OK $4 ' '*3\r\n$3\r\nSET\r\n$3\r\n\001\377\r\r\n$4\r\na\r\nb\r\n*2\r\n$3\r\nGET\r\n$3\r\n\001\377\r\r\n'
lives "key of 0 bytes" '+OK $1 x ' '*3\r\n$3\r\nSET\r\n$0\r\n\r\n$1\r\nx\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n'
k480=$(head -c 480 /dev/zero | tr '\0' k)
lives "key of 480 bytes" '+OK $1 x ' "SET $k480 x\\r\\nGET $k480\\r\\n"
lives "key of 481 bytes" '-ERR' "SET ${k480}k x\\r\\n"
{
    printf '*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$209715200\r\n'
    head -c 209715200 /dev/zero
    printf '\r\nEXISTS big\r\nQUIT\r\n'
} >"$T/big"
said=$(says "$P" 20000 <"$T/big" | tr -d '\r' | tr '\n' ' ')
case $said in "-ERR"*"(applied: no) :0 +OK ") echo "ok: a value of 200 MiB is skipped: $said" ;; *) die "200 MiB value: '$said'" ;; esac
rm "$T/big"
printf '*3\r\n$3\r\nSET\r\n$3\r\nhal' | says "$P" 300 >/dev/null && die "an unfinished command was closed"
closes "4 GiB frame on the native port" "" "$N" '\377\377\377\377\377\377\377\377'
closes "RESP on the native port" "" "$N" 'PING\r\n'
closes "a stranger who says nothing" "" "$N" ''
grep -q 'stranger-closed.*limit.handshake' "$T/kvd.log" || die "no reason in the journal"
after=$(rss)
[ "$after" -le $((before + ${RSS_SLACK_MB:-24})) ] || die "RssAnon grew from $before to $after MB"
echo "ok: RssAnon $before MB before, $after MB after"

head -c 1000000 /dev/urandom >"$T/value"
redis-cli -p "$P" -x set large <"$T/value" >/dev/null || die "set"
before=$(rss)
: >"$T/peak"
i=0
while [ $i -lt 4 ]; do # together they ask for 8 GB
    if [ $i = 3 ]; then
        "$B/hostile" swill 127.0.0.1 "$N" 30000 large 2000 "$T/d/client.key" 2>"$T/slow.$i" &
    else
        "$B/hostile" gulp 127.0.0.1 "$P" 30000 large 2000 2>"$T/slow.$i" &
    fi
    eval "slow$i=$!"
    started="$started $!"
    i=$((i + 1))
done
closed() { [ "$(grep -c slow-reader "$T/kvd.log")" -ge 4 ]; }
sample() {
    rss >>"$T/peak"
    timeout 5 redis-cli -p "$P" ping >/dev/null || die "others are not served beside slow readers"
    closed
}
until_ok 25 sample || die "slow readers are not closed: $(cat "$T"/slow.*)"
# shellcheck disable=SC2154
wait "$slow0" "$slow1" "$slow2" "$slow3"
[ "$(grep -c '^closed' "$T"/slow.* | grep -c ':1$')" = 4 ] || die "slow readers see: $(cat "$T"/slow.*)"
grep -q 'slow-reader.*reason=limit.output' "$T/kvd.log" || die "no reason in the journal"
peak=$(sort -n "$T/peak" | tail -n 1)
[ "$peak" -le $((before + 4 * 2 * 16 + ${RSS_SLACK_MB:-24})) ] || die "RssAnon went from $before to $peak MB"
echo "ok: four slow readers are closed: $(cat "$T/slow.0"); RssAnon $before MB before, at most $peak MB"
expect "a reader that reads gets it all" "$(md5sum <"$T/value")" "$(redis-cli -p "$P" get large | head -c 1000000 | md5sum)"

kill -TERM "$pid"
wait "$pid"
expect "it stops cleanly" 0 $?
printf 'secret\nsecret\n' | "$B/kvctl" passwd >"$T/passwd" 2>/dev/null || die "passwd"
start "$T/kvd.log" --resp-password "$(cat "$T/passwd")" --limit-handshake 1s
before=$(rss)
closes "4 GiB bulk before authentication" "-ERR Protocol error: invalid bulk length" "$P" '*2\r\n$4\r\nAUTH\r\n$4294967296\r\n'
closes "4 GiB array before authentication" "-ERR Protocol error: invalid multibulk length" "$P" '*4294967296\r\n'
closes "eleven arguments before authentication" "-ERR Protocol error: unauthenticated multibulk length" "$P" '*11\r\n'
closes "16 KiB and a byte before authentication" "-ERR Protocol error: unauthenticated bulk length" "$P" '*2\r\n$4\r\nAUTH\r\n$16385\r\n'
closes "a stranger who only pings" "-NOAUTH" "$P" 'PING\r\n'
printf '*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\nPING\r\n' | says "$P" 2500 >"$T/said"
grep -q '^open' "$T/end" || die "who has authenticated is closed: $(cat "$T/said" "$T/end")"
# Each guess costs time on purpose, two are checked at once: most of these have left when it is their turn. Who
# has the password waits behind them, for longer than a stranger may, and is none.
guessers=
i=1
while [ $i -le 60 ]; do
    printf '*2\r\n$4\r\nAUTH\r\n$5\r\nguess\r\n' | "$B/hostile" idle 127.0.0.1 "$P" 200 127.0.3.$i >"$T/guess.$i" 2>/dev/null &
    guessers="$guessers $!"
    i=$((i + 1))
done
started="$started$guessers"
guessed() { [ "$(cat "$T"/guess.* | grep -c sent)" = 60 ]; }
until_ok 20 guessed || die "the guesses are not sent"
printf '*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\nPING\r\nQUIT\r\n' | says "$P" 60000 | tr -d '\r' >"$T/said"
expect "who has the password is heard behind 60 guesses" "+OK +PONG +OK" "$(tr '\n' ' ' <"$T/said" | sed 's/ $//')"
# shellcheck disable=SC2086 # a list
wait $guessers
is_small() { [ "$(rss)" -le $((before + ${RSS_SLACK_MB:-24})) ]; } # while Argon2id works it takes 64 MiB, twice
until_ok 60 is_small || die "RssAnon grew from $before to $(rss) MB"
echo "ok: who has authenticated stays; RssAnon $before MB before, $(rss) MB after"
kill -TERM "$pid"
wait "$pid"
expect "it stops cleanly" 0 $?
