#!/usr/bin/env bash
# Starts Redis, Azurite and `func start`; Ctrl-C ends all of them. A server that already listens on its
# port is used as it is.
set -eu
cd "$(dirname "$0")/.."

scripts/install-servers.sh
if ! command -v func >/dev/null 2>&1; then
  echo "Installing Azure Functions Core Tools."
  npm install --global --no-fund --no-audit azure-functions-core-tools@4 >/dev/null 2>&1 || true
fi
cargo build

started=
finish() {
  trap - EXIT INT TERM
  for pid in $started; do kill "$pid" 2>/dev/null || true; done
  wait
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# start NAME PORT COMMAND...: starts a server and waits until it accepts connections on its port.
start() {
  local name=$1 port=$2
  shift 2
  if listens "$port"; then
    echo "$name: using the server that listens on port $port."
    return
  fi
  "$@" >"$data/$name.log" 2>&1 &
  started="$started $!"
  for _ in $(seq 100); do
    listens "$port" && { echo "$name: started on port $port, its log is $data/$name.log."; return; }
    sleep 0.1
  done
  echo "$name did not start; see $data/$name.log." >&2
  exit 1
}

data=target/up
mkdir -p "$data/azurite"
start redis 6379 redis-server --port 6379 --bind 127.0.0.1 --save "" --dir "$data"
start azurite 10002 azurite --silent --skipApiVersionCheck --disableTelemetry --location "$data/azurite"

if command -v func >/dev/null 2>&1 && func --version >/dev/null 2>&1; then
  func start --port 7071 &
else
  echo "Azure Functions Core Tools cannot be installed here. Starting the handler itself, on the same port."
  # The settings that the host would pass on.
  eval "$(node -p '
    Object.entries(require("./local.settings.json").Values)
      .filter(([name]) => /^\w+$/.test(name))
      .map(([name, value]) => `export ${name}='\''${value.replaceAll("'\''", "'\''\\'\'''\''")}'\''`)
      .join("\n")')"
  target/debug/handler &
fi
started="$! $started"
wait "$!"
