#!/bin/sh
# Lints the OpenAPI document, and fails if the linter accepts it with an example that breaks its schema.
# Installs the linter, if it is missing or its version has changed.
set -eu
cd "$(dirname "$0")/.."
. scripts/installation.sh

tools=target/redocly package=scripts/package.json
cmp -s "$package" "$tools/installed.json" || {
  require_node 20 "The linter of the OpenAPI document"
  echo "Installing the linter of the OpenAPI document."
  mkdir -p "$tools"
  cp "$package" "$tools/package.json"
  npm install --prefix "$tools" --ignore-scripts --no-fund --no-audit --no-package-lock --loglevel error
  cp "$package" "$tools/installed.json"
}
lint() {
  REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true \
    "$tools/node_modules/.bin/redocly" lint --config tests/openapi/redocly.yaml "$1"
}

lint src/api/openapi.json
broken=$(mktemp -d)
trap 'rm -rf "$broken"' EXIT
sed 's/"source": "table"/"source": "disk"/' src/api/openapi.json >"$broken/openapi.json"
if lint "$broken/openapi.json" >/dev/null 2>&1; then
  echo "The linter accepts an example that breaks its schema." >&2
  exit 1
fi
