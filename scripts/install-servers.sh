#!/bin/sh
# Installs Redis and Azurite, which the tests and `make up` need, if they are missing. With the argument
# `load` it installs wrk and redis-benchmark, too, which `make bench` needs; with `core-tools`, Azure
# Functions Core Tools instead.
set -eu

has() { command -v "$1" >/dev/null 2>&1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
apt_install() {
  has apt-get || { echo "Please install $*, and run this again." >&2; exit 1; }
  as_root apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}
npm_install() {
  has npm || apt_install nodejs npm
  as_root npm install --global --no-fund --no-audit "$1"
}

if [ "${1:-}" = core-tools ]; then
  has npm || apt_install nodejs npm
  node=$(node --version)
  major=${node#v}
  if [ "${major%%.*}" -lt 22 ]; then
    echo "Core Tools needs Node.js 22 or later, and this is $node." >&2
    exit 1
  fi
  echo "Installing Azure Functions Core Tools."
  npm_install azure-functions-core-tools@4
  exit
fi

has redis-server || {
  echo "Installing Redis."
  apt_install redis-server
}
has azurite-table || {
  echo "Installing Azurite."
  npm_install azurite
}
[ "${1:-}" != load ] || has wrk || {
  echo "Installing wrk."
  apt_install wrk
}
[ "${1:-}" != load ] || has redis-benchmark || {
  echo "Installing redis-benchmark."
  apt_install redis-tools
}
