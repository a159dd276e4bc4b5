#!/bin/sh
# Memory of a node alone: a fill that outruns checkpoints is told to come again, loses nothing, and leaves no
# more behind the more keys there are: neither checkpoints' pages nor a log that nobody will ask for.
. "$(dirname "$0")/lib.sh"
keys=${KEYS:-100000}
memtable=2 # MiB; checkpoints come often, and writes must wait for them
command -v redis-cli >/dev/null || { echo "skipped: no redis-cli"; exit 0; }
rss() { awk '/^RssAnon/ { print int($2 / 1024) }' /proc/"$pid"/status; } # MB
calm() { [ "$(rss)" -le "$1" ]; }
cli() { redis-cli -p "$P" "$@"; }
bench() { "$B/kvbench" --addr 127.0.0.1:"$P" --clients 50 --json "$@" >"$T/out" || die "kvbench $*: $(cat "$T/out")"; }
entries() { # kept in the log
    "$B/kvctl" --addr 127.0.0.1:"$N" --key "$T/d/client.key" node show 1 -o json | jq '[.groups[] | .last - .compacted] | add'
}
forgotten() { [ "$(entries)" -le 1000 ]; }
serves() { [ "$(cli set first one 2>/dev/null)" = OK ]; }

"$B/kvd" --node-data "$T/d" --resp-port "$P" --native-port "$N" --storage-memtable ${memtable}MiB 2>"$T/kvd.log" &
pid=$!
started="$started $pid"
until_ok 10 serves || die "no write within 10 s"
idle=$(rss) refused=0
[ "$idle" -le "${RSS_IDLE_MB:-16}" ] || die "RssAnon idle is $idle MB"
for round in 1 2; do
    bench --keys $((round * keys)) --fill --depth 16
    expect "round $round: each key is written once" $((round * keys)) "$(jq .answered "$T/out")"
    expect "round $round: no error" 0 "$(jq .errors "$T/out")"
    refused=$((refused + $(jq .refused "$T/out")))
    cli bgsave >/dev/null
    until_ok 10 forgotten || die "$(entries) entries stay in the log, behind a checkpoint, without a follower"
    # Beside the memtables: the log's cache of 16 MB, and what malloc keeps.
    until_ok 20 calm $((idle + memtable + 32 + ${RSS_SLACK_MB:-0})) || die "RssAnon stays at $(rss) MB"
    echo "ok: RssAnon $idle MB idle, $(rss) MB with $((round * keys)) keys"
done
[ "$refused" -gt 0 ] || die "nothing was ever refused: this test has lost its point"
echo "ok: $refused times told to come again"
# Of many partitions each has its share of every segment of the log.
"$B/splits" 127.0.0.1:"$N" "$T/d/client.key" 200 >/dev/null || die "splits"
bench --keys $((2 * keys)) --fill --depth 16
cli bgsave >/dev/null
until_ok 10 forgotten || die "$(entries) entries of 200 partitions stay in the log"
until_ok 20 calm $((idle + memtable + 48 + ${RSS_SLACK_MB:-0})) || die "RssAnon stays at $(rss) MB with 200 partitions"
echo "ok: RssAnon $(rss) MB with 200 partitions"
bench --keys $((2 * keys)) --ops "$keys" --mix read=100
expect 'every key is there' 0 "$(jq '.missing + .wrong' "$T/out")"
kill "$pid"
wait "$pid" || die "SIGTERM"
