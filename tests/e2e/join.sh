#!/bin/sh
# Nodes join a running cluster by token: tools/cluster add, twice, while clients write; they serve every key without holding
# one. What is no good token is refused with the reason, a joiner that is killed comes in under one id, a restart needs no
# list of nodes, and a removed node is refused by name.
. "$(dirname "$0")/lib.sh"
said() { redis-cli -h "127.0.0.$1" -p "$P" "$2" "$3" ${4+"$4"} 2>&1 | tail -n 1; } # NODE COMMAND..
refused() { # WANTED-CODE WANTED-TEXT COMMAND..
    want=$1 text=$2
    shift 2
    "$@" >"$T/out" 2>"$T/err" </dev/null
    expect "$(printf '%s ' "$@" | cut -c 1-60) exits" "$want" $?
    grep -qF -- "$text" "$T/err" || die "not told '$text': $(cat "$T/err")"
}
agree() { # NODE..: all of them know the same nodes
    [ "$(for n in "$@"; do "$B/kvctl" --addr "127.0.0.$n:$N" --key "$T/c/client.key" node list -o json | jq -c '[.id, .host, .state]' | tr '\n' ' '; echo; done | sort -u | wc -l)" = 1 ]
}
# What starts a node of its own: its name, and a token. $T/NAME is its directory, 127.0.0.9 its address.
joiner() { # NAME TOKEN [OPTION..]
    dir=$T/$1 token=$2
    shift 2
    "$B/kvd" --node-data "$dir" --native-host 127.0.0.9 --native-port "$N" --resp-host 127.0.0.9 --resp-port "$P" \
        --client-keys "$T/c/clients.keys" --join "127.0.0.1:$N" --token "$token" "$@"
}
start_joiner() { # NAME TOKEN: beside us, as $pid
    "$B/kvd" --node-data "$T/$1" --native-host 127.0.0.9 --native-port "$N" --resp-host 127.0.0.9 --resp-port "$P" \
        --client-keys "$T/c/clients.keys" --join "127.0.0.1:$N" --token "$2" >"$T/$1.log" 2>&1 &
    pid=$!
    started="$started $pid"
}
stop_joiner() {
    kill -9 $pid
    wait $pid 2>/dev/null
}
export KVD_COORDINATOR_ENABLED=false # it would give them replicas
cluster up --base-port "$P" >/dev/null || die "the cluster does not start"
for c in token cordon uncordon drain remove; do kvctl node $c --help | grep -q '^example' || die "no example in node $c --help"; done

# Two more, under writes that must all be answered.
i=0
while [ ! -e "$T/enough" ]; do
    i=$((i + 1))
    echo "SET load:$i $i"
done | redis-cli -h 127.0.0.1 -p "$P" >"$T/load" &
load=$!
started="$started $load"
until_ok 10 test -s "$T/load" || die "nothing is written"
cluster add --zone rack-4 >/dev/null || die "the first add"
cluster add >/dev/null || die "the second add"
: >"$T/enough"
wait $load
expect "writes that failed meanwhile" 0 "$(grep -cv '^OK$' "$T/load")"
until_ok 10 agree 1 2 3 4 5 || die "they know different nodes"
expect "nodes in cluster.json" "1 2 3 4 5" "$(jq -r '[.nodes[].id] | join(" ")' "$T/c/cluster.json")"
expect "nodes by kvctl" "1 2 3 4 5" "$(kvctl node list -o json | jq -r .id | tr '\n' ' ' | sed 's/ $//')"
expect "zone of the first" rack-4 "$(kvctl node list -o json | jq -r 'select(.id == 4).zone')"
expect "replicas on the new ones" "0 0" "$(kvctl node list -o json | jq -r 'select(.id > 3).replicas' | tr '\n' ' ' | sed 's/ $//')"
cluster status >/dev/null || die "status"

# They serve every key, by every door.
expect "SET at the new node" OK "$(said 4 SET greeting hello)"
expect "GET at the other new one" hello "$(said 5 GET greeting)"
expect "GET at an old one" hello "$(said 2 GET greeting)"
expect "kvctl through it alone" hello "$("$B/kvctl" --addr "127.0.0.5:$N" --key "$T/c/client.key" get greeting)"
redis-cli -h 127.0.0.4 -p $((P + 2)) CLUSTER NODES >"$T/nodes"
expect "nodes that CLUSTER NODES lists" 5 "$(grep -c . "$T/nodes")"
expect "through the cluster face" hello "$(redis-cli -c -h 127.0.0.4 -p $((P + 2)) GET greeting)"

# Tokens that are none, or no more.
used=$(sed -n 's/.*token: \([^}]*\)}.*/\1/p' "$T/c/node-4/kvd.yaml")
refused 5 'the token was used by node 4' joiner used "$used"
refused 2 'is not a token' joiner typo "$(echo "$used" | tr '0-4' '1-5')"
good=$(kvctl node token --ttl 1h -q) || die "no token"
other=$("$B/kvctl" --cluster "$T/c/cluster.json" node token -o json | jq -r .token)
expect "tokens are different" 2 "$(printf '%s\n%s\n' "$good" "$other" | sort -u | wc -l)"
expire=$(kvctl node token --ttl 1s -q)
sleep 1.2 # until it is too old
refused 5 'the token has expired' joiner late "$expire"
mkdir "$T/alien"
BUILD=$B tools/cluster up --dir "$T/alien" --nodes 1 --base-port $((P + 4)) >/dev/null || die "the other cluster does not start"
alien=$("$B/kvctl" --cluster "$T/alien/cluster.json" node token -q) || die "no token of the other cluster"
refused 5 "is not " joiner alien-node "$alien"
BUILD=$B tools/cluster wipe all --dir "$T/alien"
refused 1 'last: ' joiner nobody "$good" --join "127.0.0.8:$N" --cluster-join-time 1s
refused 2 'cluster.token is missing' "$B/kvd" --node-data "$T/x" --join "127.0.0.1:$N"
refused 4 'replica' kvctl node remove 2
refused 3 'no node 77' kvctl node cordon 77
expect "nobody came in by that" 5 "$(kvctl node list -o json | grep -c .)"

# Killed at any moment of its joining, with one token and one key.
for ms in 0 5 10 20 40 80; do
    start_joiner again "$good"
    sleep "$(printf '0.%03d' $ms)" # not a wait for something: how far it gets is the point
    stop_joiner
done
start_joiner again "$good"
until_ok 10 "$B/kvctl" --addr "127.0.0.9:$N" --key "$T/c/client.key" --timeout 1s ready || die "it does not come in: $(cat "$T/again.log")"
expect "ids it was given" "6" "$(kvctl node list -o json | jq -r 'select(.host == "127.0.0.9").id')"

# Its disk is lost, its key is not: the same id.
stop_joiner
mv "$T/again/node.key" "$T/node.key"
rm -r "$T/again"
mkdir "$T/again" && mv "$T/node.key" "$T/again/node.key"
start_joiner again "$good"
until_ok 10 "$B/kvctl" --addr "127.0.0.9:$N" --key "$T/c/client.key" --timeout 1s ready || die "it does not come back: $(cat "$T/again.log")"
expect "id after a wipe" "6" "$(kvctl node list -o json | jq -r 'select(.host == "127.0.0.9").id')"

# Removed: gone from the list, and refused by name, with its old token too.
kvctl node drain 6 --dry-run >/dev/null || die "drain --dry-run"
kvctl node cordon 6 >/dev/null || die "cordon"
expect "state after cordon" cordoned "$(kvctl node list -o json | jq -r 'select(.id == 6).state')"
kvctl node uncordon 6 >/dev/null || die "uncordon"
kvctl node remove 6 >/dev/null || die "remove"
until_ok 10 grep -q 'node 6 was removed from this cluster' "$T/again.log" || die "not refused by name: $(tail -n 5 "$T/again.log")"
told() { timeout 1 redis-cli -h 127.0.0.9 -p "$P" SET k v 2>&1 | grep -q "^NOLEADER .*the other nodes refuse this one"; }
until_ok 10 told || die "its clients are not told at once: $(timeout 1 redis-cli -h 127.0.0.9 -p "$P" SET k v 2>&1)"
expect "nodes without it" "1 2 3 4 5" "$(kvctl node list -o json | jq -r .id | tr '\n' ' ' | sed 's/ $//')"
stop_joiner
mv "$T/again/node.key" "$T/node.key"
rm -r "$T/again"
mkdir "$T/again" && mv "$T/node.key" "$T/again/node.key"
refused 5 'node 6 was removed' joiner again "$good"
start_joiner fresh "$other"
until_ok 10 "$B/kvctl" --addr "127.0.0.9:$N" --key "$T/c/client.key" --timeout 1s ready || die "a fresh one does not come in: $(cat "$T/fresh.log")"
expect "ids are never given twice" "7" "$(kvctl node list -o json | jq -r 'select(.host == "127.0.0.9").id')"
stop_joiner
kvctl node remove 7 >/dev/null || die "remove of a node that is down"

# A restart of all, of which three have a list of three and two have none; the seed of node 4 is not needed, nor its token.
cluster down || die "down"
sed -i '/^  nodes:/,/^node:/{/^node:/!d}' "$T/c/node-2/kvd.yaml"
sed -i 's/^cluster: .*/log.level: info/' "$T/c/node-4/kvd.yaml"
cluster up >/dev/null || die "the cluster does not start again"
until_ok 10 agree 1 2 3 4 5 || die "they know different nodes after a restart"
expect "a key, at a node without a list" hello "$(said 2 GET greeting)"
expect "and at a new one" hello "$(said 4 GET greeting)"
cluster kill 5 && cluster wipe 5 && cluster start 5 || die "node 5 does not come back from a wipe"
expect "node 5 is node 5" 5 "$("$B/kvctl" --addr "127.0.0.5:$N" --key "$T/c/client.key" node show 5 -o json | jq .node)"
cluster pause 4 && cluster resume 4 || die "pause"
echo "join: ok"
