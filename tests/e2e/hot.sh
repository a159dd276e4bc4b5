#!/bin/sh
# Hot keys, loads and sizes as kvctl tells them: beside what was really sent; of one keyspace; bytes that are no text; and a single key
# that has it all, which no split can spread: none is tried, and the journal says so.
. "$(dirname "$0")/lib.sh"
KVD_COORDINATOR_SPLIT_LOAD=100
export KVD_COORDINATOR_SPLIT_LOAD
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
kvctl keyspace create users --partition range:m >/dev/null || die "create"
expect "nobody asks: no hot keys" '' "$(kvctl hot -o raw)"
all="127.0.0.1:$P,127.0.0.2:$P,127.0.0.3:$P"
begin() { # NAME ARGUMENTS OF KVBENCH..
    name=$1
    shift
    "$B/kvbench" --addr "$all" --warmup 0 --seconds 120 --json "$@" >"$T/$name.json" 2>"$T/$name.log" &
    started="$started $!"
}
begin one --keys 1 --prefix only: --clients 4 --rate 400 --mix read=75,write=25
begin many --keys 5000 --prefix many: --clients 8 --rate 400 --mix write=100 --value 1000
odd=$(printf 'de/\377\001')
odds() { while :; do kvctl --keyspace users incr "$odd" && kvctl --keyspace users incr 'us/text'; done >/dev/null 2>&1; }
odds &
started="$started $!"

# What kvbench wrote at first, to have its keys, counts in their partitions until it is forgotten.
hottest() {
    kvctl hot --limit 1 -o json >"$T/hottest" && [ -s "$T/hottest" ] &&
        jq -e '.ops > 340 and .ops < 460 and .error <= 1 and .reads > 240 and .reads < 360 and .writes > 60 and .writes < 140 and .share > 0.7' "$T/hottest"
}
until_ok 30 hottest || die "the hottest key, its reads, writes, error and share: $(kvctl hot --limit 3 -o json)"
hot=$(cat "$T/hottest")
expect "the hottest key" '["only:000000000000","default",true]' "$(echo "$hot" | jq -c '[.key, .keyspace, .leads]')"
echo "ok: how much of it is reads and writes: $hot"
expect "of the cluster no more than asked for" 5 "$(kvctl hot --limit 5 -o json | wc -l)"
expect "in order" true "$(kvctl hot --limit 50 -o json | jq -s 'map(.ops) | . == (sort | reverse)')"
kvctl hot --limit 50 -o json | jq -se 'map(.ops >= .error) | all' >/dev/null || die "an error beyond what it is the error of"
both() { kvctl hot --keyspace users -o json | jq -se 'map(.key) | length == 2 and contains([{"base64": "ZGUv/wE="}]) and contains(["us/text"])'; }
until_ok 20 both || die "keys of keyspace users: $(kvctl hot --keyspace users -o json)"
expect "one keyspace alone" '["users"]' "$(kvctl hot --keyspace users -o json | jq -sc 'map(.keyspace) | unique')"
kvctl hot --keyspace users | grep -q 'de/\\xFF\\x01 \|de/\\xff\\x01 ' || die "as a table: $(kvctl hot --keyspace users)"
kvctl hot --keyspace nobody 2>"$T/why"
expect "a keyspace that is not there: exit" 3 $?
kvctl hot --limit 0 2>"$T/why"
expect "no keys at all: exit" 2 $?
grep -q '1 to 1000' "$T/why" || die "the limit is not named: $(cat "$T/why")"

# Loads and sizes of partitions, in every place that tells them.
rate_of() { kvctl status -o json | jq '[.groups[] | select(.keyspace == "default") | .ops] | add'; }
whole() { jq -ne --argjson r "$(rate_of)" '$r > 700 and $r < 900'; }
until_ok 20 whole || die "status: all partitions together serve $(rate_of) a second"
shown() { kvctl keyspace show default -o json | jq -e '[.ranges[].ops] | add | . > 700 and . < 900'; }
until_ok 10 shown || die "keyspace show: $(kvctl keyspace show default)"
expect "node show tells them too" true "$(kvctl node show 1 | jq '[.groups[] | has("reads") and has("writes") and has("bytes")] | all')"
sized() { kvctl keyspace show default -o json | jq -e '[.ranges[].bytes] | add | . > 1000000'; }
until_ok 60 sized || die "sizes: $(kvctl keyspace show default)"
for node in 1 2 3; do redis-cli -h "127.0.0.$node" -p "$P" BGSAVE >/dev/null; done
# 5,000 keys of 17 bytes, each with a kilobyte and its header of some 20 bytes.
true_size() { kvctl keyspace show default -o json | jq -e '[.ranges[].bytes] | add | . > 4200000 and . < 6500000'; }
until_ok 60 true_size || die "sizes: $(kvctl keyspace show default -o json | jq -c '[.ranges[].bytes]')"
echo "ok: sizes add up to $(kvctl keyspace show default -o json | jq '[.ranges[].bytes] | add') bytes"
kvctl status | grep -q 'OPS/S *SIZE' || die "status as a table: $(kvctl status)"

said() { grep -hq ' hot-key partition=' "$T"/c/node-*/log; }
until_ok 60 said || die "nobody says that one key has it all"
id=$(echo "$hot" | jq .partition)
grep -h " shaping partition=$id reason=split" "$T"/c/node-*/log && die "a partition of one hot key was split"
echo "ok: a single hot key is not split, and said"
