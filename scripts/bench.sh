#!/usr/bin/env bash
# Measures in one run, on one machine, what a cache hit costs compared with a constant answer and with
# Redis itself. Absolute numbers vary between machines and runs: compare the ratios.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install-servers.sh
command -v wrk >/dev/null 2>&1 || {
  echo "Please install wrk (apt-get install wrk), and run this again." >&2
  exit 1
}
cargo build --release

seconds=5 connections=64 rounds=2
redis=16379 table=20002 embedded=17071 full=17072 quiet=17073
work=$(mktemp -d)
started=
finish() {
  for pid in $started; do kill "$pid" 2>/dev/null || true; done
  wait
  rm -rf "$work"
}
trap finish EXIT

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
start() {
  local port=$1
  shift
  "$@" >"$work/$port.log" 2>&1 &
  started="$started $!"
  for _ in $(seq 200); do
    listens "$port" && return
    sleep 0.05
  done
  echo "$1 did not start listening on port $port: $(cat "$work/$port.log")" >&2
  exit 1
}
handler() { start "$1" env FUNCTIONS_CUSTOMHANDLER_PORT="$1" CACHE_TTL=1h "${@:2}" target/release/handler; }

start $redis redis-server --port $redis --bind 127.0.0.1 --save "" --dir "$work"
start $table azurite-table --silent --skipApiVersionCheck --disableTelemetry --tablePort $table --location "$work"
connections_to=(USERS_TABLE_CONNECTION="UseDevelopmentStorage=true;TableEndpoint=http://127.0.0.1:$table/devstoreaccount1"
  REDIS_URL="redis://127.0.0.1:$redis")
handler $embedded RUST_LOG=warn
handler $full "${connections_to[@]}"
handler $quiet RUST_LOG=warn "${connections_to[@]}"
sleep 1

# user PORT: creates a user, reads it into the cache and prints its URL.
user() {
  local path
  path=$(curl -sS -i -X POST "http://127.0.0.1:$1/api/users" | tr -d '\r' | awk 'tolower($1) == "location:" { print $2 }')
  curl -sS -o "$work/first" "http://127.0.0.1:$1$path"
  echo "http://127.0.0.1:$1$path"
}
per_second() { wrk -t1 -c$connections -d${seconds}s "$1" | awk '/Non-2xx/ { bad = 1 } /Requests\/sec/ { print bad ? "failed" : int($2) }'; }
redis_per_second() { redis-benchmark -p $redis -q -t get -c $connections -n 300000 | tr '\r' '\n' | awk '/per second/ { print int($2) }' | tail -1; }

constant=http://127.0.0.1:$quiet/api/live
memory=$(user $embedded) hit=$(user $quiet) logged=$(user $full)
best() { printf '%s\n' "$@" | sort -n | tail -1; }
for round in $(seq $rounds); do
  constants="${constants:-} $(per_second "$constant")"
  memories="${memories:-} $(per_second "$memory")"
  hits="${hits:-} $(per_second "$hit")"
  loggeds="${loggeds:-} $(per_second "$logged")"
  redises="${redises:-} $(redis_per_second)"
done
base=$(best $constants)
row() { awk -v what="$1" -v n="$2" -v base="$base" 'BEGIN { printf "%-46s %8d/s  %5.2f\n", what, n, n / base }'; }
echo
echo "Requests per second, $connections connections, best of $rounds rounds of ${seconds}s; ratio to a constant answer"
row "a constant answer" "$base"
row "a hit in process" "$(best $memories)"
row "a hit in Redis" "$(best $hits)"
row "a hit in Redis, with a log line per request" "$(best $loggeds)"
row "Redis itself (redis-benchmark, GET)" "$(best $redises)"
