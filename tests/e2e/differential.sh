#!/bin/sh
# The same commands to redis-server and to kvd, byte for byte: differential.c over commands.txt and
# GENERATED (5,000) made ones, with the exceptions of exceptions.txt. TEST_SEED=n repeats a run.
. "$(dirname "$0")/lib.sh"
command -v redis-server >/dev/null || { echo "skipped: no redis-server here"; exit 0; }
redis_port=$P kvd_port=$N seed=${TEST_SEED:-1}
mkdir "$T/redis"
# One database and values of at most 1 MiB, as kvd has; nothing saved but its log, as kvd's.
(cd "$T/redis" && exec redis-server --bind 127.0.0.1 --port "$redis_port" --save "" --appendonly yes \
    --databases 1 --proto-max-bulk-len 1mb >"$T/redis.log" 2>&1) &
started="$started $!"
"$B/kvd" --node-data "$T/d" --resp-port "$kvd_port" --native-port $((kvd_port + 1)) 2>"$T/kvd.log" &
started="$started $!"
until_ok 10 redis-cli -p "$redis_port" ping || die "redis-server does not answer"
until_ok 10 sh -c "redis-cli -p $kvd_port set ready yes | grep -q OK" || die "kvd does not serve within 10 s"
"$B/differential" "127.0.0.1:$redis_port" "127.0.0.1:$kvd_port" tests/e2e/commands.txt \
    tests/e2e/exceptions.txt "${GENERATED:-5000}" "$seed"
