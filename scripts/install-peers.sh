#!/bin/sh
# Installs the packages of the peers in Python and Node.js, which `make bench` measures beside the
# handler, if they are missing or their versions have changed.
set -eu
cd "$(dirname "$0")/.."
. scripts/installation.sh

python=bench/peers/python
install_venv "$python/.venv" "$python/requirements.txt" "the packages of the peer in Python"

require_node 20 "The peer in Node.js"
cd bench/peers/node
cmp -s package-lock.json node_modules/installed.json || {
  echo "Installing the packages of the peer in Node.js."
  npm ci --ignore-scripts --no-fund --no-audit --loglevel error
  cp package-lock.json node_modules/installed.json
}
