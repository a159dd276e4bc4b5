#!/bin/sh
# A keyspace gets more replicas, fewer, and others by zone, while clients use it; then it is dropped and its space is given back,
# each as a job.
. "$(dirname "$0")/lib.sh"
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
cluster add --zone far >/dev/null || die "add 4"
cluster add --zone far >/dev/null || die "add 5"
kvctl keyspace create users --partition hash:4 --replicas 2 >/dev/null || die "create"
map() { kvctl keyspace show users -o json | jq "$@"; }
all() { map -c "[.ranges[].nodes | length] | unique"; }
n=0
count_on_users() {
    while [ ! -e "$T/enough" ]; do
        n=$((n + 1))
        got=$(kvctl --keyspace users incr counter -o raw 2>>"$T/odd") || echo "$n: failed" >>"$T/odd"
        [ "$got" = "$n" ] || { echo "$n: $got" >>"$T/odd" && break; }
    done
    echo "$n" >"$T/counted"
}
count_on_users &
started="$started $!"
kvctl keyspace alter users --replicas 3 --timeout 60s >/dev/null 2>"$T/up" || die "up to 3: $(cat "$T/up")"
expect "three replicas of each" '[3]' "$(all)"
kvctl keyspace alter users --replicas 2 --zones far --timeout 60s >/dev/null 2>"$T/far" || die "to zone far: $(cat "$T/far")"
expect "two of each, on the nodes of that zone" '[4,5]' "$(map -c '[.ranges[].nodes[]] | unique')"
kvctl keyspace alter users --replicas 1 --zones any --timeout 60s >/dev/null 2>"$T/one" || die "down to 1: $(cat "$T/one")"
expect "one of each" '[1]' "$(all)"
: >"$T/enough"
counted() { [ -s "$T/counted" ]; }
until_ok 10 counted || die "the client does not come to its end"
[ ! -s "$T/odd" ] || die "a client was told: $(head -3 "$T/odd")"
echo "ok: a client counted to $(cat "$T/counted") meanwhile"
kvctl keyspace alter users --replicas 9 2>"$T/many"
expect "more replicas than nodes: exit" 4 $?
kvctl keyspace alter users --replicas 3 --zones far 2>"$T/many"
expect "more replicas than nodes of the zones: exit" 4 $?
kvctl keyspace alter users --partition range 2>"$T/kind"
expect "another kind: exit" 2 $?
grep -q 'is a hash keyspace, and stays one' "$T/kind" || die "another kind: $(cat "$T/kind")"
cluster kill 4 >/dev/null || die "kill 4"
j=$(kvctl keyspace alter users --replicas 5 --no-wait -o raw) || die "alter with a node away"
kvctl keyspace drop users --yes users 2>"$T/busy"
expect "a drop while a job runs: exit" 4 $?
grep -q "job $j of the keyspace (alter) is" "$T/busy" || die "a drop while a job runs: $(cat "$T/busy")"
d=$(kvctl keyspace drop users --yes users --force -o json 2>"$T/drop" | jq .job) || die "drop: $(cat "$T/drop")"
waits() { kvctl job show "$d" -o json | jq -r .note | grep -q 'waiting for node 4'; }
until_ok 20 waits || die "the drop: $(kvctl job show "$d" -o json)"
cluster start 4 >/dev/null || die "start 4"
kvctl job wait "$d" --timeout 60s >/dev/null 2>"$T/wait" || die "the drop: $(cat "$T/wait")"
left() { for i in 1 2 3 4 5; do kvctl node show $i | jq '[.groups[] | select(.keyspace == 2)] | length'; done | awk '{ n += $1 } END { print n }'; }
expect "nothing of it is left" 0 "$(left)"

# Labels that a list keyspace gains, in a group that it has and in a new one: partitions of their own, old keys where they were.
kvctl keyspace create places --partition 'list:eu=de|fr,us=us' --replicas 3 >/dev/null || die "create places"
for key in de/1 fr/1 us/1; do kvctl --keyspace places put $key before >/dev/null || die "put $key"; done
kvctl --keyspace places put it/1 x 2>/dev/null && die "a label that nobody listed is taken"
kvctl keyspace alter places --group 'eu=it|es' --timeout 60s >/dev/null 2>"$T/labels" || die "labels: $(cat "$T/labels")"
kvctl keyspace alter places --group 'asia=jp' --timeout 60s >/dev/null 2>"$T/labels" || die "a group: $(cat "$T/labels")"
for key in it/1 es/1 jp/1; do kvctl --keyspace places put $key after --timeout 10s >/dev/null || die "put $key"; done
expect "every key" "de/1 es/1 fr/1 it/1 jp/1 us/1" "$(kvctl --keyspace places scan -o json | jq -r .key | sort | tr '\n' ' ' | sed 's/ $//')"
expect "partitions, with one for each run of new labels" 4 "$(kvctl keyspace show places -o json | jq '.ranges | length')"
kvctl keyspace alter places --group 'us=de' 2>"$T/twice"
expect "a label in two groups: exit" 2 $?

# A drain that could not end is not begun.
for i in 2 3 4 5; do kvctl node cordon $i >/dev/null || die "cordon $i"; done
kvctl node drain 1 2>"$T/drain"
expect "a drain with nowhere to go: exit" 4 $?
grep -q 'of node 1 have nowhere to go' "$T/drain" || die "a drain with nowhere to go: $(cat "$T/drain")"
expect "the node stays up" up "$(kvctl node list -o json | jq -r 'select(.id == 1).state')"
