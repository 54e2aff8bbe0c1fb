#!/bin/sh
# Installs schemathesis, which tests the API by its OpenAPI document, if it is missing or its version has
# changed.
set -eu
cd "$(dirname "$0")/.."
. scripts/installation.sh

install_venv target/schemathesis scripts/schemathesis-requirements.txt "schemathesis"
