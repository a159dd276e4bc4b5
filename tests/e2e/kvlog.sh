#!/bin/sh
# kvlog on the directory of a stopped node: intact, with a torn tail, with damage, and in use.
. "$(dirname "$0")/lib.sh"
"$B/kvd" --node-data "$T/d" --resp-port "$P" --native-port "$N" 2>"$T/kvd.log" &
pid=$!
started="$started $pid"
ctl() { "$B/kvctl" --addr 127.0.0.1:"$N" --key "$T/d/client.key" "$@"; }
until_ok 10 ctl put key-zero 0 || die "no write within 10 s"
n=1
while [ $n -le 30 ]; do
    ctl put "key-$n" "$n" >/dev/null || die "put $n"
    n=$((n + 1))
done
"$B/kvlog" verify "$T/d" >"$T/out" 2>&1
expect "refuses a directory in use" 1 $?
kill -9 "$pid"
wait "$pid" 2>/dev/null
"$B/kvlog" verify "$T/d" >"$T/out" || die "an intact directory: $(cat "$T/out")"
"$B/kvlog" dump "$T/d" >"$T/dump" || die "dump failed"
expect "every write is in the log" 31 "$(grep -c ' key-[0-9z]' "$T/dump")"
# An entry says what was committed before it, so of those that nobody waits for any more only the last of each partition is in doubt.
"$B/kvlog" salvage "$T/d" >"$T/out" 2>"$T/err"
expect "salvage of an intact directory" 0 $?
expect "what it exports" 31 "$(grep -c 'key-' "$T/out")"
grep -q 'whether they were committed is not known' "$T/err" || die "nothing is in doubt: $(cat "$T/err")"
expect "doubted beside the last" "" "$(sed -n 's/.*: entries \([0-9]*\) to \([0-9]*\) are exported.*/\1 \2/p' "$T/err" | awk '$1 != $2')"
# Where the record of the 15th write and that of the last one stand: FILE:OFFSET.
middle=$(grep ' key-15 ' "$T/dump" | cut -d' ' -f1)
last=$(grep ' entry ' "$T/dump" | tail -n 1 | cut -d' ' -f1)
flip() { # DIRECTORY FILE:OFFSET
    rot_byte "$1/${2%:*}" $((${2#*:} + 33))
}
if ! ldd "$B/kvlog" | grep -q 'lib[at]san'; then # whose shadows need more
    # shellcheck disable=SC3045 # dash knows it
    (ulimit -v $((256 << 20)) && "$B/kvlog" verify "$T/d" >"$T/out" 2>&1)
    expect "256 GiB of address space are enough" 0 $?
fi
cp -r "$T/d" "$T/tail"
flip "$T/tail" "$last"
"$B/kvlog" verify "$T/tail" >"$T/out"
expect "a torn tail is no damage" 0 $?
grep -q "tail" "$T/out" || die "the tail is not told: $(cat "$T/out")"
cp -r "$T/d" "$T/rot"
flip "$T/rot" "$middle"
"$B/kvlog" verify "$T/rot" >"$T/out"
expect "rot is damage" 4 $?
grep -q "^${middle%:*}: offset [0-9]*: batch [0-9]* is damaged" "$T/out" || die "the place is not told: $(cat "$T/out")"
"$B/kvlog" verify "$T/none" >/dev/null 2>&1
expect "no such directory" 1 $?
[ -e "$T/none" ] && die "it was created"
"$B/kvlog" frobnicate "$T/d" >/dev/null 2>&1
expect "usage" 2 $?
