#!/usr/bin/env bash
# Hostile clients at full size, one test after the other, and a summary of the figures at the end.
#
#     run.sh secured     by TLS, with and without tokens
#     run.sh open        by plain HTTP, without credentials
#     run.sh both
#
# PROFILE=dev builds without optimisation, which is quick; the times are then those of a slow machine. PART=10 runs a tenth.
set -euo pipefail
cd "$(dirname "$0")/../.."

case "${1:-}" in
    secured | open) modes=$1 ;;
    both) modes="secured open" ;;
    *) echo "usage: $0 secured|open|both" >&2; exit 2 ;;
esac
profile=${PROFILE:-release}
figures=$(mktemp)
trap 'rm -f "$figures"' EXIT

cargo test --locked --profile "$profile" --test taskbell --no-run
export TASKBELL_FULL=1 TASKBELL_PART="${PART:-1}" TASKBELL_FIGURES="$figures"
failed=()
for mode in $modes; do
    skip=(--skip tls_and_authentication)
    if [ "$mode" = secured ]; then
        export TASKBELL_SECURE=1
    else
        unset TASKBELL_SECURE
        # Open servers know neither.
        skip+=(--skip slow_handshakes --skip wrong_tokens)
    fi
    for tests in api::connection::fuzz:: push::fuzz:: api::fuzz:: api::connection::slow:: push::many:: push::flood:: hostile::; do
        begin=$SECONDS
        printf '\n== %s: %s\n' "$mode" "$tests"
        cargo test --locked --profile "$profile" --test taskbell -- "$tests" "${skip[@]}" --nocapture --test-threads 1 ||
            failed+=("$mode $tests")
        printf '== %s: %s took %d s\n' "$mode" "$tests" $((SECONDS - begin))
    done
done

printf '\nfigures, %s, 1/%s of the full size, after %d s:\n' "$profile" "$TASKBELL_PART" "$SECONDS"
cat "$figures"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}"
    exit 1
fi
