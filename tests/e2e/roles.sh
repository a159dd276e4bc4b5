#!/bin/sh
# Nodes of one role each: three hold partition 0, three hold data, two take clients. A killed gateway costs no client an
# operation, nor does the loss of all that hold partition 0, even when a node with data dies meanwhile and a gateway is
# started anew; a gateway holds no data; a node that loses its role is drained. What cannot be is refused with the reason.
. "$(dirname "$0")/lib.sh"
at() { # NODE COMMAND..: what a Redis client is told there
    node=$1
    shift
    redis-cli -h "127.0.0.$node" -p "$P" "$@" 2>&1
}
refused() { # WANTED-CODE WANTED-TEXT COMMAND..
    want=$1 text=$2
    shift 2
    "$@" >"$T/out" 2>"$T/err" </dev/null
    expect "$(printf '%s ' "$@" | sed "s|$T/||g" | cut -c 1-70) exits" "$want" $?
    grep -qF -- "$text" "$T/err" || die "not told '$text': $(cat "$T/err")"
}
nodes() { kvctl node list -o json | jq -s "$@"; }

# What is no role, and who is missing.
refused 2 'is not a list, by commas, of the roles' "$B/kvd" --node-data "$T/x" --role storage,stroage
refused 2 'is not a list, by commas, of the roles' "$B/kvd" --node-data "$T/x" --role gateway,gateway
refused 2 'node.roles: is empty' "$B/kvd" --node-data "$T/x" --role ''
refused 1 'a node that is alone holds everything' "$B/kvd" --node-data "$T/x" --native-port "$N" --resp-port "$P" --role gateway
key=$(printf '%064d' 0)
cat >"$T/founders.yaml" <<TEXT
cluster: {id: 00112233445566778899aabbccddeeff, nodes: [{id: 1, host: 127.0.0.1, key: $key, roles: [storage, gateway]}]}
TEXT
refused 2 'no node has the role coordinator' "$B/kvd" --config "$T/founders.yaml" --check-config
sed -i 's/roles: .*]}]/roles: coordinator}]/' "$T/founders.yaml"
refused 2 'no node has the role storage' "$B/kvd" --config "$T/founders.yaml" --check-config
sed -i 's/roles: coordinator/roles: "storage,coordinator"/' "$T/founders.yaml"
refused 2 'cluster.nodes gives node 1 others' "$B/kvd" --config "$T/founders.yaml" --check-config --bootstrap --role storage
sed -i 's/roles: "[^"]*"/roles: [store]/' "$T/founders.yaml"
refused 2 'roles "store" are not' "$B/kvd" --config "$T/founders.yaml" --check-config

c=coordinator s=storage g=gateway
cluster up --nodes 8 --base-port "$P" --role $c --role $c --role $c --role $s --role $s --role $s --role $g --role $g >"$T/up" || die "up"
grep -qF "RESP 127.0.0.7:$P" "$T/up" || die "up names a node without a Redis port: $(cat "$T/up")"
faces() { jq -c '[.nodes[] | select(.resp and .resp_cluster) | .id]' "$T/c/cluster.json"; }
expect "nodes with Redis ports in cluster.json" '[7,8]' "$(faces)"
expect "replicas by node" '[1,1,1,8,8,8,0,0]' "$(nodes -c 'map(.replicas)')"
expect "roles by node" "$c $c $c $s $s $s $g $g" "$(nodes -r 'map(.roles) | join(" ")')"
for i in 1 4; do at $i PING | grep -q refused || die "node $i has a Redis port: $(at $i PING)"; done
expect "a client that knows a node without the role alone" OK "$("$B/kvctl" --addr "127.0.0.4:$N" --key "$T/c/client.key" put greeting hello >/dev/null && echo OK)"
expect "an operator asks it about itself" storage "$("$B/kvctl" --addr "127.0.0.4:$N" --key "$T/c/client.key" node show 4 -o json | jq -r .roles)"

# Keyspaces begin on the nodes with data, which hold nothing of partition 0.
refused 4 '4 replicas need 4 nodes with the role storage, 3 can take some: 4, 5, 6' kvctl keyspace create wide --partition range:m --replicas 4
kvctl keyspace create books --partition list:a='x|y' --default a --replicas 3 >/dev/null || die "a list keyspace"
kvctl keyspace create more --partition range:h,p --replicas 2 >/dev/null || die "a range keyspace"
expect "where they are" '[4,5,6]' "$(for k in books more; do kvctl keyspace show $k -o json; done | jq -sc '[.[].ranges[].nodes[]] | unique')"
expect "a row of one, by the other gateway" "OK v" "$(printf 'SELECT books\nSET x/1 v\n' | at 7 | tail -n 1) $(printf 'SELECT books\nGET x/1\n' | at 8 | tail -n 1)"

# All that a client of a gateway may ask.
seq 200 | sed 's/.*/SET own:& &/' | at 7 | grep -vq OK && die "writes by a gateway"
expect "DBSIZE by the other" 201 "$(at 8 DBSIZE)"
expect "SCAN, all of it" 201 "$(at 8 --scan | sort -u | wc -l)"
expect "KEYS" 200 "$(at 7 KEYS 'own:*' | wc -l)"
for i in 7 8; do redis-cli -h 127.0.0.$i -p $((P + 2)) CLUSTER SLOTS | grep -oE '^127[0-9.]*' | sort -u | tr '\n' ' '; done >"$T/faces"
expect "addresses in CLUSTER SLOTS" "127.0.0.7 127.0.0.8 127.0.0.7 127.0.0.8 " "$(cat "$T/faces")"
redis-cli --cluster check "127.0.0.7:$((P + 2))" >"$T/check" 2>&1 || die "cluster check: $(cat "$T/check")"
expect "a cluster client" 7 "$(redis-cli -c -h 127.0.0.8 -p $((P + 2)) GET own:7)"
sizes=$(for i in 7 8; do redis-cli -h 127.0.0.$i -p $((P + 2)) DBSIZE; done | awk '{ n += $1 } END { print n }')
expect "each key counted at one of them" 201 "$sizes"

# Clients that go on: libkv, and a Redis client that takes another gateway when one does not answer.
set_somewhere() { # KEY VALUE, tried until a gateway says OK
    for _ in 1 2 3 4 5 6; do
        for gateway in 7 8; do [ "$(at $gateway SET "$1" "$2")" = OK ] && return 0; done
    done
    return 1
}
redis_load() {
    n=0
    while [ ! -e "$T/enough" ]; do
        n=$((n + 1))
        set_somewhere "n$((n % 50))" $n || { echo "SET $n" >"$T/odd" && return; }
    done
    echo $n >"$T/counted"
}
redis_load &
started="$started $!"
libkv_load() {
    while [ ! -e "$T/enough" ]; do
        "$B/kvbench" --protocol native --addr "127.0.0.7:$N,127.0.0.8:$N" --key "$T/c/client.key" --clients 4 --keys 500 \
            --mix read=50,write=50 --warmup 0.1 --seconds 3 --json >"$T/bench" 2>"$T/bench.err" || { cp "$T/bench.err" "$T/odd" && return; }
        sed -n 's/.*"errors":\([0-9.]*\).*/\1/p' "$T/bench" >>"$T/errors"
    done
    : >"$T/bench.over"
}
libkv_load &
started="$started $!"
goes_on() { # WHAT: writes and reads, by each gateway given
    what=$1
    shift
    [ ! -e "$T/odd" ] || die "$what: a client failed: $(cat "$T/odd")"
    for gateway in "$@"; do
        until_ok 10 set_at "$gateway" || die "$what: no write by node $gateway: $(at "$gateway" SET probe 1)"
        expect "$what: a read by node $gateway" 7 "$(at "$gateway" GET own:7)"
    done
}
set_at() { [ "$(at "$1" SET probe 1)" = OK ]; }
goes_on "at first" 7 8
cluster kill 7 >/dev/null || die "kill 7"
goes_on "a gateway is killed" 8
cluster start 7 >/dev/null || die "start 7"
cluster kill 8 >/dev/null || die "kill 8"
goes_on "the other is" 7
cluster start 8 >/dev/null || die "start 8"

cluster kill 1 2 3 >/dev/null || die "kill the coordinators"
goes_on "no node with partition 0" 7 8
cluster kill 4 >/dev/null || die "kill 4"
goes_on "and a node with data fewer" 7 8
cluster kill 8 >/dev/null
cluster start 8 --timeout 1 >/dev/null 2>&1 # it is not ready in all: partition 0 has no leader
goes_on "and a gateway that was started since" 7 8
expect "a keyspace that it was told of" v "$(printf 'SELECT books\nGET x/1\n' | at 8 | tail -n 1)"
refused 6 'it is partition 0' kvctl --timeout 2s keyspace split default --at own:1
refused 6 'it is partition 0' kvctl --timeout 2s node cordon 5
cluster start 1 2 3 4 >/dev/null || die "start 1 2 3 4"
goes_on "all are back" 7 8
kvctl keyspace split default --at own:1 >/dev/null || die "a split, now"
: >"$T/enough"
until_ok 20 test -s "$T/counted" || die "the Redis client: $(cat "$T/odd")"
until_ok 20 test -e "$T/bench.over" || die "the libkv client: $(cat "$T/odd" "$T/bench" "$T/bench.err")"
expect "failed operations of libkv" 0 "$(awk '{ n += $1 } END { print n + 0 }' "$T/errors")"
echo "ok: no operation failed, $(cat "$T/counted") by the Redis client"

# What cannot be done without.
kvctl node cordon 1 >/dev/null && kvctl node cordon 2 >/dev/null || die "cordon"
refused 4 'have nowhere to go; next: add a node with the role' kvctl node drain 3
kvctl node uncordon 1 >/dev/null && kvctl node uncordon 2 >/dev/null || die "uncordon"
kvctl node drain 4 --dry-run >"$T/dry" 2>&1
expect "a drain with nowhere to go, tried: exits" 4 $?
grep -q 'no other node with the role storage' "$T/dry" || die "dry run: $(cat "$T/dry")"

# A gateway holds nothing, and may be wiped.
cluster kill 8 >/dev/null || die "kill 8"
"$B/kvlog" dump "$T/c/node-8/data" >"$T/dump" || die "kvlog: $(cat "$T/dump")"
expect "entries and rows at a gateway" 0 "$(grep -cE ' (entry|group|row) ' "$T/dump")"
expect "what kvlog finds there to save" 0 "$("$B/kvlog" salvage "$T/c/node-8/data" 2>/dev/null | wc -l)"
cluster wipe 8 >/dev/null && cluster start 8 >/dev/null || die "start 8, empty"
goes_on "a gateway without its disk" 8

# One more node with data; then node 4 is to be a gateway, and gives all away. Its ports open at once.
cluster add --role storage >/dev/null || die "add"
expect "its role" storage "$(nodes -r '.[8].roles')"
sed -i 's/^node: {/node: {roles: gateway, /' "$T/c/node-4/kvd.yaml"
cluster kill 4 >/dev/null && cluster start 4 >/dev/null || die "start 4 as a gateway"
goes_on "with node 4 as a gateway" 4 7
expect "nodes with Redis ports, with node 4" '[4,7,8]' "$(faces)"
has() { [ "$(nodes -c "$1")" = "$2" ]; }
until_ok 90 has '[.[3].replicas, .[3].roles]' '[0,"gateway"]' || die "node 4 is not drained: $(nodes -c 'map([.id, .roles, .replicas])')"
until_ok 30 has '[.[0, 1, 2].replicas]' '[1,1,1]' || die "partition 0: $(nodes -c 'map([.id, .replicas])')"
echo "ok: node 4 is drained: $(nodes -c 'map(.replicas)')"
expect "every key still" 200 "$(at 4 KEYS 'own:*' | wc -l)"

# Fewer nodes with data than replicas are wanted: of each partition with three what the one without the role has goes, and is back with the role.
wants() { kvctl keyspace show "$1" -o json | jq -c '[.ranges[].nodes | sort] | unique'; }
sed -i 's/^node: {/node: {roles: gateway, /' "$T/c/node-6/kvd.yaml"
cluster kill 6 >/dev/null && cluster start 6 >/dev/null || die "start 6 as a gateway"
until_ok 90 has '[.[5].replicas, .[5].roles]' '[0,"gateway"]' || die "node 6 is not empty: $(nodes -c 'map([.id, .roles, .replicas])')"
expect "two replicas of three" "[[5,9]] [[5,9]]" "$(wants default) $(wants books)"
sed -i 's/^node: {roles: gateway, /node: {roles: storage, /' "$T/c/node-6/kvd.yaml"
cluster kill 6 >/dev/null && cluster start 6 >/dev/null || die "start 6 with storage"
all_three() { [ "$(wants default) $(wants books)" = "[[5,6,9]] [[5,6,9]]" ]; }
until_ok 90 all_three || die "not three again: $(wants default) $(wants books)"
expect "every key once more" 200 "$(at 4 KEYS 'own:*' | wc -l)"

cluster down >/dev/null || die "down"
