#!/bin/sh
# A node of another cluster whose configuration names our node 2 as its peer, and a client nobody knows: both
# are refused by name, in the journals of both sides, nobody hangs, and our cluster serves on.
. "$(dirname "$0")/lib.sh"
cluster up --nodes 3 --base-port "$P" >/dev/null || die "up"
mkdir "$T/s"
for i in 1 3; do "$B/kvd" --make-key "$T/s/key$i" >"$T/s/pub$i" || die "make-key"; done
"$B/kvd" --make-key "$T/s/client.key" >"$T/s/clients.keys" || die "make-key"
ours=$(sed -n 's/.*id: 2, .*key: \([0-9a-f]*\)}.*/\1/p' "$T/c/node-1/kvd.yaml")
cat >"$T/s/kvd.yaml" <<TEXT
cluster:
  name: staging
  id: 0123456789abcdef0123456789abcdef
  nodes:
    - {id: 1, host: 127.0.0.4, native: $N, resp: $P, key: $(cat "$T/s/pub1")}
    - {id: 2, host: 127.0.0.2, native: $N, resp: $P, key: $ours}
    - {id: 3, host: 127.0.0.5, native: $N, resp: $P, key: $(cat "$T/s/pub3")}
node: {id: 1, data: $T/s/data, key: $T/s/key1}
native: {host: 127.0.0.4, port: $N}
resp: {host: 127.0.0.4, port: $P}
client.keys: $T/s/clients.keys
TEXT
"$B/kvd" --config "$T/s/kvd.yaml" --bootstrap 2>"$T/s.log" &
pid=$!
started=$pid
until_ok 10 grep -q "link-refused node=2 err=WRONG_CLUSTER why=\"cluster 'local' ([0-9a-f]*..) is not 'staging' (01234567..)\"" "$T/s.log" ||
    die "the stranger does not say why: $(cat "$T/s.log")"
until_ok 10 grep -q "native-refused peer=127.0.0.4:.*cluster 'local' .* is not 'staging'" "$T/c/node-2/log" ||
    die "our node does not say whom it refused"
echo "ok: both journals name both clusters"
began=$(date +%s%3N)
said=$(redis-cli -h 127.0.0.4 -p "$P" set k v 2>&1)
case $said in *"(applied: no)"*) echo "ok: a write at the stranger: $said" ;; *) die "a write at the stranger: $said" ;; esac
[ $(($(date +%s%3N) - began)) -lt 6000 ] || die "it hung"
asked_again() { [ "$(grep -c native-refused "$T/c/node-2/log")" -ge 4 ]; }
until_ok 20 asked_again || die "the stranger does not ask again"
kvctl ready --timeout 5s >/dev/null || die "our cluster does not serve"
kill -TERM $pid
wait $pid
expect "the stranger stops cleanly" 0 $?

# The other way: a node of ours finds a stranger at its peer's address.
cluster kill 3 >/dev/null || die "kill"
sed -e "s/127\.0\.0\.4/127.0.0.3/g" "$T/s/kvd.yaml" >"$T/s/there.yaml"
"$B/kvd" --config "$T/s/there.yaml" 2>"$T/there.log" &
pid=$!
started=$pid
until_ok 10 grep -q "link-refused node=3 err=[A-Z_]* why=\"cluster 'staging' (01234567..) is not 'local'" "$T/c/node-1/log" ||
    die "node 1 does not say what it found"
"$B/kvctl" --addr 127.0.0.1:"$N" --key "$T/c/client.key" ready --timeout 5s >/dev/null || die "two of our nodes do not serve beside the stranger"
kill -TERM $pid
wait $pid
expect "the stranger stops cleanly" 0 $?
cluster start 3 >/dev/null || die "node 3 does not come back"

"$B/kvctl" --addr 127.0.0.2:"$N" --key "$T/s/client.key" --timeout 2s get k 2>"$T/err"
expect "a client nobody knows" 5 $?
grep -q "not in clients.keys" "$T/err" || die "it is not told why: $(cat "$T/err")"
grep -q "native-refused.*err=AUTH why=\"the client's key is not in clients.keys" "$T/c/node-2/log" || die "no line in the journal"

# Its key is added while the nodes run, then taken away again: SIGHUP makes a node read the file.
stranger() { "$B/kvctl" --addr 127.0.0.2:"$N" --key "$T/s/client.key" --timeout 2s get k >/dev/null 2>"$T/err"; [ $? = "$1" ]; }
reread() { kill -HUP "$(cat "$T/c/node-2/pid")"; }
cp "$T/c/clients.keys" "$T/clients.keys"
cat "$T/s/clients.keys" >>"$T/c/clients.keys"
grep -q 'SIGHUP' "$T/err" || die "not told to send SIGHUP: $(cat "$T/err")"
reread
until_ok 10 stranger 3 || die "a key that was added is not known: $(cat "$T/err")"
mkfifo "$T/words"
"$B/kvctl" --addr 127.0.0.2:"$N" --key "$T/s/client.key" <"$T/words" >"$T/session" 2>&1 &
started=$!
exec 3>"$T/words"
echo 'put k v' >&3
until_ok 10 grep -q ok "$T/session" || die "the new client cannot write: $(cat "$T/session")"
echo nonsense >>"$T/c/clients.keys"
reread
until_ok 10 grep -q 'clients-kept .*clients.keys:3: not a public key' "$T/c/node-2/log" || die "a bad file is not reported"
stranger 0 || die "a bad file cost the keys that were known: $(cat "$T/err")"
cp "$T/clients.keys" "$T/c/clients.keys"
reread
until_ok 10 stranger 5 || die "a key that was taken away is still known"
until_ok 10 grep -q 'native-revoked' "$T/c/node-2/log" || die "a connection of the key that was taken away stays"
exec 3>&-
kvctl ready --timeout 5s >/dev/null || die "our cluster does not serve after SIGHUP"
echo "ok: keys come and go without a restart"
cluster down || die "down"
