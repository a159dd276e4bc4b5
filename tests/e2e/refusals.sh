#!/bin/sh
# What is asked of keyspaces, partitions and nodes that cannot be: refused with the reason, the next step and an exit code
# that tells which kind of no it is, and nothing is half done.
. "$(dirname "$0")/lib.sh"
refused() { # WANTED-CODE WANTED-TEXT COMMAND..
    want=$1 text=$2
    shift 2
    kvctl "$@" >"$T/out" 2>"$T/err" </dev/null
    expect "$(printf '%s ' "$@" | cut -c 1-70)" "$want" $?
    grep -qF -- "$text" "$T/err" || die "not told '$text': $(cat "$T/err")"
    [ "$(wc -l <"$T/err")" = 1 ] || die "more than a line: $(cat "$T/err")"
}
long() { printf '%0*d' "$1" 0 | tr 0 a; } # so many bytes
# All that could be half done: keyspaces, ranges and epochs of partitions, nodes and their states.
seen() {
    kvctl keyspace list -o json
    for s in default rng lst one; do kvctl keyspace show $s -o json | jq -c '[.ranges[] | [.id, .range_epoch, .conf_epoch, (.nodes | sort)]]'; done
    kvctl node list -o json | jq -c '[.id, .state]'
}
export KVD_COORDINATOR_ENABLED=false # it would move what is looked at
cluster up --base-port "$P" >/dev/null || die "the cluster does not start"
kvctl keyspace create rng --partition range:g,p --replicas 3 >/dev/null &&
    kvctl keyspace create lst --partition 'list:a=x|y,b=z' --replicas 3 >/dev/null &&
    kvctl keyspace create one --partition range:m --replicas 1 >/dev/null || die "create"
until_ok 90 seated 1 2 3 || die "replicas still move between the workers of a node"
seen >"$T/before"

# Ranges that overlap or are empty, lists, numbers, names.
refused 2 "label 2 of group 'a' is empty; next: leave out a |" keyspace create bad --partition 'list:a=x|,b=y'
refused 2 "label 1 of group 'a' is empty; next" keyspace create bad --partition 'list:a=|x'
refused 2 "label 'x' is listed twice; next: leave one out" keyspace create bad --partition 'list:a=x|x'
refused 2 "group 'a' is given twice; next" keyspace create bad --partition 'list:a=x,a=y'
refused 2 "group '' is no name" keyspace create bad --partition 'list:=x'
refused 2 "label 'x/y' holds the delimiter" keyspace create bad --partition 'list:a=x/y'
refused 2 "label 1 of group 'a' has 65 bytes, the limit is 64" keyspace create bad --partition "list:a=$(long 65)"
refused 2 "split key 2 is empty, and so the range before it; next: leave it out" keyspace create bad --partition range:a,
refused 2 "split key 1 has 481 bytes, the limit is 480" keyspace create bad --partition "range:$(long 481)"
refused 2 "over 2048 partitions; next: fewer keys now" keyspace create bad --partition "range:$(seq -s, 10000 12100)"
refused 2 "20000: not a number from 1 to 2048" keyspace create bad --partition hash:20000
refused 2 "not a number from 1 to 16" keyspace create bad --partition hash --replicas 0
refused 2 "is no name" keyspace create "$(long 65)" --partition hash
refused 2 "is no name" keyspace create 'a b' --partition hash
refused 2 "is no name" keyspace create "$(printf '\303\244')" --partition hash
refused 2 "is no name" keyspace create '' --partition hash
refused 4 "4 replicas need 4 nodes with the role storage, 3 can take some: " keyspace create bad --partition hash --replicas 4
grep -q 'condition of the request' "$T/err" && die "the reason stands behind another one: $(cat "$T/err")"

# Typed confirmation.
refused 2 "next: --yes rng" keyspace drop rng
refused 2 "--yes rn is not the name" keyspace drop rng --yes rn
refused 3 "'nope'" keyspace drop nope --yes nope
refused 4 "cannot be dropped; next: FLUSHALL" keyspace drop default --yes default

# Borders and neighbours.
refused 4 "a partition begins at that key already" keyspace split rng --at g
refused 4 "a partition begins at that key already" keyspace split lst --at z/1
refused 3 "no group of keyspace lst lists that key's label; next: kvctl keyspace show lst" keyspace split lst --at q
refused 2 "the key has 481 bytes, the limit is 480" keyspace split rng --at "$(long 481)"
refused 3 "no such keyspace: 'nope'" keyspace split nope --at g
refused 4 "no partition begins there" keyspace merge rng --at h
refused 4 "" keyspace merge rng --at ''
refused 4 "they list different labels" keyspace merge lst --at z
refused 4 "not on the same nodes" keyspace merge one --at m
grep -q 'read the key again' "$T/err" && die "the next step is another command's: $(cat "$T/err")"
refused 3 "no such keyspace: 'nope'" keyspace merge nope --at g

# Nodes and partitions that are none.
for verb in drain cordon uncordon remove show replace; do refused 3 "the cluster has no node 9; next: kvctl node list" node $verb 9; done
refused 2 "x: not a node id" node drain x
first=$(kvctl keyspace show rng -o json | jq .ranges[0].id)
for ends in '2 9' '9 2' '0 9' '9 0'; do
    # shellcheck disable=SC2086 # two words
    refused 3 "no such node; next: kvctl node list" partition move "$first" $ends
done
refused 3 "no such partition; next: kvctl status" partition lead 999 1
refused 3 "no voter of it is on that node" partition lead "$first" 9
refused 4 "a voter of it is on that node already" partition move "$first" 1 2
kvctl partition move 999 1 2 2>"$T/err"
expect "a move of a partition that is none" 3 $?

# Replicas that have nowhere to go, the last one of a partition, and those a quorum needs.
drained() { kvctl node drain 1 "$@" >"$T/out" 2>"$T/err"; }
drained
expect "drain of a node whose replicas have nowhere to go" 4 $?
grep -q 'have nowhere to go; next: add a node with the role (kvctl node token)' "$T/err" || die "not told why: $(cat "$T/err")"
grep -q '^partition 0: one of 3 replicas is on node 1, and no other node with the role [a-z]* that is up is without one' "$T/out" || die "no blockers: $(cat "$T/out")"
drained --dry-run
expect "which --dry-run says too" 4 $?
kvctl node remove 1 >"$T/out" 2>"$T/err"
expect "removal of a node with replicas" 4 $?
grep -q 'still holds [0-9]* replicas; next: kvctl node drain 1' "$T/err" || die "not told why: $(cat "$T/err")"
last=$(kvctl keyspace show one -o json | jq .ranges[0].id)
refused 4 "would have no quorum; next: add a replica elsewhere first" partition move "$last" "$(kvctl keyspace show one -o json | jq '.ranges[0].nodes[0]')" 0
cluster kill 3
two=$(kvctl keyspace show rng -o json | jq .ranges[1].id)
without() { kvctl partition move "$two" 2 0 2>"$T/err"; [ $? = 4 ] && grep -q 'would have no quorum' "$T/err"; }
until_ok 10 without || die "a replica that the quorum needs is let go: $(cat "$T/err")"
echo "ok: a replica that the quorum needs"
cluster start 3 >/dev/null || die "node 3 does not come back"

# Keys, cursors, explain.
refused 2 "keys end at 480 bytes" put "$(long 481)" v
kvctl put "$(long 480)" v >/dev/null || die "a key of 480 bytes"
refused 2 "not one that scan printed" scan --cursor garbage
refused 2 "nonsense: can be explained: get, scan, put, del, cas, incr" explain nonsense
refused 2 "get takes one key" explain get
refused 2 "scan takes no key" explain scan k
refused 2 "the key has 481 bytes, the limit is 480" explain get "$(long 481)"
refused 2 "takes --prefix or --from and --to, not both" explain scan --prefix a --from b
refused 3 "no group of keyspace lst lists that key's label; next: kvctl keyspace show lst" --keyspace lst explain get q/1
refused 3 "no such keyspace: nope; next: kvctl keyspace list" --keyspace nope explain get k
refused 4 "read the key again" cas "$(long 480)" --old w x

# And what is pruned.
asked() { # WANT OPTION..: how many partitions of how many
    want=$1
    shift
    expect "explain $*" "$want" "$(kvctl explain "$@" -o json | jq -c '[(.asked | length), (.pruned | length)]')"
}
asked '[1,2]' scan --from h --to i --keyspace rng
asked '[2,1]' scan --from a --to h --keyspace rng
asked '[1,2]' scan --prefix a --keyspace rng
asked '[1,1]' scan --prefix x/ --keyspace lst
asked '[2,0]' scan --prefix x --keyspace lst
asked '[1,7]' scan --prefix '{user:4711}'
asked '[1,7]' get 'a{user:4711}'
asked '[8,0]' scan --prefix user

seen >"$T/after"
cmp -s "$T/before" "$T/after" || die "something was half done: $(diff "$T/before" "$T/after")"
echo "ok: refusals"
