#!/bin/sh
# Five nodes, three replicas of each partition. Partitions are split and their replicas moved while rows are imported and
# Redis clients write through nodes that hold nothing of what they ask for: no client sees an error, every
# row is there exactly once. Then a node dies for good, and its replicas are made anew elsewhere.
. "$(dirname "$0")/lib.sh"
rows=${ROWS:-20000}
KVD_COORDINATOR_DEAD_AFTER=2s
export KVD_COORDINATOR_DEAD_AFTER
cluster up --nodes 5 --base-port "$P" >/dev/null || die "up"
map() { kvctl keyspace show default -o json | jq "$@"; }
expect "three replicas of each" 24 "$(map '[.ranges[].nodes | length] | add')"
clients_begin "$rows" 20s 1 2 3 4 5
for i in 10 300 4000 9999; do # each in another place
    kvctl keyspace split default --at "row00$i" >/dev/null || die "split at row00$i"
done
twelve() { [ "$(map ".ranges | length")" = 12 ]; }
until_ok 10 twelve || die "twelve partitions: $(map ".ranges | length")"
explained() { kvctl explain "$@" -o json | jq -c '[(.asked | length), (.pruned | length)]'; }
expect "a get asks one partition" '[1,11]' "$(explained get row000010)"
expect "a scan of a hashtag asks one" '[1,11]' "$(explained scan --prefix '{row000010}')"
expect "a scan of hashed keys asks all" '[12,0]' "$(explained scan --prefix row)"
split_again() { kvctl keyspace split default --at "row0010"; }
split_again 2>"$T/again"
expect "the same split again: exit" 4 $?
grep -q 'begins at that key already' "$T/again" || die "the same split again: $(cat "$T/again")"
kvctl keyspace show default -o json | jq -r '.ranges[] | "\(.id) \(.nodes[0]) \([1, 2, 3, 4, 5] - .nodes | first)"' >"$T/plan"
while read -r id from to; do
    kvctl partition move "$id" "$from" "$to" --timeout 30s >/dev/null 2>"$T/move" ||
        grep -qE 'already|is being|are being|no voter' "$T/move" || die "move $id $from $to: $(cat "$T/move")" # the coordinator was first
done <"$T/plan"
free=$(map -r '.ranges[] | select(.id == 1) | [1, 2, 3, 4, 5] - .nodes | first')
kvctl partition move 1 9 "$free" 2>"$T/nowhere"
expect "a move from a node that is none: exit" 3 $?
kvctl partition move 77777 1 2 2>"$T/nothing"
expect "a move of no partition: exit" 3 $?
clients_end "4 splits and $(wc -l <"$T/plan") moves"
expect "every row once" "$rows" "$(kvctl scan --prefix row -o json | jq -r .key | sort -u | wc -l)"
expect "DBSIZE of it all" $((rows + 5)) "$(redis-cli -h 127.0.0.2 -p "$P" DBSIZE)"

held() { map --argjson n "$1" '[.ranges[] | select(.nodes | index($n))] | length'; }
expect "a node has some" true "$([ "$(held 5)" -gt 0 ] && echo true)"
cluster kill 5 >/dev/null || die "kill 5"
left() { [ "$(held 5)" = 0 ] && [ "$(map '[.ranges[].nodes | length] | min')" = 3 ]; }
until_ok 60 left || die "node 5 still has $(held 5) replicas, $(map -c '[.ranges[].nodes | length]')"
echo "ok: a node that is gone for good has no replicas any more, and each partition has three"
expect "every row still" "$rows" "$(kvctl scan --prefix row -o json | jq -r .key | sort -u | wc -l)"
cluster start 5 >/dev/null || die "start 5"
clean() { kvctl node show 5 | jq -e --argjson n 5 '[.groups[].replicas[] | select(.node == $n)] | length > 0' >/dev/null; }
until_ok 60 clean || die "node 5 gets nothing when it is back"
even() { map -e '[range(1; 6) as $n | [.ranges[] | select(.nodes | index($n))] | length] | max - min <= 2' >/dev/null; }
until_ok 60 even || die "replicas: $(map -c '[range(1; 6) as $n | [.ranges[] | select(.nodes | index($n))] | length]')"
echo "ok: back, it has its share again"
