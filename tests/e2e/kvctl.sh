#!/bin/sh
# kvctl against a node of its own: every exit code that one node can cause, bytes in and out, rows as
# JSON, scans by cursor, an import that is killed and goes on without loss or repeat, the prompt.
. "$(dirname "$0")/lib.sh"
"$B/kvd" --node-data "$T/d" --resp-port "$P" --native-port "$N" 2>"$T/kvd.log" &
node=$!
started=$node
ctl() { "$B/kvctl" --addr "127.0.0.1:$N" --key "$T/d/client.key" "$@"; }
codes() { # WHAT WANT COMMAND..
    what=$1 want=$2
    shift 2
    "$@" >"$T/out" 2>"$T/err" </dev/null
    expect "$what" "$want" $?
    [ "$want" = 0 ] || [ "$(wc -l <"$T/err")" -ge 1 ] || die "$what: says nothing on stderr"
    [ "$want" = 0 ] || ! grep -q 'kvctl:' "$T/out" || die "$what: an error on stdout: $(cat "$T/out")"
}
until_ok 10 ctl ready --timeout 1s || die "the node does not serve"

codes "put" 0 ctl put k v
codes "get of nothing" 3 ctl get nothing
codes "put if absent" 4 ctl put k w --if-absent
grep -q 'applied: no' "$T/err" || die "not told that it was not applied: $(cat "$T/err")"
codes "cas on another value" 4 ctl cas k --old x y
codes "cas on nothing" 3 ctl cas nothing --old x y
codes "cas" 0 ctl cas k --old v v2
codes "incr of a text" 2 ctl incr k
codes "unknown command" 2 ctl frobnicate
codes "unknown option" 2 ctl get k --colour
codes "missing word" 2 ctl put k
codes "bad duration" 2 ctl put k v --ttl soon
codes "key of 481 bytes" 2 ctl put "$(printf '%0481d' 0)" v
codes "key of 480 bytes" 0 ctl put "$(printf '%0480d' 0)" v
codes "empty key" 0 ctl put '' empty
codes "del of nothing" 3 ctl del nothing
codes "no such node" 3 ctl node show 99
codes "bad log level" 2 ctl log level 1 nothing=loud
grep -q 'nothing=loud; modules are main raft' "$T/err" || die "not told the modules: $(cat "$T/err")"
codes "log level" 0 ctl log level 1 raft=warn
codes "status" 0 ctl status
printf '%064d\n' 7 >"$T/stranger.key"
chmod 600 "$T/stranger.key"
codes "unknown key" 5 "$B/kvctl" --addr "127.0.0.1:$N" --key "$T/stranger.key" get k
chmod 644 "$T/stranger.key"
codes "key others may read" 5 "$B/kvctl" --addr "127.0.0.1:$N" --key "$T/stranger.key" get k
codes "nobody listens" 6 "$B/kvctl" --addr "127.0.0.1:$((P + 7))" --key "$T/d/client.key" --timeout 1s get k
grep -q 'tried: --addr' "$T/err" || die "not told what was tried: $(cat "$T/err")"
codes "the Redis port" 6 "$B/kvctl" --addr "127.0.0.1:$P" --key "$T/d/client.key" --timeout 1500ms get k
grep -q 'native port' "$T/err" || die "not told which port it should be: $(cat "$T/err")"
head -c 1048577 /dev/zero | ctl put k - 2>"$T/err"
expect "a value one byte over the limit" 2 $?
expect "said once whether it was applied" 1 "$(grep -o 'applied: no' "$T/err" | wc -l)"
for what in "get k" scan status "status -o json" "node list" "export -" --help "put --help" version; do
    # shellcheck disable=SC2086
    ctl $what >/dev/full 2>"$T/err"
    expect "kvctl $what to a full disk" 1 $?
    grep -q '^kvctl: ' "$T/err" || die "$what: says nothing"
done
[ -c /dev/full ] || die "an export replaced a device"
expect "--version" "$(ctl version)" "$("$B/kvctl" --version)"
expect "help COMMAND is COMMAND --help" "$(ctl cas --help)" "$(ctl help cas)"
codes "help of nothing" 2 ctl help nothing
for c in put get del cas incr scan import export status hot ready 'node list' 'node show' 'node replace' 'log level' 'history check' passwd completion version; do
    # shellcheck disable=SC2086
    ctl $c --help | grep -q '^example' || die "no example in the help of $c"
done
echo "ok: an example in every --help"
ctl completion bash | bash -n || die "the completion script is no bash"

head -c 300000 /dev/urandom >"$T/bytes"
ctl put bytes - <"$T/bytes" >/dev/null || die "put of stdin"
ctl get bytes - | cmp - "$T/bytes" || die "other bytes came back"
ctl get bytes -o json | jq -r .value.base64 | base64 -d | cmp - "$T/bytes" || die "other bytes in JSON"
expect "a text in JSON" '"v2"' "$(ctl get k -o json | jq .value)"
ctl put short lived --ttl 1h >/dev/null
ttl=$(ctl get short -o json | jq .ttl_ms)
[ "$ttl" -gt 3590000 ] && [ "$ttl" -le 3600000 ] || die "ttl_ms is $ttl"
expect "incr below zero" -4 "$(ctl incr n >/dev/null && ctl incr n -5)"

i=0
while [ $i -lt 60000 ]; do
    echo "row:$i	value $i"
    i=$((i + 1))
done >"$T/rows.tsv"
# Killed in the middle, twice: what stood there keeps its version, what did not is stored once.
for try in 1 2; do
    "$B/kvctl" --addr "127.0.0.1:$N" --key "$T/d/client.key" import "$T/rows.tsv" --in-flight 4 2>/dev/null &
    import=$!
    started="$node $import"
    until_ok 10 test -s "$T/rows.tsv.kvprogress"
    was=$(jq .sequence "$T/rows.tsv.kvprogress")
    progressed() { [ "$(jq .sequence "$T/rows.tsv.kvprogress")" -gt "$was" ]; }
    until_ok 20 progressed
    [ $try = 2 ] || codes "two imports of one file" 4 ctl import "$T/rows.tsv"
    kill -9 $import
    wait $import 2>/dev/null
    ctl export "$T/part$try.jsonl" --prefix row: 2>/dev/null || die "export"
done
[ "$(jq .sequence "$T/rows.tsv.kvprogress")" -lt 60000 ] || echo "(the import was too fast to be cut twice)"
ctl import "$T/rows.tsv" -o json -q >"$T/import.json" || die "import after the kills"
expect "the import is complete" true "$(jq .complete "$T/import.json")"
expect "resumed and new rows make all" 60000 "$(jq '.rows + .resumed' "$T/import.json")"
ctl export "$T/all.jsonl" --prefix row: 2>/dev/null || die "export"
expect "no row lost" 60000 "$(wc -l <"$T/all.jsonl")"
sort "$T/all.jsonl" >"$T/all.sorted"
for try in 1 2; do
    sort "$T/part$try.jsonl" | comm -23 - "$T/all.sorted" >"$T/changed"
    expect "no row of part $try written twice" 0 "$(wc -l <"$T/changed")"
done
expect "an import that is complete sends nothing" 0 "$(ctl import "$T/rows.tsv" -o json -q | jq .rows)"
echo "row:more	1" >>"$T/rows.tsv"
expect "and then only what was appended" 1 "$(ctl import "$T/rows.tsv" -o json -q | jq .rows)"
sed -i '1s/.*/changed	1/' "$T/rows.tsv"
codes "another file under that name" 2 ctl import "$T/rows.tsv"
printf 'good\t1\nbad\n' >"$T/bad.tsv"
codes "a bad line is named" 2 ctl import "$T/bad.tsv"
grep -q 'bad.tsv:2: not KEY' "$T/err" || die "the line is not named: $(cat "$T/err")"
(printf 'fine\t1\nhuge\t' && head -c 1048577 /dev/zero | tr '\0' x && printf '\n') >"$T/huge.tsv"
codes "a row the node refuses" 2 ctl import "$T/huge.tsv"
grep -q 'huge.tsv:2: .*limit' "$T/err" || die "the line is not named: $(cat "$T/err")"
codes "a directory" 2 ctl import "$T"
grep -q 'Is a directory' "$T/err" || die "says $(cat "$T/err")"
expect "the rows before it are stored" 1 "$(ctl get good)"
ctl export - --format tsv 2>/dev/null | ctl import - -q || die "a pipe from export to import"

mkfifo "$T/pipe"
cat "$T/pipe" >"$T/piped" &
ctl export "$T/pipe" --prefix row:99 -q || die "export into a pipe"
wait $!
[ -p "$T/pipe" ] || die "the export replaced the pipe"
expect "an export into a pipe" "$(grep -c '^row:99' "$T/rows.tsv")" "$(wc -l <"$T/piped")"
ln -s piped "$T/link"
ctl export "$T/link" --prefix row:98 -q || die "export through a link"
[ -L "$T/link" ] || die "the export replaced the link"

n=0 cursor=
while :; do
    ctl scan --prefix row:1 --limit 777 ${cursor:+--cursor $cursor} -o raw >>"$T/scan" 2>"$T/err" || die "scan"
    n=$((n + 1))
    cursor=$(sed -n 's/^more: --cursor //p' "$T/err")
    [ -n "$cursor" ] || break
done
expect "a scan by cursor gives each row once" "$(grep -c '^row:1' "$T/rows.tsv")" "$(sort -u "$T/scan" | wc -l)"
expect "and none twice" "$(wc -l <"$T/scan")" "$(sort -u "$T/scan" | wc -l)"
codes "a bad cursor" 2 ctl scan --cursor nonsense

printf 'put "two words" "a\\tb"\nget "two words" -o json\n# remark\nexit\nget nothing\n' | ctl >"$T/out" || die "commands by stdin"
expect "the prompt reads quotes and escapes" '"a\tb"' "$(tail -n 1 "$T/out" | jq -c .value)"
printf 'get nothing\nput never 1\n' | ctl >/dev/null 2>&1
expect "a script stops at its first failure" 3 $?
codes "and did not go on" 3 ctl get never
ctl put json '{"a":1}' -o json | jq -e '.applied == "yes" and .node == 1' >/dev/null || die "put in JSON"
ctl status -o json | jq -e '.quorum and (.groups | length == 9) and .nodes[0].up' >/dev/null || die "status in JSON"
line=$(printf 'secret\n' | ctl passwd) || die "passwd"
case $line in '$argon2id$'*) ;; *) die "passwd printed $line" ;; esac

kill -STOP "$node"
codes "put to a node that does not answer" 7 ctl --timeout 1s put k v
codes "get from one" 7 ctl --timeout 1s get k
kill -CONT "$node"

kill -9 "$node"
wait "$node" 2>/dev/null
codes "put without a node" 6 ctl --timeout 1s put k v
expect "one line" 1 "$(wc -l <"$T/err")"
codes "status without a node" 6 ctl --timeout 1s status

# Two nodes of which one never runs: no quorum, and a queue that is soon full.
key1=$("$B/kvd" --make-key "$T/1.key") && key2=$("$B/kvd" --make-key "$T/2.key") || die "make-key"
cat >"$T/kvd.yaml" <<YAML
cluster:
  id: 00112233445566778899aabbccddeeff
  nodes:
    - {id: 1, host: 127.0.0.1, native: $N, resp: $P, key: $key1}
    - {id: 2, host: 127.0.0.2, native: $N, resp: $P, key: $key2}
node: {id: 1, data: $T/d2, key: $T/1.key}
native.port: $N
resp: {port: $P, deadline: 30s}
limit: {requests: 16, queue: 16}
YAML
"$B/kvd" --config "$T/kvd.yaml" --bootstrap 2>"$T/kvd2.log" &
started=$!
two() { "$B/kvctl" --addr "127.0.0.1:$N" --key "$T/d2/client.key" "$@"; }
until_ok 10 two get k --level any || [ $? = 1 ]
until_ok 10 grep -q ' serving ' "$T/kvd2.log" || die "the first of two nodes does not serve"
for timeout in 700ms 1300ms 2s; do # the node's answer and our deadline must not race for the outcome
    codes "put without a quorum" 6 two --timeout $timeout put k v
    grep -q 'applied: no' "$T/err" || die "unsure about it: $(cat "$T/err")"
    codes "get without a quorum" 6 two --timeout $timeout get k
done
mkfifo "$T/fill"
nc 127.0.0.1 "$P" <"$T/fill" >/dev/null &
started="$started $!"
exec 5>"$T/fill"
i=0
while [ $i -lt 16 ]; do
    printf 'SET k%d v\r\n' $i >&5 # each waits for a leader
    i=$((i + 1))
done
full() { two --timeout 200ms put k v 2>"$T/err"; [ $? = 8 ]; }
until_ok 5 full || die "a full queue is not told: $(cat "$T/err")"
echo "ok: throttled is 8"
exec 5>&-
