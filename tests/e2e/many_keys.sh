#!/bin/sh
# Commands over the whole keyspace with more rows than one deadline has time for: the deadline is for a page,
# as long as pages come. And what KEYS may collect is bounded.
. "$(dirname "$0")/lib.sh"
command -v redis-cli >/dev/null || { echo "skipped: no redis-cli here"; exit 0; }
rows=600000
serve() { # OPTIONS..
    "$B/kvd" --node-data "$T/d" --resp-port "$P" --native-port "$N" "$@" 2>"$T/kvd.log" &
    started=$!
    until_ok 20 r SET ready yes || die "the node does not serve"
}
r() { redis-cli -e -p "$P" "$@" 2>"$T/err"; }
serve --limit-output 4MiB --resp-deadline 30s
awk -v rows=$rows 'BEGIN {
    for (t = 0; t < rows / 1000; t++) {
        printf "MSET"
        for (i = 0; i < 1000; i++) printf " {%d}key:%d v", t, i
        printf "\r\n"
    }
}' | redis-cli -p "$P" --pipe >"$T/pipe" || die "load: $(cat "$T/pipe")"
if r KEYS '*' >/dev/null; then die "KEYS collects more than limit.output"; fi
grep -q 'limit.output; use SCAN' "$T/err" || die "KEYS beyond limit.output says: $(cat "$T/err")"
expect "KEYS of some" 1000 "$(r KEYS '{7}*' | wc -l)"

# A quarter of the time that a walk takes here and now at best, as the deadline of each of its pages.
keys() { r KEYS "$@" | wc -l; }
walk() { # WHAT WANT COMMAND..
    what=$1 want=$2
    shift 2
    took=1000000
    for try in 1 2 3 4 5; do
        began=$(date +%s%3N)
        "$@" >"$T/whole"
        ms=$(($(date +%s%3N) - began))
        [ "$(tail -n 1 "$T/whole")" = "$want" ] || die "$what with time enough, try $try: $(tail -n 1 "$T/whole")"
        [ $ms -gt $took ] || took=$ms
    done
    restart --resp-deadline $((took / 4 + 1))ms
    got() { [ "$("$@" | tail -n 1)" = "$want" ]; }
    until_ok 30 got "$@" || die "$what: want '$want', got '$("$@" | tail -n 1)' $(cat "$T/err")"
    echo "ok: $what takes $took ms at best, with a deadline of $((took / 4 + 1)) ms a page"
    restart --resp-deadline 30s
}
restart() {
    kill "$started"
    wait "$started" || die "exit $? after SIGTERM"
    serve "$@"
}
restart --resp-deadline 30s
walk KEYS $((rows + 1)) keys '*'
walk DBSIZE $((rows + 1)) r DBSIZE
