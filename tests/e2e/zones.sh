#!/bin/sh
# Replicas of a keyspace are in its zones or stay where they are: where too few nodes of a zone can take them the job, the keyspace and a drain
# say so, and go on as soon as there are nodes again.
. "$(dirname "$0")/lib.sh"
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
for zone in far far near; do cluster add --zone $zone >/dev/null || die "add a node in $zone"; done
kvctl keyspace create users --partition hash:2 --replicas 2 >/dev/null || die "create"
show() { kvctl keyspace show users -o json | jq -c "$@"; }
on() { [ "$(show '[.ranges[].nodes[]] | unique')" = "$1" ]; }
note() { kvctl job show "$1" -o json | jq -r .note; }
notes() { note "$1" | grep -qF "$2"; }
state() { [ "$(kvctl job show "$1" -o json | jq -r .state)" = "$2" ]; }
kvctl keyspace alter users --zones far --timeout 60s >/dev/null 2>"$T/far" || die "to zone far: $(cat "$T/far")"
expect "its replicas" '[4,5]' "$(show '[.ranges[].nodes[]] | unique')"
expect "nothing is in the way" null "$(show .blocker)"
for key in 1 2 3 4 5 6 7 8; do kvctl --keyspace users put k$key v$key >/dev/null || die "put"; done

# A node of a zone without another one is not drained, or waits.
kvctl node drain 5 >"$T/drain" 2>&1
expect "a drain of the zone's second node: exit" 4 $?
grep -q 'and in a zone of its keyspace is without one' "$T/drain" || die "blockers: $(cat "$T/drain")"
d=$(kvctl node drain 5 --force -o json | jq .job) || die "drain --force"
until_ok 30 notes "$d" "has no other node of its zones to go to" || die "the drain's note: $(note "$d")"
expect "the keyspace says what is in the way" '"2 replicas need as many nodes with the role storage that are up; zone far has 1; next: add nodes there, or kvctl keyspace alter"' "$(show .blocker)"
kvctl keyspace show users | grep -q '^blocked: 2 replicas need' || die "the table: $(kvctl keyspace show users)"
expect "they stay" '[4,5]' "$(show '[.ranges[].nodes[]] | unique')"
kvctl job cancel "$d" >/dev/null || die "cancel the drain"

# An alteration that has too few nodes tells so, can be cancelled, and ends when there are enough.
kvctl keyspace alter users --zones near 2>"$T/near"
expect "a zone of one node for two replicas: exit" 4 $?
grep -q '2 replicas need 2 nodes, these zones have 1' "$T/near" || die "refusal: $(cat "$T/near")"
cluster add --zone near >/dev/null || die "add 7"
kvctl node cordon 6 >/dev/null && kvctl node cordon 7 >/dev/null || die "cordon"
j=$(kvctl keyspace alter users --zones near --no-wait -o raw) || die "alter"
until_ok 30 notes "$j" "2 replicas need as many nodes; zone near has 0; next: add nodes" || die "the job's note: $(note "$j")"
kvctl keyspace show users -o json | jq -r .blocker | grep -q 'zone near has 0' || die "the keyspace: $(show .blocker)"
kvctl job cancel "$j" >/dev/null || die "cancel the alteration"
expect "its zones are as before" '["far"]' "$(show .zones)"
j=$(kvctl keyspace alter users --zones near --no-wait -o raw) || die "alter again"
until_ok 30 notes "$j" "zone near has 0" || die "the job's note: $(note "$j")"
expect "they stay there too" '[4,5]' "$(show '[.ranges[].nodes[]] | unique')"
kvctl node uncordon 6 >/dev/null && kvctl node uncordon 7 >/dev/null || die "uncordon"
until_ok 60 state "$j" "done" || die "the job: $(kvctl job show "$j" -o json)"
expect "they are there" '[6,7]' "$(show '[.ranges[].nodes[]] | unique')"

# All nodes of the zone are to go: nothing is placed elsewhere, and it goes on with a node that comes.
for i in 6 7; do kvctl node drain $i --force >/dev/null || die "drain $i"; done
blocked() { show .blocker | grep -q 'zone near has 0'; }
until_ok 10 blocked || die "no node is left: $(show .blocker)"
cluster add --zone near >/dev/null || die "add 8"
moved() { show '[.ranges[].nodes] | all(index(8) != null)' | grep -q true; }
until_ok 60 moved || die "the new node has nothing: $(show '[.ranges[].nodes]')"
expect "and none is out of the zone" '[]' "$(show '[.ranges[].nodes[]] | unique - [6, 7, 8]')"
for i in 6 7; do kvctl node uncordon $i >/dev/null || die "uncordon $i"; done
expect "every key" 8 "$(kvctl --keyspace users scan -o json | wc -l)"

# Keyspace default too, whose replicas nobody declared so far; partition 0 goes by its own rule.
kvctl put greeting hello >/dev/null || die "put"
default() { kvctl keyspace show default -o json | jq -c "$@"; }
expect "replicas of default, at first" '[null,[3]]' "$(default '[.replicas, ([.ranges[].nodes | length] | unique)]')"
kvctl keyspace alter default --zones near --timeout 90s >/dev/null 2>"$T/alter" || die "alter default: $(cat "$T/alter")"
expect "as many as it had, where they are to be" '[3,["near"],[[6,7,8]]]' "$(default '[.replicas, .zones, ([.ranges[].nodes | sort] | unique)]')"
kvctl keyspace alter default --replicas 1 --zones any --timeout 90s >/dev/null 2>"$T/alter" || die "alter default: $(cat "$T/alter")"
expect "one of each" '[1,null,[1]]' "$(default '[.replicas, .zones, ([.ranges[].nodes | length] | unique)]')"
all=$(kvctl node list -o json | jq -s 'map(.replicas) | add')
expect "three of partition 0, as ever" 3 $((all - $(default '[.ranges[].nodes | length] | add') - $(show '[.ranges[].nodes | length] | add')))
kvctl keyspace alter default --replicas 9 2>"$T/alter"
expect "more than there are nodes: exit" 4 $?
expect "its key" hello "$(kvctl get greeting -o raw)"
expect "what another node was told" '[1,1]' "$(kvctl keyspace list -o json | jq -sc '[.[0].id, .[0].replicas]')"
