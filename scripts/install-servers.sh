#!/bin/sh
# Installs Redis and Azurite, which the tests and `make up` need, if they are missing. With the argument
# `browser` it installs Chromium, too, which the tests of the page need; with `load`, wrk and redis-benchmark,
# which `make bench` needs; with `core-tools`, Azure Functions Core Tools instead.
set -eu

. "$(dirname "$0")/installation.sh"

npm_install() {
  has npm || apt_install nodejs npm
  as_root npm install --global --no-fund --no-audit "$1"
}

if [ "${1:-}" = core-tools ]; then
  require_node 22 "Core Tools"
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
[ "${1:-}" != browser ] || { has chromedriver && { has chromium || has google-chrome; }; } || {
  echo "Installing Chromium."
  apt_install chromium chromium-driver
}
