#!/usr/bin/env bash
# Installs what the measurements need, builds the handler and its peers, and measures. The arguments choose
# measurements; without any, all are made. The argument --quick makes a short one.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install-servers.sh load
scripts/install-peers.sh
# Each of up to 8,000 clients needs a file descriptor here, and one in the handler.
ulimit -n "$(ulimit -Hn)"
if [ "$(ulimit -n)" != unlimited ] && [ "$(ulimit -n)" -lt 10000 ]; then
  echo "At most $(ulimit -n) files can be open, and 10000 are needed: raise the hard limit (ulimit -Hn)." >&2
  exit 1
fi
cargo build --release --package cache-aside-handler --package peer-axum --package bench
target/release/bench "$@"
