#!/bin/sh
# Checks licences, bans and sources of the dependencies. Advisories need the advisory database, so they
# are checked by CI on GitHub (.github/workflows/checks.yaml).
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:$PWD/target/tools/bin
cargo deny --version >/dev/null 2>&1 || {
  echo "Installing cargo-deny."
  cargo install --quiet --locked --root target/tools cargo-deny
}
cargo fetch --quiet --locked
cargo deny --offline check bans licenses sources
