#!/bin/sh
# Installs Redis and Azurite if they are missing, and what a peer needs if one is named, builds the handler and
# the peer in Rust, and breaks things. The arguments are those of `chaos`.
set -eu
cd "$(dirname "$0")/.."

scripts/install-servers.sh
case "$*" in
  *--program*) scripts/install-peers.sh ;;
esac
# Each by itself, so that the handler is built with the features that it has when it is deployed.
for package in cache-aside-handler peer-axum chaos; do
  cargo build --release -p "$package"
done
exec target/release/chaos "$@"
