#!/usr/bin/env bash
# Installs what the measurements need, builds the handler and its peer in Rust, and measures. The
# arguments choose measurements; without any, all are made. With --quick, a little is measured: hits only,
# or what is chosen.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install-servers.sh load
# The hits of the handler alone need no peers.
[ "$*" = --quick ] || scripts/install-peers.sh
# Each of up to 8,000 clients needs a file descriptor here, and one in the handler.
ulimit -n "$(ulimit -Hn)"
if [ "$(ulimit -n)" != unlimited ] && [ "$(ulimit -n)" -lt 10000 ]; then
  echo "At most $(ulimit -n) files can be open, and 10000 are needed: raise the hard limit (ulimit -Hn)." >&2
  exit 1
fi
# Each by itself, so that the handler is built with the features that it has when it is deployed.
for package in cache-aside-handler peer-axum bench; do
  cargo build --release -p "$package"
done
exec target/release/bench "$@"
