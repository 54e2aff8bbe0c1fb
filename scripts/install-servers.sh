#!/bin/sh
# Installs Redis and Azurite, which the tests and `make up` need, if they are missing.
set -eu

has() { command -v "$1" >/dev/null 2>&1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
apt_install() {
  has apt-get || { echo "Please install $*, and run this again." >&2; exit 1; }
  as_root apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

has redis-server || {
  echo "Installing Redis."
  apt_install redis-server
}
has azurite-table || {
  has npm || apt_install nodejs npm
  echo "Installing Azurite."
  as_root npm install --global --no-fund --no-audit azurite
}
