#!/usr/bin/env bash
# Starts Redis, Azurite and `func start`; Ctrl-C ends all of them, func first. A server that already
# listens on its port is used as it is. With the argument `servers` it leaves out `func start`, so that
# an editor can start the handler. Ports and the data's folder can be set by the variables below.
set -eu
cd "$(dirname "$0")/.."

port=${UP_PORT:-7071}
redis_port=${UP_REDIS_PORT:-6379}
blob_port=${UP_BLOB_PORT:-10000} queue_port=${UP_QUEUE_PORT:-10001} table_port=${UP_TABLE_PORT:-10002}
data=${UP_DATA:-target/up}

fail() { echo "make up: $*" >&2; exit 1; }

what=${1:-all}
[ "$what" = all ] || [ "$what" = servers ] || fail "$what is not known: the only argument is servers."
scripts/install-servers.sh
[ "$what" = servers ] || command -v func >/dev/null 2>&1 || scripts/install-servers.sh core-tools || true

# An environment variable has precedence over local.settings.json.
if [ -n "${UP_REDIS_PORT:-}" ]; then export REDIS_URL=redis://127.0.0.1:$redis_port; fi
if [ -n "${UP_TABLE_PORT:-}" ]; then
  account=devstoreaccount1
  export USERS_TABLE_CONNECTION="UseDevelopmentStorage=true;TableEndpoint=http://127.0.0.1:$table_port/$account"
fi

# The binary, wherever cargo puts it.
handler=${UP_HANDLER:-}
if [ -z "$handler" ]; then
  handler=$(cargo build --message-format json-render-diagnostics |
    sed -n 's/.*"executable":"\([^"]*\/handler\)".*/\1/p') || fail "cargo build has failed, see above."
fi
[ -f "$handler" ] || fail "there is no handler at ${handler:-target/debug/handler}: run cargo build."
[ -x "$handler" ] || fail "$handler is not executable: is it on a file system that is mounted with noexec?"
handler=$(realpath "$handler")
if [ "$handler" != "$PWD/target/debug/handler" ]; then
  export AzureFunctionsJobHost__customHandler__description__defaultExecutablePath=$handler
fi

# Replaces this shell by a command with the settings that the host would pass on.
exec_with_settings() {
  eval "$(node -p '
    const quoted = (text) => `'\''${text.replaceAll("'\''", "'\''\\'\'''\''")}'\''`;
    Object.entries(require("./local.settings.json").Values)
      .filter(([name]) => /^\w+$/.test(name))
      .map(([name, value]) => `[ -n "\${${name}+set}" ] || export ${name}=${quoted(value)}`)
      .join("\n")')"
  exec "$@"
}
# Under func, a handler that refuses its settings is started three times, and func ends with code 0.
(exec_with_settings "$handler" --check) || fail "the handler refuses this setting; see local.settings.json and the environment."

# Job control: each server is a process group of its own, which the terminal's Ctrl-C does not reach.
set -m
func='' servers=''
finish() {
  trap - EXIT
  trap '' INT TERM HUP
  # func needs its storage until it has ended, and Azurite saves its data when it ends.
  local pid
  for pid in $func; do kill -INT -- "-$pid" 2>/dev/null || true; wait "$pid" || true; done
  for pid in $servers; do kill -TERM -- "-$pid" 2>/dev/null || true; done
  for pid in $servers; do wait "$pid" || true; done
}
trap finish EXIT
trap 'echo; exit 0' INT
trap 'exit 143' TERM
trap 'exit 129' HUP # the terminal was closed

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# start NAME PORT COMMAND...: starts a server and waits until it accepts connections on its port.
start() {
  local name=$1 port=$2
  shift 2
  if listens "$port"; then
    echo "$name: using the server that listens on port $port."
    return
  fi
  "$@" >"$data/$name.log" 2>&1 </dev/null &
  servers="$servers $!"
  for _ in $(seq 100); do
    listens "$port" && { echo "$name: started on port $port, its log is $data/$name.log."; return; }
    sleep 0.1
  done
  fail "$name did not start; see $data/$name.log."
}

mkdir -p "$data/azurite"
start redis "$redis_port" redis-server --port "$redis_port" --bind 127.0.0.1 --save "" --dir "$data"
start azurite "$table_port" azurite --silent --skipApiVersionCheck --disableTelemetry \
  --blobPort "$blob_port" --queuePort "$queue_port" --tablePort "$table_port" --location "$data/azurite"

if [ "$what" = servers ]; then
  echo "The handler can be started: $handler"
  # A signal ends the wait, and then the servers.
  wait
  exit
fi
if command -v func >/dev/null 2>&1 && func --version >/dev/null 2>&1; then
  func start --port "$port" </dev/null &
else
  echo "Azure Functions Core Tools could not be installed. Starting the handler itself, on the same port."
  (export FUNCTIONS_CUSTOMHANDLER_PORT=$port; exec_with_settings "$handler") </dev/null &
fi
func=$!
code=0
wait "$func" || code=$?
func=''
fail "what serves the API has ended by itself, with code $code; its last lines are above."
