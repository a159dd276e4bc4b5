#!/bin/sh
# Port P+2 as a Redis Cluster's clients and tools see it: redis-cli -c, --cluster check, redis-benchmark --cluster,
# a cluster client from npm; what is moved, what is counted, and a leader killed meanwhile.
. "$(dirname "$0")/lib.sh"
command -v redis-cli >/dev/null && command -v nc >/dev/null || { echo "skipped: no redis-cli or nc"; exit 0; }
C=$((P + 2))
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
on() { # NODE COMMAND..: on its cluster face
    on_node=$1
    shift
    redis-cli -h 127.0.0."$on_node" -p "$C" "$@"
}
moving() { # NODE COMMAND..: as a cluster client that begins there
    moving_node=$1
    shift
    redis-cli -c -h 127.0.0."$moving_node" -p "$C" "$@"
}
plain() { redis-cli -h 127.0.0.1 -p "$P" "$@"; }
spread() { # do all three nodes lead their groups?
    [ "$(on 1 CLUSTER NODES | grep -c '[0-9]-[0-9]*$')" = 3 ] && agreed 1
}
agreed() { redis-cli --cluster check 127.0.0."$1":"$C" >"$T/check" 2>&1 && grep -q 'All 16384 slots covered' "$T/check"; }
owner() { # KEY: the host that leads its slot, as node 1 says
    on 1 CLUSTER NODES | awk -v slot="$(on 1 CLUSTER KEYSLOT "$1")" '{
        for (i = 9; i <= NF; i++) { n = split($i, r, "-"); if (slot >= r[1] + 0 && slot <= r[n] + 0) { sub(/:.*/, "", $2); print $2 } }
    }'
}
expect_soon() { # WHAT WANT COMMAND..: leaders may move on a busy machine, and come back
    soon_what=$1 soon_want=$2
    shift 2
    soon() { [ "$("$@")" = "$soon_want" ]; }
    until_ok 30 soon "$@" || die "$soon_what: want '$soon_want', got '$("$@")'"
    echo "ok: $soon_what"
}
raw() { printf '%b' "$2" | timeout 10 nc -q 1 127.0.0."$1" "$C" | tr -d '\r' | tr '\n' ' '; } # NODE BYTES

plain_names() { plain CLUSTER NODES | awk '{ print $1, $2 }' | sort; }
until_ok 30 spread || die "no leaders on all nodes: $(on 1 CLUSTER NODES)"
for n in 1 2 3; do
    until_ok 30 agreed $n || die "redis-cli --cluster check of node $n: $(cat "$T/check")"
done
echo "ok: redis-cli --cluster check"
expect "cluster.json tells the port" "$C$C$C" "$(jq -r '[.nodes[].resp_cluster] | map(tostring) | join("")' "$T/c/cluster.json")"
cluster status | grep -q "127.0.0.3:$C" || die "status lacks the cluster face"

# Every node names every node alike, by its key, and takes itself for another.
for n in 1 2 3; do on $n CLUSTER NODES | awk '{ print $1, $2 }' | sort >"$T/names.$n"; done
cmp -s "$T/names.1" "$T/names.2" && cmp -s "$T/names.2" "$T/names.3" || die "nodes name each other differently: $(cat "$T"/names.*)"
sed -n 's/.*host: \(127[^,]*\),.*key: \(.\{40\}\).*/\2 \1:'"$C@$N"'/p' "$T/c/node-1/kvd.yaml" | sort | cmp - "$T/names.1" || die "ids are not of the keys"
expect "MYID is the id in NODES" "$(sed -n 's/ 127.0.0.2:.*//p' "$T/names.1")" "$(on 2 CLUSTER MYID)"
expect_soon "port P advertises the cluster face" "$(cat "$T/names.1")" plain_names
in_slots() { on 2 --json CLUSTER SLOTS | jq -c '[.[] | length - 2]'; }
in_shards() { on 3 --json CLUSTER SHARDS | jq '[.[].slots | range(0; length; 2) as $i | .[$i + 1] - .[$i] + 1] | add'; }
as_map() { on 3 -3 --json CLUSTER SHARDS | jq 'all(.[]; (.nodes | length) == 3 and .nodes[0].role == "master")'; }
expect_soon "leader and replicas of each range" "[3,3,3,3,3,3,3,3]" in_slots
expect_soon "all slots in SHARDS" 16384 in_shards
expect_soon "a map in RESP3" true as_map
is_up() { on 1 CLUSTER INFO | grep -q 'cluster_state:ok'; }
until_ok 30 is_up || die "CLUSTER INFO: $(on 1 CLUSTER INFO)"
expect "INFO on the face" "redis_mode:cluster cluster_enabled:1" "$(on 1 INFO | tr -d '\r' | grep -E '^(redis_mode|cluster_enabled)' | tr '\n' ' ' | sed 's/ $//')"
expect "INFO on port P" "redis_mode:standalone cluster_enabled:0" "$(plain INFO | tr -d '\r' | grep -E '^(redis_mode|cluster_enabled)' | tr '\n' ' ' | sed 's/ $//')"
on 1 CLUSTER RESET | grep -q '^ERR CLUSTER RESET' || die "CLUSTER RESET: $(on 1 CLUSTER RESET)"

seq 1 60 | while read -r i; do
    [ "$(moving $((i % 3 + 1)) SET "k$i" "v$i")" = OK ] || die "redis-cli -c SET k$i"
    [ "$(moving $(((i + 1) % 3 + 1)) GET "k$i")" = "v$i" ] || die "redis-cli -c GET k$i"
done || exit 1
expect "they stand on port P too" v60 "$(plain GET k60)"

key=k1 slot=$(on 1 CLUSTER KEYSLOT k1)
# Asked anew each time: the coordinator may move a leader for good meanwhile.
leader_find() {
    host=$(owner k1)
    lead=${host##*.}
    other=$((lead % 3 + 1))
}
at_leader() { leader_find && on "$lead" "$@"; }
elsewhere() { leader_find && on $other "$@" | sed "s/ $host:$C/ LEADER/"; }
raw_elsewhere() { leader_find && raw $other "$1" | sed "s/ $host:$C/ LEADER/g"; } # BYTES
expect_soon "a foreign key is moved" "MOVED $slot LEADER" elsewhere GET $key
expect_soon "one of its own is not" v1 at_leader GET $key
expect_soon "ASKING changes nothing" "+OK -MOVED $slot LEADER " raw_elsewhere "ASKING\r\nGET $key\r\n"
expect "two slots in one command" "CROSSSLOT Keys in request don't hash to the same slot" "$(on 1 MGET a b)"
expect "one slot with a hashtag" OK "$(moving 1 MSET '{k1}a' 1 '{k1}b' 2)"
expect "SELECT 1" "ERR SELECT is not allowed in cluster mode" "$(on 1 SELECT 1)"
expect_soon "READONLY until READWRITE, and for reads" "+OK \$2 v1 -MOVED $slot LEADER +OK -MOVED $slot LEADER " \
    raw_elsewhere "READONLY\r\nGET $key\r\nSET $key x\r\nREADWRITE\r\nGET $key\r\n"

# Commands over all keys see those led here; asked of all, they see all.
seq 1 150 | sed 's/.*/SET {k1}:& v/' | moving 1 | grep -vcE '^(OK|-> Redirected.*)$' >"$T/odd"
expect "150 keys of one slot" 0 "$(cat "$T/odd")"
expect_soon "COUNTKEYSINSLOT" 153 at_leader CLUSTER COUNTKEYSINSLOT "$slot"
expect_soon "COUNTKEYSINSLOT of who does not lead it" 0 elsewhere CLUSTER COUNTKEYSINSLOT "$slot"
expect "COUNTKEYSINSLOT of port P" 153 "$(plain CLUSTER COUNTKEYSINSLOT "$slot")"
names() { at_leader CLUSTER GETKEYSINSLOT "$slot" 1000 | sort | cksum; }
expect_soon "GETKEYSINSLOT" "$({ seq 1 150 | sed 's/^/{k1}:/'; printf '%s\n' k1 '{k1}a' '{k1}b'; } | sort | cksum)" names
expect "GETKEYSINSLOT with a limit" 7 "$(plain CLUSTER GETKEYSINSLOT "$slot" 7 | wc -l)"
sum() { for n in 1 2 3; do on $n "$@"; done | awk '{ n += $1 } END { print n }'; }
expect_soon "DBSIZE of all is that of port P" "$(plain DBSIZE)" sum DBSIZE
all_keys() { for n in 1 2 3; do on $n "$@"; done | sort | cksum; }
expect_soon "KEYS of all" "$(plain --scan | sort | cksum)" all_keys KEYS '*'
expect_soon "SCAN of all" "$(plain --scan | sort | cksum)" all_keys --scan
of_random() { owner "$(on "$1" RANDOMKEY)"; }
for n in 1 2 3; do expect_soon "RANDOMKEY of node $n is its own" "127.0.0.$n" of_random $n; done
until_ok 30 spread || die "no leaders on all nodes: $(on 1 CLUSTER NODES)"
leader_find
[ "$(on "$lead" DBSIZE)" -lt "$(plain DBSIZE)" ] || die "DBSIZE counts what others lead"
left=$(($(plain DBSIZE) - $(on "$lead" DBSIZE)))
expect "FLUSHALL" OK "$(on "$lead" FLUSHALL)"
expect "takes what is led there" "0 $left" "$(on "$lead" DBSIZE) $(plain DBSIZE)"

command -v redis-benchmark >/dev/null && {
    redis-benchmark --cluster -h 127.0.0.1 -p "$C" -n 20000 -t set,get -P 4 -q >"$T/bench" 2>&1 || die "redis-benchmark: $(tail -n 3 "$T/bench")"
    grep -qi 'error' "$T/bench" && die "redis-benchmark: $(grep -i error "$T/bench" | head -n 3)"
    [ "$(tr '\r' '\n' <"$T/bench" | grep -c 'requests per second')" = 2 ] || die "redis-benchmark: $(cat "$T/bench")"
    echo "ok: redis-benchmark --cluster"
}

modules=$T/npm
mkdir "$modules" && cp tests/e2e/package.json tests/e2e/package-lock.json "$modules"
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    echo "skipped: the client from npm, no node or npm here"
elif ! (cd "$modules" && timeout 60 npm ci --no-audit --no-fund --ignore-scripts >"$T/npm.out" 2>&1); then
    echo "skipped: the client from npm, npm cannot install: $(grep -v '^$' "$T/npm.out" | head -n 1 | cut -c 1-120)"
else
    timeout 60 node tests/e2e/cluster_face.js "$modules/node_modules" 127.0.0.2 "$C" >"$T/node.out" 2>&1 || die "ioredis: $(head -n 5 "$T/node.out")"
    echo "ok: 1,000 sets and gets by ioredis, 1,000 more in pipelines, and reads from replicas"
fi

# A leader is killed: who begins at another node goes on, in time and without an error of its own.
expect "a key to go on with" OK "$(moving 1 SET $key before)"
killed_leader() {
    until_ok 30 spread || die "no leaders on all nodes"
    victim=$(owner $key) victim=${victim##*.}
    began=$(date +%s%3N)
    cluster kill "$victim" || die "kill"
    until_ok 20 answered $((victim % 3 + 1)) || die "redis-cli -c does not go on: $(moving $((victim % 3 + 1)) SET $key "$began" 2>&1)"
    took=$(($(date +%s%3N) - began))
    until_ok 20 agreed $((victim % 3 + 1)) || die "no node takes over: $(cat "$T/check")"
    on $((victim % 3 + 1)) CLUSTER NODES | grep "127.0.0.$victim:" | grep -q 'fail? .* disconnected' || die "a dead node is not said to be dead"
    expect "what was written then stands" "$began" "$(plain_of $((victim % 3 + 1)) GET $key)"
    cluster start "$victim" >/dev/null || die "start"
}
answered() { [ "$(timeout 5 redis-cli -c -h 127.0.0."$1" -p "$C" SET $key "$began" 2>/dev/null)" = OK ]; }
plain_of() {
    plain_node=$1
    shift
    redis-cli -h 127.0.0."$plain_node" -p "$P" "$@"
}
median_within "redis-cli -c goes on after kill -9 of a leader" 2000 3 10 killed_leader

until_ok 30 spread || die "no leaders on all nodes"
cluster kill 2 && cluster kill 3 || die "kill"
down() { on 1 SET $key down | grep -qE '^CLUSTERDOWN .*\(applied: no\)$'; }
until_ok 20 down || die "without a quorum: $(on 1 SET $key down)"
echo "ok: CLUSTERDOWN without a quorum"
is_failed() { on 1 CLUSTER INFO | grep -q 'cluster_state:fail'; }
until_ok 10 is_failed || die "CLUSTER INFO: $(on 1 CLUSTER INFO)"
cluster down || die "down"

# A node alone has the face too, unless it is turned off.
"$B/kvd" --node-data "$T/d" --resp-port "$P" --native-port "$N" 2>"$T/kvd.log" &
alone=$!
started="$started $alone"
until_ok 10 agreed 1 || die "a node alone: $(cat "$T/check")"
expect "a node alone" OK "$(moving 1 SET alone yes)"
kill "$alone"
wait "$alone"
"$B/kvd" --node-data "$T/d" --resp-port "$P" --native-port "$N" --resp-cluster-port 0 2>>"$T/kvd.log" &
started="$started $!"
until_ok 10 plain PING || die "it does not start again"
on 1 PING >/dev/null 2>&1 && die "turned off, it answers"
expect "on port P it is as before" yes "$(plain GET alone)"
"$B/kvd" --help-config | grep -A 2 '^resp.cluster_port' | grep -q 'resp.port + 2' || die "--help-config"
echo "ok: turned off"
