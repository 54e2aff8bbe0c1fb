#!/usr/bin/env bash
# Installs what the measurements need, builds the handler, and measures. The arguments choose
# measurements; without any, all are made.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install-servers.sh load
# Each of up to 8,000 clients needs a file descriptor here, and one in the handler.
ulimit -n "$(ulimit -Hn)"
if [ "$(ulimit -n)" != unlimited ] && [ "$(ulimit -n)" -lt 10000 ]; then
  echo "At most $(ulimit -n) files can be open, and 10000 are needed: raise the hard limit (ulimit -Hn)." >&2
  exit 1
fi
cargo build --release --bin handler
cargo build --release -p bench
target/release/bench "$@"
