#!/bin/sh
# The end-to-end tests on programs built with ThreadSanitizer. Fails if one fails or any program reported
# a race: most of them are killed, so what counts is what they wrote. usage: tsan.sh BUILD [TEST.sh ..]
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=$1
shift
logs=$PWD/$BUILD/tsan-reports
rm -rf "$logs"
mkdir -p "$logs"
# rot.sh makes LMDB crash on purpose, and kvd wants to see that itself.
# A map of 1 TiB does not fit between the shadows of every address layout.
export BUILD KVD_STORAGE_MAP=4GiB TSAN_OPTIONS="log_path=$logs/report suppressions=$PWD/tests/tsan.supp history_size=4 handle_segv=0"
export LD_PRELOAD=$PWD/$BUILD/tsan_openat.so # how files are opened so that it sees it
export HEAL_MS=${HEAL_MS:-4000} RSS_SLACK_MB=${RSS_SLACK_MB:-1000} # bounds for builds at full speed, without shadows
passed=0 failed=0
[ $# -gt 0 ] || set -- tests/e2e/*.sh
for t in "$@"; do
    case $t in */lib*.sh) continue ;; esac
    start=$(date +%s) before=$(find "$logs" -name 'report.*' | wc -l)
    timeout 600 sh "$t" >"$logs/$(basename "$t").out" 2>&1
    status=$?
    reports=$(($(find "$logs" -name 'report.*' | wc -l) - before))
    if [ $status -eq 0 ] && [ $reports -eq 0 ]; then
        passed=$((passed + 1)) result=ok
    else
        failed=$((failed + 1)) result="FAILED (exit $status, $reports reports)"
    fi
    printf '%-32s %4d s  %s\n' "${t#tests/}" $(($(date +%s) - start)) "$result"
    [ $status -eq 0 ] || tail -n 30 "$logs/$(basename "$t").out" | sed 's/^/    /'
done
cat "$logs"/report.* 2>/dev/null
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
