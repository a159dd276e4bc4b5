#!/bin/sh
# Fails if a file includes one of a folder above its layer (server/README.md shows the picture).
set -u
cd "$(dirname "$0")/.." || exit 1
allow() {
    case "$1" in
    raft/*)        echo 'raft/' ;;
    client/base/*) echo 'client/base/' ;;
    client/env/*)  echo 'client/base/|client/env/' ;;
    client/wire/*) echo 'client/base/|client/wire/|kv\.pb-c\.h' ;;
    client/*)      echo 'client/' ;;
    storage/*)     echo 'client/base/|storage/|command\.pb-c\.h' ;;
    server/*)      echo 'client/|server/|raft/raft\.h|storage/|peer\.pb-c\.h' ;;
    tools/check/*) echo 'client/base/|tools/check/' ;;
    tools/*)       echo 'client/|storage/|server/(passwd|users|config|exec|exec_directory)\.h|tools/' ;;
    *)             echo '.*' ;;
    esac
}
bad=0
for f in $(find raft client storage server tools tests jepsen -name '*.[ch]' | sort); do
    if grep -nE '^#include "' "$f" | grep -vE "\"($(allow "$f"))"; then
        echo "  ^ $f reaches above its layer"
        bad=1
    fi
done
# Time, randomness, threads and the loop come only through the seams (R24).
if grep -nwE 'clock_gettime|gettimeofday|getrandom|randombytes_[a-z]+|rand|random\(\)|pthread_[a-z_]+|uv_[a-z_]+|time\(NULL\)' \
    raft/*.[ch] client/base/*.[ch] client/wire/*.[ch] client/*.[ch] storage/*.[ch] server/*.[ch] 2>/dev/null |
    grep -vE '^(client/env/env_uv|storage/disk_uv|server/main|server/passwd|client/kv_sync)[a-z_]*\.[ch]:' | grep -vE ':[0-9]+: *(/\*|\*)'; then
    echo '  ^ goes around the env or disk seam'
    bad=1
fi
exit $bad
