#!/usr/bin/env bash
# Counts the instructions of the pure rooms (tests/bench/instructions.rs) and holds them against tests/bench/instructions.txt:
# 5 % more fail. The counts are of the test build, of one compiler: with another one the step is left out (exit code 77) until
# they are renewed with --renew. The last line is `N passed, N failed`.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
budgets=tests/bench/instructions.txt
renew=no
if [[ ${1:-} == --renew ]]; then renew=yes; fi
command -v valgrind >/dev/null || { echo "skipped: counting instructions needs valgrind"; exit 77; }
compiler=$(rustc --version)
if [[ $renew == no && $(head -n 1 $budgets) != "# $compiler" ]]; then
    echo "skipped: the instruction counts are of another compiler ($(head -n 1 $budgets)): tests/bench/instructions.sh --renew"
    exit 77
fi
program=$(cargo bench --quiet --profile dev --bench instructions --no-run --message-format json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*instructions-[^"]*\)".*/\1/p' | tail -n 1)

# count ROOM TIMES
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$1" "$2" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\)$/\1/p'
}

passed=0
failed=0
found="# $compiler"
while read -r room; do
    times=1000
    if [[ $room == config/* ]]; then times=4; fi
    each=$((($(count "$room" $((2 * times))) - $(count "$room" $times)) / times))
    found+=$'\n'"$room $each"
    if [[ $renew == yes ]]; then
        printf '%-24s %10d\n' "$room" "$each"
        continue
    fi
    budget=$(sed -n "s#^$room ##p" $budgets)
    if [[ -n $budget ]] && ((each * 100 <= budget * 105)); then
        passed=$((passed + 1))
        printf 'ok      %-24s %10d instructions of %d\n' "$room" "$each" "$budget"
    else
        failed=$((failed + 1))
        printf 'FAILED  %-24s %10d instructions of %s: make it cheaper, or say why and renew\n' "$room" "$each" "${budget:-none}"
    fi
done < <("$program")
if [[ $renew == yes ]]; then
    printf '%s\n' "$found" >$budgets
    exit 0
fi
printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0 && passed > 0))
