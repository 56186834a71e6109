#!/usr/bin/env bash
# Sends requests that schemathesis makes from /openapi.json to a server of its own, and checks each response against the document.
#
#     run.sh sample      some hundred requests, for every run of the tests
#     run.sh full        20,000 requests
#     run.sh full ARGS   with further arguments of schemathesis
set -euo pipefail
cd "$(dirname "$0")/../.."

case "${1:-}" in
    sample) examples=4 phases=examples,fuzzing,stateful ;;
    full) examples=640 phases=examples,coverage,fuzzing,stateful ;;
    *) echo "usage: $0 sample|full [ARGS]" >&2; exit 2 ;;
esac
shift

target="$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)"
python="$target/schemathesis-python"
[ -x "$python/bin/python" ] || python3 -m venv "$python"
"$python/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
    -r tests/schemathesis/requirements.txt
taskbell="${TASKBELL_BIN:-$target/debug/taskbell}"

folder=$(mktemp -d)
server=
end() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$folder"
}
trap end EXIT
mkfifo "$folder/output"
"$taskbell" serve --listen 127.0.0.1:0 --data "$folder/data" >"$folder/output" 2>"$folder/errors" &
server=$!
exec 3<"$folder/output"
while read -r line <&3; do
    case "$line" in "listening on "*) url=${line#listening on }; break ;; esac
done
[ -n "${url:-}" ] || { cat "$folder/errors" >&2; echo "error: the server does not start" >&2; exit 1; }

failed=0
"$python/bin/st" --config-file tests/schemathesis/schemathesis.toml run "$url/openapi.json" --url "$url" \
    --max-examples "$examples" --phases "$phases" --continue-on-failure --no-color --warnings off "$@" || failed=$?
kill -0 "$server" 2>/dev/null || { echo "error: the server has ended" >&2; failed=1; }
if grep -E "panicked at" "$folder/errors"; then failed=1; fi
exit "$failed"
