#!/usr/bin/env bash
# Checks everything that is deployed with: renders each overlay, validates it strictly against the
# schemas of two Kubernetes versions, scans for bad policies, lints the Dockerfile, compose.yaml, the
# workflows and the Bicep. Then breaks a copy of each input, and fails if a check lets that pass.
set -euo pipefail
cd "$(dirname "$0")/.."

# The current k3s, and the one before.
kubernetes_versions="1.37.0 1.36.0"

venv=target/manifests
if ! cmp -s scripts/manifests-requirements.txt "$venv/installed.txt" 2>/dev/null; then
  echo "Installing the checkers."
  rm -rf "$venv"
  python3 -m venv "$venv" 2>/dev/null || {
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-venv
    python3 -m venv "$venv"
  }
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r scripts/manifests-requirements.txt
  cp scripts/manifests-requirements.txt "$venv/installed.txt"
fi
PATH=$PWD/$venv/bin:$PATH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Each check takes the root of a tree, and says nothing if all is well.
check_overlays() {
  local overlay rendered
  for overlay in "$1"/kustomize/overlays/*; do
    rendered=$work/rendered/$(basename "$overlay").yaml
    mkdir -p "$work/rendered"
    kubectl kustomize "$overlay" >"$rendered" || return 1
    for version in $kubernetes_versions; do
      kubernetes-validate --kubernetes-version "$version" --strict --quiet "$rendered" || return 1
    done
  done
  kubectl kustomize "$1/kustomize/argocd" >/dev/null || return 1
}
scan() { checkov --config-file scripts/checkov.yaml --framework "$1" "${@:2}"; }
check_policies() {
  rm -rf "$work/rendered"
  check_overlays "$1" && scan kubernetes --directory "$work/rendered"
}
check_dockerfile() { hadolint "$1/Dockerfile" && scan dockerfile --file "$1/Dockerfile"; }
check_compose() { check-jsonschema --builtin-schema vendor.compose-spec "$1/compose.yaml"; }
check_workflows() {
  check-jsonschema --builtin-schema vendor.github-workflows "$1"/.github/workflows/*.yaml &&
    check-jsonschema --builtin-schema vendor.renovate "$1/.github/renovate.json" &&
    scan github_actions --directory "$1"
}
check_bicep() {
  # The scanner counts what it cannot parse, and passes.
  local said
  said=$(scan bicep --directory "$1/infra" 2>&1) || { echo "$said"; return 1; }
  if grep -q "Parsing errors" <<<"$said"; then echo "$said"; return 1; fi
}

checks="overlays policies dockerfile compose workflows bicep"
for check in $checks; do
  if ! said=$("check_$check" . 2>&1); then
    echo "$said"
    echo "FAILED: $check"
    exit 1
  fi
  echo "ok: $check"
done

# must_fail CHECK FILE SED: the check fails on a tree in which this edit has broken this file.
must_fail() {
  local check=$1 file=$2 edit=$3 tree=$work/broken
  rm -rf "$tree"
  mkdir -p "$tree"
  cp -R .github kustomize infra Dockerfile compose.yaml "$tree"
  sed -i "$edit" "$tree/$file"
  if cmp -s "$file" "$tree/$file"; then echo "$file has nothing for $edit to break"; exit 1; fi
  if "check_$check" "$tree" >/dev/null 2>&1; then
    echo "FAILED: the check of $check lets this pass: $edit in $file"
    exit 1
  fi
  echo "ok: $check fails on $file with $edit"
}
base=kustomize/base/deployment.yaml
must_fail overlays $base 's/maxSurge: 1/maxSurges: 1/'
must_fail overlays kustomize/base/service.yaml 's/port: 80/port: eighty/'
must_fail overlays kustomize/overlays/k3s/kustomization.yaml 's/redis.yaml/rediss.yaml/'
must_fail policies $base 's/readOnlyRootFilesystem: true/readOnlyRootFilesystem: false/'
must_fail policies $base 's/runAsNonRoot: true/runAsNonRoot: false/; s/runAsUser: 10001/runAsUser: 0/'
must_fail policies $base '/livenessProbe:/,/failureThreshold: 6/d'
must_fail policies $base '/limits:/,/memory: 512Mi/d'
must_fail policies kustomize/overlays/k3s/kustomization.yaml 's/newTag: 0.1.0/newTag: latest/'
must_fail dockerfile Dockerfile 's/^FROM rust:.* AS/FROM rust:latest AS/'
must_fail dockerfile Dockerfile '/^USER/d'
must_fail compose compose.yaml 's/healthcheck:/healthchecks:/'
must_fail workflows .github/workflows/checks.yaml 's/runs-on:/run-on:/'
must_fail workflows .github/renovate.json 's/"enabled": true/"enabled": "yes"/'
must_fail bicep infra/app.bicep 's/param tags object/param tags/'
must_fail bicep infra/app.bicep 's/httpsOnly: true/httpsOnly: false/'
