#!/bin/sh
# kvctl history check: the verdicts, their exit codes and where they are printed, without any cluster.
. "$(dirname "$0")/lib.sh"
export KVD_CLUSTER="$T/none.json" # a command that asked a cluster would fail
H=tests/histories
check() { "$B/kvctl" history check "$@" >"$T/out" 2>"$T/err"; }
says() { grep -q "$1" "$2" || die "$(basename "$2") lacks '$1': $(cat "$T/out" "$T/err")"; }
code() { # WHAT WANT ARGUMENTS..
    what=$1 want=$2
    shift 2
    check "$@"
    expect "$what" "$want" $?
}
code "a valid one" 0 $H/register/good/sequential.jsonl
says '^valid: 5 operations on 1 keys' "$T/out"
code "EDN" 0 $H/counter/good/jepsen.edn
code "a stale read" 4 $H/register/bad/stale-read.jsonl
says '^violation: register x' "$T/out"
says 'stale-read.jsonl:3-4 .* ok write' "$T/out"
says 'stale-read.jsonl:5-6 .* ok read' "$T/out"
[ "$(grep -c 'stale-read.jsonl:' "$T/out")" -le 3 ] || die "not the smallest: $(cat "$T/out")"
for f in "$H"/*/bad/*; do check "$f"; [ $? = 4 ] || die "$f: $(cat "$T/out" "$T/err")"; done
for f in "$H"/*/good/*; do check "$f" || die "$f: $(cat "$T/out" "$T/err")"; done
for f in "$H"/malformed/*; do
    n=$(basename "$f")
    code "malformed: $n" 2 "$f"
    says "$f:${n%%-*}: " "$T/err"
    [ ! -s "$T/out" ] || die "an error on stdout: $(cat "$T/out")"
    expect "in one line" 1 "$(wc -l <"$T/err")"
done
code "transactions" 2 $H/unsupported/1-txn.jsonl
says 'unsupported' "$T/err"
code "no such file" 2 "$T/nothing.jsonl"
code "a model that does not fit" 2 $H/register/good/sequential.jsonl --model set
code "no such model" 2 $H/register/good/sequential.jsonl --model queue
code "the model named" 4 $H/set/bad/stale-read.jsonl --model set
code "no such limit" 2 $H/register/good/sequential.jsonl --limit soon

check $H/register/bad/stale-read.jsonl -o json
expect "JSON" '["violation","x",5]' "$(jq -c '[.verdict, .key, .failing[-1].invoke_line]' "$T/out")"
check $H/list/good/jepsen.edn -o json
expect "JSON of a valid one" '["valid",3]' "$(jq -c '[.verdict, .operations]' "$T/out")"

# Sums of even numbers, all at once, and an odd one read: only every subset tried would tell.
i=1
while [ $i -le 40 ]; do
    echo "{\"process\":$i,\"type\":\"invoke\",\"f\":\"incr\",\"value\":$((i * i * 2))}"
    i=$((i + 1))
done >"$T/hard.jsonl"
printf '{"process":0,"type":"invoke","f":"read"}\n{"process":0,"type":"ok","f":"read","value":4001}\n' >>"$T/hard.jsonl"
code "undecided within the limit" 7 "$T/hard.jsonl" --limit 200ms
says 'undecided' "$T/err"
"$B/kvctl" history check --help | grep -q '^example' || die "no example"
