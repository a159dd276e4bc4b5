#!/bin/sh
# Users of the Redis ports: bound to a keyspace or not, known on every node, on both ports; read again on SIGHUP, which ends
# the connections of those that are gone or are not what they were; and every line that is refused, with its place.
. "$(dirname "$0")/lib.sh"
U=$T/users
user() { # NAME PASSWORD [KEYSPACE]
    printf '%s\n' "$2" | "$B/kvctl" passwd --user "$1" ${3+--keyspace "$3"} || die "passwd --user $1"
}
once() { # NODE USER PASSWORD COMMAND..; each an argument; the last reply
    node=$1 user=$2 password=$3
    shift 3
    printf '%s\n' "AUTH $user $password" "$@" | redis-cli -h "127.0.0.$node" -p "$P" | grep . | tail -n 1
}
as() { # likewise, when the address has been slow enough for what failed before
    until_ok 15 not_busy "$@" || die "BUSY for 15 s"
    cat "$T/answer"
}
not_busy() {
    once "$@" >"$T/answer"
    ! grep -q '^BUSY' "$T/answer"
}
told() { # WHAT PATTERN ANSWER
    printf '%s\n' "$3" | grep -q "$2" || die "$1: says '$3'"
    echo "ok: $1"
}
logged() { grep -q "$2" "$T/c/node-$1/log"; }
hang_up() { kill -HUP "$(jq -r ".nodes[$1 - 1].pid" "$T/c/cluster.json")"; }

( umask 077 && : >"$U" )
{ echo '# who may'; user app app-secret orders; user free free-secret; user plain plain-secret default; } >>"$U"
export KVD_RESP_USERS="$U"
cluster up --base-port "$P" >/dev/null || die "the cluster does not start"
told "a stranger" NOAUTH "$(redis-cli -h 127.0.0.1 -p "$P" GET k 2>&1)"
told "user default without resp.password" WRONGPASS "$(redis-cli -h 127.0.0.1 -p "$P" AUTH secret 2>&1)"
until_ok 10 logged 1 'event=serving\|serving' || die "no journal"

# Before its keyspace is there, and after.
told "a user whose keyspace is not there" "no such keyspace: 'orders', which user 'app' is bound to" "$(as 1 app app-secret)"
told "who is not let in" NOAUTH "$(as 1 app app-secret 'GET k')"
kvctl keyspace create orders --partition hash:3 --replicas 3 >/dev/null && kvctl keyspace create other --partition range:m --replicas 3 >/dev/null || die "create"
id=$(kvctl keyspace show orders -o json | jq .id)
for n in 1 2 3; do
    expect "a write of the bound user at node $n" OK "$(as $n app app-secret "SET k$n v$n")"
    expect "in its keyspace" "v$n" "$(kvctl --keyspace orders get "k$n")"
done
expect "and in no other" 3 "$(kvctl --keyspace default get k1 2>/dev/null; echo $?)"
expect "HELLO" "v2" "$(printf '%s\n' 'HELLO 3 AUTH app app-secret SETNAME me' 'GET k2' | redis-cli -h 127.0.0.3 -p "$P" | tail -n 1)"
for to in 0 1 other default nope; do
    told "SELECT $to of a bound user" "^NOPERM user 'app' is bound to keyspace 'orders'" "$(as 1 app app-secret "SELECT $to")"
done
expect "SELECT of its own" v1 "$(as 1 app app-secret 'SELECT orders' "SELECT $id" 'GET k1')"
told "keys of slots are those of default" NOPERM "$(as 1 app app-secret 'CLUSTER GETKEYSINSLOT 0 9')"
expect "DBSIZE" 3 "$(as 2 app app-secret DBSIZE)"
expect "ACL WHOAMI" app "$(as 1 app app-secret 'ACL WHOAMI')"
told "CLIENT INFO" " db=$id .* user=app " "$(printf '%s\n' 'AUTH app app-secret' 'CLIENT INFO' | redis-cli -h 127.0.0.1 -p "$P" | grep db=)"
told "RESET" NOAUTH "$(as 1 app app-secret RESET 'GET k1')"
expect "RESET unbinds" OK "$(as 1 app app-secret RESET 'AUTH free free-secret' 'SELECT other')"
expect "a free user" OK "$(as 2 free free-secret 'SELECT orders' 'SELECT other' 'SELECT 0')"
told "another's password" WRONGPASS "$(as 1 app free-secret)"
told "who is not there" WRONGPASS "$(as 2 nobody free-secret)"
told "guesses are slowed down" BUSY "$(once 2 app wrong1 'AUTH app wrong2')"
expect "who is right is not" v1 "$(as 2 app app-secret 'GET k1')"

# The cluster face has keyspace default alone.
face() { # USER PASSWORD COMMAND
    printf '%s\n' "AUTH $1 $2" "$3" | redis-cli -h 127.0.0.1 -p $((P + 2)) | grep .
}
told "the bound user there" "^NOPERM user 'app' is bound to keyspace 'orders', and this port is of cluster mode" "$(face app app-secret 'GET k' | head -n 1)"
told "and is not let in" NOAUTH "$(face app app-secret 'GET k')"
told "one bound to default" '^OK$' "$(face plain plain-secret 'SELECT 0' | tail -n 1)"
told "SELECT there" 'SELECT is not allowed in cluster mode' "$(face free free-secret 'SELECT orders')"

# A keyspace that is dropped, and made again under its name.
mkfifo "$T/in"
talk() { # USER PASSWORD: a connection that stays; what is written to 9 is said, answers go to $T/said
    redis-cli -h 127.0.0.1 -p "$P" <"$T/in" >"$T/said" 2>&1 &
    talker=$!
    started="$started $talker"
    exec 9>"$T/in"
    echo "AUTH $1 $2" >&9
    until_ok 10 grep -q OK "$T/said" || die "AUTH $1: $(cat "$T/said")"
}
talk app app-secret
kvctl keyspace drop orders --yes orders >/dev/null || die "drop"
echo 'GET k1' >&9
until_ok 10 grep -q 'no such keyspace' "$T/said" || die "a dropped keyspace: $(cat "$T/said")"
told "a user of a dropped keyspace" 'no such keyspace' "$(as 1 app app-secret)"
kvctl keyspace create orders --partition hash:3 --replicas 3 >/dev/null || die "create again"
echo 'SELECT orders
SET again 1
GET again' >&9
until_ok 10 grep -qx 1 "$T/said" || die "SELECT of the new one: $(cat "$T/said")"
echo "ok: the name of its keyspace is its keyspace, dropped and made again"

# SIGHUP: new ones come; those that are gone or changed lose their connections, others keep theirs.
{ user late late-secret other; grep -v '^app ' "$U"; } >"$T/next" && cat "$T/next" >"$U"
hang_up 1
until_ok 10 logged 1 'users-read file=.*users=3' || die "the file is not read again"
until_ok 10 logged 1 'resp-revoked' || die "no line in the journal"
until_ok 10 sh -c "echo PING >&9 && grep -q 'Server closed\|Error\|reset\|NOAUTH' '$T/said'" || die "its connection lives on: $(cat "$T/said")"
exec 9>&-
wait "$talker"
told "who is gone" WRONGPASS "$(as 1 app app-secret)"
late_sets() { [ "$(as 1 late late-secret "SET a b")" = OK ]; }
until_ok 5 late_sets || die "who is new is refused" # not at once: the wrong guess just before makes its address wait
expect "another node has not read it" 1 "$(as 2 app app-secret 'GET again')"
talk free free-secret
{ user late other-secret other; grep -v '^late ' "$U"; } >"$T/next" && cat "$T/next" >"$U"
hang_up 1
until_ok 10 logged 1 'users-read file=.*users=3' || die "the file is not read again"
reads() { [ "$(grep -c users-read "$T/c/node-1/log")" -ge "$1" ]; }
until_ok 10 reads 2 || die "not read twice"
told "the password of before" WRONGPASS "$(as 1 late late-secret)"
echo 'PING' >&9
until_ok 10 grep -q PONG "$T/said" || die "another's connection has ended: $(cat "$T/said")"
echo "ok: who did not change keeps its connections"
: >"$U"
hang_up 1
until_ok 10 reads 3 || die "not read a third time"
told "an empty file opens no door" NOAUTH "$(redis-cli -h 127.0.0.1 -p "$P" GET a 2>&1)"
exec 9>&-
wait "$talker"

# What is refused, at run time and at start.
echo 'late other secret' >"$U"
hang_up 1
until_ok 10 logged 1 "users-kept why=\"$U:1: the third word is no Argon2id line" || die "a bad line is not refused: $(tail -n 3 "$T/c/node-1/log")"
grep -q 'other secret' "$T/c/node-1/log" && die "the journal tells what may be a password"
starts() { "$B/kvd" --node-data "$T/alone" --resp-port $((P + 5)) --native-port $((P + 6)) --resp-users "$U" 2>"$T/err"; }
refused() { # WHAT PATTERN
    starts
    expect "$1" 1 $?
    grep -q "$2" "$T/err" || die "$1: says $(cat "$T/err")"
}
refused "a bad line at start" "$U:1: the third word is no Argon2id line"
{ user a a-secret; user b b-secret; user a b-secret; } >"$U"
refused "a name twice" "$U:3: user a stands in the file twice"
chmod 640 "$U"
refused "a file that others may read" "$U: mode 640 lets others read"
chmod 600 "$U"
rm "$U"
refused "no file" "$U: No such file"
expect "beyond loopback with users" "configuration ok" "$("$B/kvd" --resp-host 0.0.0.0 --resp-users "$U" --check-config)"
printf 'x\n' | "$B/kvctl" passwd --user default 2>"$T/err"
expect "a user named default" 2 $?
grep -q 'resp.password' "$T/err" || die "not told why: $(cat "$T/err")"
printf 'x\n' | "$B/kvctl" passwd --keyspace orders 2>/dev/null
expect "a keyspace without a user" 2 $?
echo "ok: users"
