#!/bin/sh
# What only a terminal shows: the prompt with its history over two sessions and Tab; the bash completion, by
# calling the function it defines; a password that is not echoed.
. "$(dirname "$0")/lib.sh"
command -v script >/dev/null || { echo "skipped: no script(1) of util-linux"; exit 0; }
"$B/kvd" --node-data "$T/d" --resp-port "$P" --native-port "$N" 2>"$T/kvd.log" &
started=$!
export KVD_ADDR=127.0.0.1:$N KVD_KEY=$T/d/client.key HOME=$T XDG_STATE_HOME=$T TERM=xterm
until_ok 20 "$B/kvctl" ready --timeout 1s || die "the node does not serve"

# libedit never frees the names of functions added to it: under LeakSanitizer that is not kvctl's.
echo 'leak:wcsdup' >"$T/lsan.supp"
export LSAN_OPTIONS="suppressions=$T/lsan.supp:print_suppressions=0"

# A session: what is written to descriptor 3 is typed; what the terminal shows goes to $T/screen.
session() { # COMMAND
    rm -f "$T/keys" "$T/screen"
    mkfifo "$T/keys"
    script -qfec "$1" "$T/screen" <"$T/keys" >/dev/null 2>&1 &
    terminal=$!
    started="$started $terminal"
    exec 3>"$T/keys"
}
shown() { grep -qa -- "$1" "$T/screen"; }
await() { until_ok 20 shown "$1" || die "the terminal never shows '$1': $(cat -v "$T/screen")"; }
type_keys() { printf '%b' "$1" >&3; }
leave() {
    exec 3>&-
    wait "$terminal"
    expect "the session ends with" "$1" $?
}

session "$B/kvctl"
await 'kv> '
type_keys 'put colour blue\r'
await 'ok version'
type_keys 'ge\tcolour\r'
await '^blue'
echo "ok: Tab completes a command"
type_keys 'get nothi\025get nothing\r' # ^U takes a line back
await 'no such key'
type_keys 'frobnicate\r'
await 'unknown command'
type_keys 'exit\r'
leave 0
[ "$(stat -c %a "$T/kvctl_history")" = 600 ] || die "others may read the history: values stand in it"

session "$B/kvctl"
await 'kv> '
type_keys '\020\020\020\020\r' # four lines up, behind exit, frobnicate and get nothing
await '^blue'
echo "ok: the history of one session is there in the next"
type_keys '\004' # end of input
leave 0

session "sh -c 'echo \$\$ >$T/pid; exec $B/kvctl'"
await 'kv> '
type_keys 'put cut short\r'
await 'ok version'
kill -HUP "$(cat "$T/pid")"
leave 129
grep -q 'put.*cut.*short' "$T/kvctl_history" || die "the history of a session whose terminal went away is gone"
echo "ok: and that of one whose terminal went away"

session "$B/kvctl passwd"
await 'password: '
type_keys 'secret\r'
await 'again: '
type_keys 'secret\r'
await 'argon2id'
if shown secret; then die "the password is shown"; fi
leave 0
echo "ok: a password is asked twice and not shown"

# The completion function, called as bash does.
"$B/kvctl" completion bash >"$T/completion.bash" || die "completion"
touch "$T/rows.tsv"
bash -u -s "$T" <<'BASH' || exit 1
. "$1/completion.bash"
complete -p kvctl | grep -q _kvctl || { echo "FAILED: nothing is registered for kvctl"; exit 1; }
try() { # WORD..
    COMP_WORDS=(kvctl "$@") COMP_CWORD=$# COMPREPLY=()
    _kvctl
}
completes() { # WANTED WORD..: WANTED must be among what the last word can become
    local wanted=$1
    shift
    try "$@"
    printf '%s\n' ${COMPREPLY[@]+"${COMPREPLY[@]}"} | grep -qxF -- "$wanted" && return
    echo "FAILED: kvctl $*: not $wanted but ${COMPREPLY[*]-nothing}"
    exit 1
}
completes put pu
completes history hist
completes node ''
completes replace node re
completes level log ''
completes check history ''
completes json -o ''
completes raw --output r
completes linearizable --level lin
completes counter history check x --model cou
completes --prefix scan --pre
completes --if-absent -o json put k v --i
completes --timeout put --
completes help he
try put --pre
[ "${#COMPREPLY[@]}" = 0 ] || { echo "FAILED: put is offered ${COMPREPLY[*]}"; exit 1; }
touch "$1/two words.tsv"
try import "$1/two"
[ "${COMPREPLY[0]}" = "$1/two words.tsv" ] || { echo "FAILED: a blank cuts a file's name: ${COMPREPLY[*]}"; exit 1; }
completes jsonl export x --format j
completes bash completion ''
completes "$1/rows.tsv" import "$1/ro"
completes "$1/rows.tsv" history check "$1/ro"
completes "$1/rows.tsv" --key "$1/ro"
try get some
[ "${#COMPREPLY[@]}" = 0 ] || { echo "FAILED: a key is guessed: ${COMPREPLY[*]}"; exit 1; }
BASH
echo "ok: bash completes commands, their second words, options, values and files"
