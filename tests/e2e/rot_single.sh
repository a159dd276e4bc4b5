#!/bin/sh
# A node without peers on damaged data: it says in one line which file, where, and what next, and refuses;
# kvlog salvage exports all that can be read, the log behind the checkpoint included, and tells what is lost.
. "$(dirname "$0")/lib.sh"
export KVD_STORAGE_MEMTABLE=1MiB
start() { # DIRECTORY
    "$B/kvd" --node-data "$1" --resp-port "$P" --native-port "$N" 2>"$T/kvd.log" &
    pid=$!
    started="$started $pid"
}
ctl() { "$B/kvctl" --addr 127.0.0.1:"$N" --key "$T/d/client.key" "$@"; }
refuses() { # DIRECTORY PATTERN
    "$B/kvd" --node-data "$1" --resp-port "$P" --native-port "$N" 2>"$T/refused.log"
    code=$?
    [ $code -ne 0 ] || die "starts on damaged data"
    [ "$(grep -c '^kvd: ' "$T/refused.log")" = 1 ] || die "not one line: $(cat "$T/refused.log")"
    grep -q "^kvd: .*$2.*Next: kvlog salvage $1" "$T/refused.log" || die "it does not say what, where and what next: $(grep '^kvd: ' "$T/refused.log")"
}
state() { echo "$(stores "$1" | tail -n 1)/state/data.mdb"; } # DIRECTORY: of its last worker
salvage() { # DIRECTORY WANTED_CODE
    "$B/kvlog" salvage "$1" >"$T/out.jsonl" 2>"$T/report"
    expect "salvage of $(basename "$1")" "$2" $?
}
start "$T/d"
until_ok 20 ctl put counter 0 || die "no write within 20 s"
awk 'BEGIN { for (i = 0; i < 6000; i++) printf "row%06d\tvalue of row %06d, long enough to matter, and then a little longer than that\n", i, i }' >"$T/rows.tsv"
ctl import "$T/rows.tsv" 2>/dev/null || die "import"
checkpointed() { for store in $(stores "$T/d"); do grep -q "value of row" "$store/state/data.mdb" || return 1; done; }
until_ok 20 checkpointed || die "no checkpoint"
for _ in 1 2 3 4 5; do ctl incr counter >/dev/null || die "incr"; done
ctl del row000007 >/dev/null || die "del"
kill -9 "$pid"
wait "$pid" 2>/dev/null

# Nothing wrong: all of it, as it would be served.
cp -a "$T/d" "$T/whole"
salvage "$T/whole" 0
expect "all rows" 6000 "$(grep -c . "$T/out.jsonl")"
grep -q '"key":"counter","value":"5"' "$T/out.jsonl" || die "the log behind the checkpoint was not replayed: $(grep counter "$T/out.jsonl")"
grep -q 'row000007' "$T/out.jsonl" && die "a deleted row is back"
mkdir "$T/copy"
start "$T/copy/d"
until_ok 20 "$B/kvctl" --addr 127.0.0.1:"$N" --key "$T/copy/d/client.key" put x x || die "no write within 20 s"
"$B/kvctl" --addr 127.0.0.1:"$N" --key "$T/copy/d/client.key" import "$T/out.jsonl" 2>"$T/err" || die "what was salvaged cannot be imported: $(cat "$T/err")"
"$B/kvctl" --addr 127.0.0.1:"$N" --key "$T/copy/d/client.key" export "$T/back.tsv" --prefix row 2>/dev/null || die "export"
grep -v '^row000007' "$T/rows.tsv" >"$T/left.tsv"
sort "$T/back.tsv" | cmp - "$T/left.tsv" || die "what was salvaged is not what was written"
kill -9 "$pid"
wait "$pid" 2>/dev/null
echo "ok: salvaged rows come back through kvctl import"

# The log: below what was synced, in a batch of its own.
cp -a "$T/d" "$T/log"
at=$("$B/kvlog" dump "$T/log" | grep ' entry .* counter ' | sed -n 3p | cut -d' ' -f1)
rot_byte "$T/log/${at%:*}" $((${at#*:} + 34))
refuses "$T/log" "${at%:*} at [0-9]*: "
salvage "$T/log" 4
grep -q "^${at%:*}: offset [0-9]*: batch [0-9]* is damaged" "$T/report" || die "the place is not told: $(cat "$T/report")"
grep -q "group [0-9]*: entry [0-9]* of the log is lost; the [0-9]* behind it" "$T/report" || die "what is lost is not told: $(cat "$T/report")"
grep -q '"key":"counter","value":"[01]"' "$T/out.jsonl" || die "replayed past what is missing: $(grep counter "$T/out.jsonl")"
[ "$(grep -c '"key":"row' "$T/out.jsonl")" -ge 5999 ] || die "rows that are whole are missing"

# A value.
cp -a "$T/d" "$T/value"
row=$(grep -aob 'value of row [0-9]*' "$(state "$T/value")" | sed -n '50s/.* //p')
for place in $(grep -abo "value of row $row," "$(state "$T/value")" | cut -d: -f1); do rot_byte "$(state "$T/value")" $((place + 4)); done
refuses "$T/value" 'state/data.mdb: offset [0-9]*: page'
salvage "$T/value" 4
grep -q "key .*row$row: the value is not what was written: lost" "$T/report" || die "the key is not told: $(cat "$T/report")"
expect "all other rows" 5998 "$(grep -c '"key":"row' "$T/out.jsonl")"

# An inner page of the state: its second child is another page.
cp -a "$T/d" "$T/page"
at=$("$B/kvlog" pages "$(stores "$T/page" | tail -n 1)" | grep ' data inner, ' | head -n 1 | cut -d' ' -f1)
offset=${at##*:}
second=$(od -An -tu2 -j $((offset + 18)) -N 2 "$(state "$T/page")" | tr -d ' ')
rot_byte "$(state "$T/page")" $((offset + second))
refuses "$T/page" 'state/data.mdb: offset [0-9]*: page'
salvage "$T/page" 4
grep -q 'state/data.mdb: offset [0-9]*: page [0-9]* of data: .*(lost: keys from .* to ' "$T/report" || die "what is lost is not told: $(cat "$T/report")"
rest=$(grep -c '"key":"row' "$T/out.jsonl")
[ "$rest" -ge 3000 ] && [ "$rest" -lt 5999 ] || die "$rest rows around one bad page"
"$B/kvlog" verify "$T/page" >"$T/verify"
expect "verify" 4 $?
grep -q 'page [0-9]* of data' "$T/verify" || die "verify does not tell: $(cat "$T/verify")"
echo "ok: damaged pages cost the keys beneath them, $rest rows are left"

# Rot under a running node: the row is refused, never wrong, and the next start refuses.
start "$T/d"
until_ok 20 ctl get counter || die "no start"
row=$(grep -aob 'value of row [0-9]*' "$(state "$T/d")" | sed -n '70s/.* //p')
for place in $(grep -abo "value of row $row," "$(state "$T/d")" | cut -d: -f1); do rot_byte "$(state "$T/d")" $((place + 4)); done
ctl --timeout 3s get "row$row" >"$T/got" 2>"$T/err" && die "a rotten row was served: $(cat "$T/got")"
grep -q 'replica-corrupt' "$T/kvd.log" || die "not journaled: $(tail -n 2 "$T/kvd.log")"
grep -qi 'salvage\|checksum' "$T/err" || die "the error does not say it: $(cat "$T/err")"
kill -9 "$pid"
wait "$pid" 2>/dev/null
refuses "$T/d" 'data.mdb: offset [0-9]*: page\|not intact before'

# Directories that are not for this program, or not now.
"$B/kvd" --node-data "$T/whole" --node-id 2 --resp-port "$P" --native-port "$N" 2>"$T/err" && die "another node's directory"
grep -q 'belongs to.*node' "$T/err" || die "another node's directory: $(cat "$T/err")"
printf '\143' | dd of="$T/whole/identity" bs=1 seek=8 conv=notrunc 2>/dev/null
"$B/kvd" --node-data "$T/whole" --resp-port "$P" --native-port "$N" 2>"$T/err" && die "a newer format"
grep -q 'identity: format 99, this program knows' "$T/err" || die "a newer format: $(cat "$T/err")"
"$B/kvlog" verify "$T/whole" >"$T/verify" 2>&1
[ $? -ne 0 ] || die "kvlog takes a newer format: $(cat "$T/verify")"
echo "ok: another node's directory and a newer format are refused by name"
