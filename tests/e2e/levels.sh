#!/bin/sh
# Reads of every level on three nodes: who answers them, what a replica that is slow, cut off or behind a paused leader
# says, and that the choice of the replica leaves a slow node and comes back to it. Clients dial from 127.0.1.1; the line
# between them and node 3 can be made 50 ms slow. Counters of the nodes tell who was asked.
. "$(dirname "$0")/lib_namespace.sh"
. "$(dirname "$0")/lib.sh"
ip route replace table local local 127.0.0.1 dev lo proto kernel scope host src 127.0.1.1 || die "ip" # clients of node 1 too
slow_port=$((P + 5))
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
node() { # I COMMAND...
    i=$1
    shift
    "$B/kvctl" --addr 127.0.0."$i":"$N" --key "$T/c/client.key" "$@"
}
# By the node's own door for Redis, which no fault of this test touches.
counter() { redis-cli -h 127.0.0."$1" -p "$P" info stats | tr -d '\r' | sed -n "s/^kvd_read$2://p"; }
receipt() { jq -r "\"\\(.value) \\(.level) $1\""; }
kvctl put k first >/dev/null || die "put"

# --- each level, at a follower ---
leader_of_k() { node 1 explain get k -o json | jq '.asked[0].leader'; }
# The coordinator, which begins some seconds after a start, has no leaders left to even out.
is_settled() {
    node 1 node show 1 -o json | jq -e '(.groups | all(.quiet and .leader == .replicas[0].node)) and
        ([.groups | group_by(.leader)[] | length] | length == 3 and max - min <= 2)' >/dev/null
}
until_ok 60 is_settled || die "not all groups are quiet, or leaders unevenly spread"
leader=$(leader_of_k)
follower=$((leader % 3 + 1)) other=$(((leader + 1) % 3 + 1))
echo "k is led by node $leader"
say() { # FOLLOWER LEVEL: a read whose client knows that node alone, so that it is the one that answers
    timeout 10 "$B/kvctl" --addr 127.0.0."$1":"$N" --key "$T/c/client.key" --timeout 3s get k -o json --level "$2"
}
clients_lack() { # NODES: none of them can be dialled by clients, who are told so at once
    printf 'table inet lack {\n chain out {\n type filter hook output priority 0\n ip saddr 127.0.1.1 ip daddr { %s } tcp dport %s reject with tcp reset\n}\n}\n' "$1" "$N" |
        nft -f - || die "nft reject"
}
clients_have_all() { nft delete table inet lack || die "nft"; }
clients_lack "127.0.0.$leader, 127.0.0.$other"
for level in lease bounded:1000 any; do
    name=${level%:*} before=$(counter $follower s_"$name")
    expect "$level at a follower" "first $name $follower" "$(say $follower $level | receipt '\(.node)')"
    expect "and it counted that" $((before + 1)) "$(counter $follower s_"$name")"
done
expect "any has no bound" null "$(say $follower any | jq .stale_ms)"
say $follower bounded:60000 | jq -e '.stale_ms <= 60000' >/dev/null || die "the bound that was held"
rounds=$(counter $follower _rounds)
for _ in 1 2 3 4 5; do say $follower bounded:600000 >/dev/null || die "bounded"; done
expect "bounded reads within an index's age ask nobody" "$rounds" "$(counter $follower _rounds)"
for _ in 1 2 3; do say $follower lease >/dev/null || die "lease"; done
[ "$(counter $follower _rounds)" -ge $((rounds + 3)) ] || die "a lease read did not ask the leader"
expect "a scan at a level" 1 "$(node $follower scan --prefix k --level any -o json | wc -l)"
before=$(counter $leader s_linearizable)
expect "linearizable reads go on through the follower" first "$(say $follower linearizable | jq -r .value)"
expect "at the leader" $((before + 1)) "$(counter $leader s_linearizable)"

# --- what it sees at once ---
i=0
while [ $i -lt 20 ]; do
    i=$((i + 1))
    [ "$(redis-cli -h 127.0.0."$leader" -p "$P" set k v$i)" = OK ] || die "set v$i"
    got=$(say $follower lease | jq -r .value)
    [ "$got" = v$i ] || die "lease read $got behind v$i"
done
echo "ok: 20 lease reads behind 20 writes, none old"
is_quiet() { node $follower node show $follower -o json | jq -e '.groups | all(.quiet)' >/dev/null; }
until_ok 10 is_quiet || die "the groups are not quiet"
expect "a quiet group: bounded behind a write" v20 "$(say $follower bounded:1 | jq -r .value)"
expect "READONLY on the cluster port is any" v20 "$(printf 'READONLY\nGET k\n' | redis-cli -h 127.0.0.$follower -p $((P + 2)) | tail -1)"

# --- cut off ---
cut 127.0.0.$follower "127.0.0.$leader,127.0.0.$other"
until_ok 20 redis-cli -h 127.0.0."$leader" -p "$P" set k newer || die "put beside the cut"
expect "a follower that is cut off answers any" v20 "$(say $follower any | jq -r .value)"
sleep 0.2 # the bound has to pass
for level in bounded:100 lease; do # of clients that can reach nobody else
    began=$(date +%s%3N)
    timeout 10 "$B/kvctl" --addr 127.0.0.$follower:"$N" --key "$T/c/client.key" --timeout 1s get k --level $level >"$T/out" 2>&1
    code=$? took=$(($(date +%s%3N) - began))
    [ $code = 6 ] || [ $code = 7 ] || die "$level without a leader: exit $code, $(cat "$T/out")"
    [ $took -lt 2500 ] || die "$level was refused after $took ms of a second"
    echo "ok: $level is refused after $took ms: $(cat "$T/out")"
done
expect "and any still answered" v20 "$(say $follower any | jq -r .value)"
clients_have_all
expect "a client that can reach others goes there" newer "$(node $follower --timeout 3s get k --level bounded:100)"
heal
until_ok 20 node $follower ready --timeout 5s || die "no recovery"
expect "healed, lease sees it" newer "$(node $follower get k --level lease)"

# --- a paused leader answers nothing old ---
leader=$(leader_of_k)
awake=$((leader % 3 + 1))
kill -STOP "$(cat "$T/c/node-$leader/pid")"
until_ok 20 node $awake put k latest || die "put beside the paused leader"
for level in lease bounded:1; do
    expect "$level beside a paused leader" latest "$(node $awake --timeout 5s get k --level $level)"
done
kill -CONT "$(cat "$T/c/node-$leader/pid")"
for level in lease bounded:1; do
    expect "$level at the one that was paused" latest "$(node "$leader" get k --level $level)"
done

# --- the choice ---
until_ok 30 node 1 ready --timeout 5s || die "ready"
"$B/slow_line" 127.0.0.1 $slow_port 127.0.0.3 "$N" 127.0.1.2 50 2>"$T/line.log" &
line=$!
started="$started $line"
nft add table ip n && nft add chain ip n out '{ type nat hook output priority -100 ; }' &&
    nft add rule ip n out ip saddr 127.0.1.1 ip daddr 127.0.0.3 tcp dport "$N" redirect to :$slow_port || die "nft nat"
until_ok 10 node 3 get k --level any || die "no way through the line: $(cat "$T/line.log")"
shares() { for i in 1 2 3; do counter $i s_any; done; }
share_of_3() { # SECONDS: of the reads of so many, in per cent
    before=$(shares)
    sleep "$1"
    after=$(shares)
    # shellcheck disable=SC2086 # lists
    set -- $before $after
    [ $(($4 + $5 + $6 - $1 - $2 - $3)) -gt 50 ] || die "hardly any reads: $before to $after"
    share=$((100 * ($6 - $3) / ($4 + $5 + $6 - $1 - $2 - $3)))
}
"$B/kvbench" --protocol native --addr 127.0.0.1:"$N",127.0.0.2:"$N",127.0.0.3:"$N" --key "$T/c/client.key" --clients 4 --keys 1000 --mix read=100 \
    --level any --seconds 60 --json >"$T/bench" 2>&1 &
bench=$!
started="$started $bench"
is_fair() { share_of_3 1 && [ "$share" -ge 15 ]; }
until_ok 10 is_fair || die "node 3, as fast as the others, got $share % of the reads"
echo "ok: node 3 gets $share % of the reads"
kill -USR1 $line
sleep 5 # the bound that the choice is to keep
share_of_3 3
[ "$share" -lt 10 ] || die "node 3, 50 ms slower, got $share % of the reads after 5 s"
echo "ok: 50 ms slower it gets $share %"
node 1 explain get k --level any -o json | jq -e '.asked[0].asks != 3' >/dev/null || die "explain would ask the slow node"
node 1 explain get k --level any
kill -USR2 $line
until_ok 15 is_fair || die "node 3, fast again, got $share %"
echo "ok: fast again it gets $share %"
kill -TERM $bench 2>/dev/null
cluster down >/dev/null || die "down"
