#!/bin/sh
# The example program of libkv runs against a single node, twice.
. "$(dirname "$0")/lib.sh"
"$B/kvd" --node-data "$T/d" --resp-port "$P" --native-port "$N" 2>"$T/kvd.log" &
started=$!
until_ok 20 "$B/kvctl" --addr 127.0.0.1:"$N" --key "$T/d/client.key" ready --timeout 1s || die "no start"
"$B/example" 127.0.0.1:"$N" "$T/d/client.key" || die "example"
said=$("$B/example" 127.0.0.1:"$N" "$T/d/client.key") || die "example, again"
case $said in *"run number 2"*) ;; *) die "example said: $said" ;; esac
echo "ok: $said"
