#!/bin/sh
# Keyspaces of every kind on three nodes: made, written and read by redis-cli and kvctl, scanned in order, dropped while
# others serve; with a node killed in between, one that lost its disk, and every refusal with its reason.
. "$(dirname "$0")/lib.sh"
redis() { # NODE: commands on stdin
    redis-cli -h "127.0.0.$1" -p "$P"
}
heard() { # NODE COMMAND..; each an argument
    n=$1
    shift
    printf '%s\n' "$@" | redis "$n"
}
said() { heard "$@" | tail -n 1; } # the last reply
refused() { # WANTED-CODE WANTED-TEXT COMMAND..
    want=$1 text=$2
    shift 2
    kvctl "$@" >"$T/out" 2>"$T/err" </dev/null
    expect "$(printf '%s ' "$@")" "$want" $?
    grep -qF -- "$text" "$T/err" || die "not told '$text': $(cat "$T/err")"
}
create() {
    kvctl keyspace create "$@" >/dev/null || die "keyspace create $*"
}
groups() { kvctl node show "$1" | jq -c '[.groups[].id]'; }
agree() { # all three nodes hold the same groups, and know the same keyspaces
    [ "$(for n in 1 2 3; do kvctl node show $n | jq -c '[.directory, [.groups[].id]]'; done | sort -u | wc -l)" = 1 ]
}
cluster up --base-port "$P" >/dev/null || die "the cluster does not start"

create users --partition 'list:eu=de|fr,us=us,rest=' --default rest --replicas 3
create strict --partition 'list:a=x|y,b=z' --delimiter : --replicas 3
create log --partition range:g,p --replicas 3
create tmp --partition hash:4 --replicas 3
expect "keyspaces there are" 'default users strict log tmp' "$(kvctl keyspace list -o raw | tr '\n' ' ' | sed 's/ $//')"
expect "kinds in JSON" 'hash list list range hash' "$(kvctl keyspace list -o json | jq -r .kind | tr '\n' ' ' | sed 's/ $//')"
expect "ranges of a range keyspace" '[[null,"g"],["g","p"],["p",null]]' \
    "$(kvctl keyspace show log -o json | jq -c '[.ranges[] | [.from, .to]]')"
expect "slots of a hash keyspace" '[[0,4095],[4096,8191],[8192,12287],[12288,16383]]' \
    "$(kvctl keyspace show tmp -o json | jq -c '[.ranges[] | [.first_slot, .last_slot]]')"
expect "leaders are spread" 3 "$(kvctl keyspace show log -o json | jq '[.ranges[].leader] | unique | length')"
kvctl keyspace show users | grep -q '^group rest: and unlisted labels (3)' || die "the table shows no buckets"
for c in create list show drop; do kvctl keyspace $c --help | grep -q '^example' || die "no example in keyspace $c --help"; done

# Every node knows them as soon as kvctl returns.
for n in 1 2 3; do
    expect "SELECT by name at node $n" OK "$(said $n 'SELECT users')"
    expect "a key of its own there" "$n" "$(said $n 'SELECT log' "SET only-$n $n" "GET only-$n")"
done
expect "which default does not have" "" "$(said 1 'GET only-1')"
id=$(kvctl keyspace show log -o json | jq .id)
expect "SELECT by id" 3 "$(said 2 "SELECT $id" DBSIZE)"
expect "SELECT 0 is default" 0 "$(said 2 'SELECT log' 'SELECT 0' DBSIZE)"
heard 1 'SELECT 1' | grep -q 'out of range' || die "SELECT 1 is no other database than 0"
heard 1 'SELECT nope' | grep -q "no such keyspace: 'nope'" || die "SELECT of nothing"
heard 1 'SELECT log' 'CLIENT LIST' | grep -q " db=$id " || die "CLIENT LIST tells no keyspace"

# Lists: labels to their groups, the unlisted to the default or nowhere.
kvctl --keyspace users put de/1 eins >/dev/null && kvctl --keyspace users put us >/dev/null one && kvctl --keyspace users put jp/1 ichi >/dev/null || die "put"
expect "a listed label" eins "$(kvctl --keyspace users get de/1)"
expect "an unlisted one in the default group" ichi "$(said 3 'SELECT users' 'GET jp/1')"
kvctl --keyspace users put jp/1 ichi -o json | jq .partition >"$T/rest"
expect "whose partition it is in" "$(kvctl keyspace show users -o json | jq '.ranges[2].id')" "$(cat "$T/rest")"
refused 2 "label 'q' is in no group of keyspace strict, which has no default group" --keyspace strict put q:1 v
heard 1 'SELECT strict' 'SET q:1 v' | grep -q "label 'q' is in no group of keyspace strict.*applied: no" || die "RESP: unlisted label"
heard 1 'SELECT strict' 'MSET x:1 a z:1 b' | grep -q '^CROSSSLOT .*partitions of keyspace strict' || die "RESP: two partitions"
expect "two keys of one partition" OK "$(said 1 'SELECT strict' 'MSET x:1 a y:1 b')"
expect "DEL over partitions" 3 "$(said 2 'SELECT strict' 'SET z:1 c' 'DEL x:1 y:1 z:1')"

# Ranges: in key order over all partitions, and no further than asked.
for k in zebra apple goat mango pear fox; do kvctl --keyspace log put $k "of $k" >/dev/null || die "put $k"; done
expect "scan in key order" 'apple fox goat mango only-1 only-2 only-3 pear zebra' \
    "$(kvctl --keyspace log scan -o raw | cut -f1 | tr '\n' ' ' | sed 's/ $//')"
expect "a part of it" 'fox goat mango' "$(kvctl --keyspace log scan --from b --to n -o raw | cut -f1 | tr '\n' ' ' | sed 's/ $//')"
expect "a prefix" 'only-1 only-2 only-3' "$(kvctl --keyspace log scan --prefix only- -o raw | cut -f1 | tr '\n' ' ' | sed 's/ $//')"
kvctl --keyspace log scan --limit 4 -o raw 2>"$T/err" >/dev/null
cursor=$(sed -n 's/^more: --cursor //p' "$T/err")
expect "the rest by cursor" 'only-1 only-2 only-3 pear zebra' \
    "$(kvctl --keyspace log scan --cursor "$cursor" -o raw | cut -f1 | tr '\n' ' ' | sed 's/ $//')"
refused 2 "the cursor is of another keyspace" --keyspace users scan --cursor "$cursor"
expect "KEYS in key order" 'apple fox goat mango only-1 only-2 only-3 pear zebra' \
    "$(heard 2 'SELECT log' 'KEYS *' | tail -n +2 | tr '\n' ' ' | sed 's/ $//')"
expect "DBSIZE" 9 "$(said 3 'SELECT log' DBSIZE)"
expect "SCAN page by page" 9 "$(redis-cli -h 127.0.0.2 -p "$P" -n "$id" --scan | sort -u | wc -l)"
expect "WAIT for all partitions" 2 "$(said 1 'SELECT log' 'SET w 1' 'WAIT 2 2000')"
heard 1 'SELECT log' 'DEL w' >/dev/null

# One replica each: through nodes that have none.
create thin --partition range:g,p --replicas 1
for n in 1 2 3; do
    expect "a partition elsewhere, through node $n" OK "$(said $n 'SELECT thin' "MGET a h z" "SET a$n 1" "SET h$n 1" "SET z$n 1")"
    expect "and all of them" $((3 * n)) "$(said $n 'SELECT thin' DBSIZE)"
done
expect "KEYS of nodes elsewhere in key order" 'a1 a2 a3 h1 h2 h3 z1 z2 z3' \
    "$(heard 3 'SELECT thin' 'KEYS *' | tail -n +2 | tr '\n' ' ' | sed 's/ $//')"
expect "by kvctl" 9 "$("$B/kvctl" --addr "127.0.0.2:$N" --key "$T/c/client.key" --keyspace thin scan -o raw | wc -l)"
kvctl keyspace drop thin --yes thin >/dev/null || die "drop of thin"

# Files, which name their keyspace.
kvctl --keyspace log export "$T/log.jsonl" -q || die "export"
kvctl --keyspace tmp import "$T/log.jsonl" -q || die "import"
expect "imported into another keyspace" 9 "$(said 1 'SELECT tmp' DBSIZE)"
refused 2 "of an import into another keyspace" --keyspace log import "$T/log.jsonl"

# A node that misses a creation and a drop, and one that loses its disk.
cluster kill 2
create late --partition range:m --replicas 3
kvctl --keyspace late put a 1 >/dev/null && kvctl --keyspace late put x 2 >/dev/null || die "put into a keyspace of two nodes"
refused 2 "--yes tmp" keyspace drop tmp
refused 2 "is not the name" keyspace drop tmp --yes temp
refused 3 "no such keyspace: 'temp'" keyspace drop temp --yes temp
refused 4 "cannot be dropped" keyspace drop default --yes default
gone=$(kvctl keyspace show tmp -o json | jq .ranges[0].id)
(while [ ! -e "$T/stop" ]; do kvctl --keyspace log incr load >/dev/null || echo bad >>"$T/bad"; done) &
load=$!
started="$started $load"
kvctl keyspace drop tmp --yes tmp >/dev/null || die "drop"
refused 3 "no such keyspace: tmp" --keyspace tmp get apple
heard 1 'SELECT tmp' | grep -q 'no such keyspace' || die "SELECT of a dropped keyspace"
is_gone() { for n in $1; do groups "$n" | jq -e "index($gone) == null" >/dev/null || return 1; done; }
until_ok 10 is_gone "1 3" || die "a dropped partition is still there"
cluster start 2 >/dev/null || die "node 2 does not come back"
until_ok 10 is_gone "1 2 3" || die "a dropped partition is still at node 2"
until_ok 10 agree || die "the nodes hold other groups"
expect "the keyspace that node 2 had missed" 2 "$(said 2 'SELECT late' DBSIZE)"
touch "$T/stop"
wait "$load"
[ ! -e "$T/bad" ] || die "another keyspace failed during the drop"
echo "ok: others went on during the drop"
create tmp --partition range --replicas 3
expect "the name again, and nothing of old" 0 "$(said 2 'SELECT tmp' DBSIZE)"
cluster kill 3
cluster wipe 3
cluster start 3 >/dev/null || die "node 3 does not come back"
until_ok 30 agree || die "node 3 did not get its partitions back"
expect "rows on the wiped node" 10 "$(said 3 'SELECT log' DBSIZE)"

# Space: the pages of what was dropped take the next load.
state_bytes() { kvctl node show 1 | jq '.disk_bytes - .log_bytes'; }
is_saved() { [ "$(state_bytes)" -gt 27000000 ]; } # the node looks once a second
checkpoints() { heard 1 'INFO persistence' | tr -d '\r' | sed -n 's/^kvd_checkpoints://p'; }
workers=$(heard 1 'INFO replication' | tr -d '\r' | sed -n 's/^kvd_workers://p') # each makes its own
more_checkpoints() { [ "$(checkpoints)" -ge $(($1 + workers)) ]; }
checkpoint() { # of all that is applied now: one may have been under way
    for _ in 1 2; do
        n=$(checkpoints)
        heard 1 BGSAVE >/dev/null
        until_ok 30 more_checkpoints "$n" || die "no checkpoint"
    done
}
head -c 20000000 /dev/urandom | base64 -w 20000 | awk '{print "k" NR "\t" $0}' >"$T/big.tsv"
for round in first second; do
    create big --partition hash:2 --replicas 3
    kvctl --keyspace big import "$T/big.tsv" --restart -q || die "import of 27 MB"
    checkpoint
    until_ok 10 is_saved || die "a state of $(state_bytes) bytes holds no 27 MB"
    eval "$round=$(state_bytes)"
    kvctl keyspace drop big --yes big >/dev/null || die "drop of 27 MB"
    until_ok 10 agree || die "the nodes hold other groups after the drop"
    checkpoint
done
# shellcheck disable=SC2154 # by eval
[ $((second * 10)) -lt $((first * 13)) ] || die "state of $first bytes, after the same load again $second"
echo "ok: state of $first bytes, after the same load again $second"

# Bad input: the reason, the next step, and nothing happened.
refused 2 "not in order: their ranges would overlap" keyspace create bad --partition range:b,a
refused 2 "given twice: the range between would be empty" keyspace create bad --partition range:a,a
refused 2 "split key 1 is empty, and so the range before it; next:" keyspace create bad --partition range:,a
refused 2 "listed twice" keyspace create bad --partition 'list:a=x,b=x'
refused 2 "has no labels" keyspace create bad --partition 'list:a=x,b='
refused 2 "is none of the groups" keyspace create bad --partition 'list:a=x' --default c
refused 4 "4 replicas need 4 nodes with the role storage, 3 can take some: " keyspace create bad --partition hash --replicas 4
refused 4 "keyspace 'log' is there; next: kvctl keyspace show log" keyspace create log --partition hash
refused 4 "always there" keyspace create default --partition hash
refused 2 "is no name" keyspace create 9x --partition hash
refused 2 "not a number from 1 to 2048" keyspace create bad --partition hash:0
refused 2 "needs --partition" keyspace create bad
refused 2 "not hash[:P], range" keyspace create bad --partition tree
refused 2 "are for list keyspaces" keyspace create bad --partition hash --delimiter :
refused 3 "no such keyspace: 'bad'" keyspace show bad
refused 3 "no such keyspace: bad" --keyspace bad put k v
kvctl status >/dev/null || die "a group lacks a quorum"
for n in 1 2 3; do cluster kill $n; done
cluster up --base-port "$P" >/dev/null || die "the cluster does not start again"
expect "after kill -9 of all" 10 "$(said 1 'SELECT log' DBSIZE)"
until_ok 10 agree || die "the nodes hold other groups after a restart"
echo "ok: keyspaces"
