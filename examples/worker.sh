#!/usr/bin/env bash
# A worker of curl and jq. It claims jobs of one kind, gives each payload to a command, and hands in its output.
# Usage: URL=http://127.0.0.1:8080 TOKEN=... KIND=shout examples/worker.sh COMMAND [ARGUMENT]...
set -u -o pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"; kill $(jobs -p) 2>/dev/null' EXIT && trap exit INT TERM
call() { # PATH LEASE_TOKEN IDEMPOTENCY_KEY: posts its input; secrets stay out of the list of processes
    curl -sS -m 60 --retry 5 --fail-with-body -H 'Content-Type: application/json' --data-binary @- "$URL/v1/leases$1" \
        -K <(printf 'header = "%s"\n' "Authorization: Bearer $TOKEN" "Switchyard-Lease-Token: $2" "Idempotency-Key: $3")
}
while true; do
    jq -n --arg kind "$KIND" --arg worker "${WORKER:-shell}" '{$worker, kinds: [$kind], lease_s: 30, wait_s: 20}' |
        call "" none "$BASHPID-$(date +%s%N)" >"$dir/claim" & wait $! || { sleep 2; continue; } # a signal ends it
    [ -s "$dir/claim" ] || continue # nobody has work
    id=$(jq -r .lease.id "$dir/claim") token=$(jq -r .lease.token "$dir/claim")
    (while sleep 10; do echo '{}' | call "/$id/renew" "$token" none; done) >/dev/null & renewing=$!
    if jq -c .job.payload "$dir/claim" | "$@" >"$dir/out" 2>"$dir/err"; then
        jq -Rs '{result: {output: .}}' "$dir/out" | call "/$id/succeed" "$token" none
    else
        jq -Rs '{error: {code: "command_failed", message: .[-2000:]}}' "$dir/err" | call "/$id/fail" "$token" none
    fi >/dev/null
    kill $renewing
done
