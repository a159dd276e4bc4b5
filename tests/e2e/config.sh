#!/bin/sh
# Configuration: one key by file, environment and command line, which of them wins, and what is said
# of mistakes: where they stand, in one line, exit code 2.
. "$(dirname "$0")/lib.sh"
refused() { # WHAT PATTERN COMMAND..
    what=$1 pattern=$2
    shift 2
    "$@" >"$T/out" 2>"$T/err"
    expect "$what" 2 $?
    grep -q "$pattern" "$T/err" || die "$what: says $(cat "$T/err")"
    expect "in one line" 1 "$(wc -l <"$T/err")"
}
serves_on() { # PORT COMMAND..
    port=$1
    shift
    "$@" --node-data "$T/d" --native-port "$N" 2>"$T/kvd.log" &
    started=$!
    until_ok 20 grep -q " serving .*resp=127.0.0.1:$port " "$T/kvd.log" || die "not on port $port: $(cat "$T/kvd.log")"
    kill "$started"
    wait "$started" || die "exit $? after SIGTERM"
    started=
}
printf 'resp:\n  port: %d\nlog: {level: info}\n' "$P" >"$T/kvd.yaml"
serves_on "$P" "$B/kvd" --config "$T/kvd.yaml"
serves_on $((P + 2)) env KVD_RESP_PORT=$((P + 2)) "$B/kvd" --config "$T/kvd.yaml"
serves_on $((P + 3)) env KVD_RESP_PORT=$((P + 2)) "$B/kvd" --config "$T/kvd.yaml" --resp-port $((P + 3))
serves_on $((P + 3)) "$B/kvd" --resp-port=$((P + 3))
echo "ok: the command line wins over the environment, that over the file"

expect "a good file" "configuration ok" "$("$B/kvd" --config "$T/kvd.yaml" --check-config)"
printf 'log:\n  level: info\nfoo: 1\n' >"$T/kvd.yaml"
refused "unknown key in the file" 'kvd.yaml:3: foo: unknown key' "$B/kvd" --check-config --config "$T/kvd.yaml"
refused "and when it starts" 'kvd.yaml:3: foo: unknown key' "$B/kvd" --config "$T/kvd.yaml"
printf 'log.level: info\nraft:\n  lease: 400ms\n' >"$T/kvd.yaml"
refused "a rule between two keys" 'kvd.yaml:3: raft.election: at least raft.lease' "$B/kvd" --check-config --config "$T/kvd.yaml"
refused "broken by an option" '^kvd: --resp-port: resp.port: the same' "$B/kvd" --check-config --resp-port 7401
refused "broken by the environment" '^kvd: KVD_LIMIT_QUEUE: limit.queue:' env KVD_LIMIT_QUEUE=16 "$B/kvd" --check-config
refused "one of two words" 'log.format: "xml" is neither text nor json' "$B/kvd" --log-format xml
printf 'raft:\n  lease: soon\n' >"$T/kvd.yaml"
refused "bad value in the file" 'kvd.yaml:2: raft.lease' "$B/kvd" --check-config --config "$T/kvd.yaml"
refused "bad value by option" 'log.level: "loud"' "$B/kvd" --check-config --log-level loud
refused "bad value by environment" 'KVD_LOG_LEVEL: log.level: "loud"' env KVD_LOG_LEVEL=loud "$B/kvd" --check-config
refused "unknown option" 'unknown option --log-levle' "$B/kvd" --check-config --log-levle info
refused "unknown variable of a section" 'KVD_LOG_LEVLE: unknown key' env KVD_LOG_LEVLE=info "$B/kvd" --check-config
refused "option without a value" '\-\-log-level: needs a value' "$B/kvd" --log-level
refused "a word" 'word: not an option' "$B/kvd" word
refused "no such file" 'No such file' "$B/kvd" --config "$T/none.yaml"
refused_to_run() { # WHAT PATTERN DIRECTORY
    "$B/kvd" --node-data "$3" --resp-port "$P" --native-port "$N" 2>"$T/err"
    expect "$1" 1 $?
    grep -q "$2" "$T/err" || die "$1: says $(cat "$T/err")"
}
refused_to_run "a data directory without a parent" "data directory $T/no/where: No such file or directory" "$T/no/where"
refused_to_run "a file in its place" "data directory $T/kvd.yaml: Not a directory" "$T/kvd.yaml"
refused "a public Redis port without a password" 'resp.password' "$B/kvd" --resp-host 0.0.0.0
line=$(printf 'secret\n' | "$B/kvctl" passwd)
expect "and with one" "configuration ok" "$("$B/kvd" --resp-host 0.0.0.0 --resp-password "$line" --check-config)"

# Every key has its option: what --help-config lists can be set to the default it names.
"$B/kvd" --help | grep -q '^example' || die "no example in --help"
"$B/kvd" --help-config >"$T/help" || die "--help-config"
n=0
while read -r key; do
    [ "$key" != cluster.nodes ] || continue # a list, in the file only
    value=$(grep -A1 "^$key\$" "$T/help" | sed -n 's/.*; default //p')
    [ -n "$value" ] || die "$key has no default in --help-config"
    [ "$value" != empty ] || value=
    option=--$(echo "$key" | tr '._' '--')
    "$B/kvd" --check-config "$option" "$value" >"$T/out" 2>&1 || die "$option $value: $(cat "$T/out")"
    n=$((n + 1))
done <<KEYS
$(grep -E '^[a-z]+\.[a-z_]+$' "$T/help")
KEYS
[ $n -ge 20 ] || die "only $n keys in --help-config"
echo "ok: $n keys, each with an option and a default that it takes"
