#!/usr/bin/env bash
# Checks the deployment files: renders each overlay and validates it strictly against the schemas of two
# Kubernetes versions, scans for insecure settings, and lints the Dockerfile, compose.yaml, the workflows,
# the Bicep and the alert rules. Then breaks a copy of each input, and fails if its check still passes.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/installation.sh

# The current k3s, and the one before.
kubernetes_versions="1.37.0 1.36.0"

venv=target/manifests
install_venv "$venv" scripts/manifests-requirements.txt "the checkers"
PATH=$PWD/$venv/bin:$PATH

# promtool, from Debian's package of Prometheus, which is not installed: it would start a server.
has promtool || PATH=$PATH:$PWD/target/prometheus/usr/bin
has promtool || {
  echo "Unpacking promtool."
  rm -rf target/prometheus
  mkdir -p target/prometheus
  as_root apt-get update -qq
  (cd target/prometheus && apt-get download -qq prometheus && dpkg-deb --extract prometheus_*.deb . && rm prometheus_*.deb)
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Each check takes the root of a source tree.
rules() { python3 scripts/manifest_rules.py "$@"; }
validate() {
  local version
  for version in $kubernetes_versions; do
    kubernetes-validate --kubernetes-version "$version" --strict --quiet "$@" || return 1
  done
}
# render TREE: renders the overlays into $work/rendered.
render() {
  local overlay
  for overlay in "$1"/kustomize/overlays/*; do
    mkdir -p "$work/rendered"
    kubectl kustomize "$overlay" >"$work/rendered/$(basename "$overlay").yaml" || return 1
    validate "$work/rendered/$(basename "$overlay").yaml" || return 1
  done
  rules overlay "$work"/rendered/*.yaml
}
check_overlays() {
  rm -rf "$work/rendered"
  render "$1" && kubectl kustomize "$1/kustomize/argocd" >/dev/null
}
# render_with TREE COMPONENT: renders the overlays with a component, added as docs/deploy.md says. The
# release overlay is based on k3s.
render_with() {
  rm -rf "$work/rendered" "$work/with"
  mkdir "$work/with"
  cp -R "$1/kustomize" "$work/with" || return 1
  local overlay
  for overlay in k3s azure; do
    printf 'components:\n  - ../../components/%s\n' "$2" >>"$work/with/kustomize/overlays/$overlay/kustomization.yaml"
  done
  render "$work/with"
}
check_telemetry() {
  render_with "$1" telemetry || return 1
  local rendered
  for rendered in "$work"/rendered/*.yaml; do
    grep -q '^  OTEL_EXPORTER_OTLP_ENDPOINT: http://' "$rendered" && grep -q '^  REDIS_URL: ' "$rendered" || return 1
  done
}
check_alerts() { promtool check rules "$1/docs/operate/alerts.yaml"; }
check_keys() {
  render_with "$1" function-keys || return 1
  "$1/scripts/function-keys.sh" >"$work/with/secret.yaml" || return 1
  validate "$work/with/secret.yaml" && rules keys "$work/with/secret.yaml"
}
scan() { checkov --config-file scripts/checkov.yaml --framework "$1" "${@:2}"; }
check_policies() {
  check_overlays "$1" && scan kubernetes --directory "$work/rendered"
}
check_dockerfile() { hadolint "$1/Dockerfile" "$1/.devcontainer/Dockerfile" && scan dockerfile --file "$1/Dockerfile"; }
check_compose() { check-jsonschema --builtin-schema vendor.compose-spec "$1/compose.yaml"; }
check_workflows() {
  check-jsonschema --builtin-schema vendor.github-workflows "$1"/.github/workflows/*.yaml &&
    check-jsonschema --builtin-schema vendor.renovate "$1/.github/renovate.json" &&
    rules actions "$1"/.github/workflows/*.yaml &&
    scan github_actions --directory "$1"
}
check_bicep() {
  # The scanner passes if it cannot parse a file, and only reports that.
  local said
  said=$(scan bicep --directory "$1/infra" 2>&1) || { echo "$said"; return 1; }
  if grep -q "Parsing errors" <<<"$said"; then echo "$said"; return 1; fi
  rules bicep "$1"/infra/*.bicep
}

checks="overlays telemetry alerts keys policies dockerfile compose workflows bicep"
for check in $checks; do
  if ! said=$("check_$check" . 2>&1); then
    echo "$said"
    echo "FAILED: $check"
    exit 1
  fi
  echo "ok: $check"
done

# must_fail CHECK FILE SED: the check fails on a tree in which this edit broke this file.
must_fail() {
  local check=$1 file=$2 edit=$3 tree=$work/broken
  rm -rf "$tree"
  mkdir -p "$tree"
  cp -R .devcontainer .github docs kustomize infra scripts Dockerfile compose.yaml "$tree"
  sed -i "$edit" "$tree/$file"
  if cmp -s "$file" "$tree/$file"; then echo "$edit does not change $file"; exit 1; fi
  if "check_$check" "$tree" >/dev/null 2>&1; then
    echo "FAILED: the check of $check passes with $edit in $file"
    exit 1
  fi
  echo "ok: $check fails on $file with $edit"
}
base=kustomize/base/deployment.yaml
must_fail overlays $base 's/maxSurge: 1/maxSurges: 1/'
must_fail overlays kustomize/base/service.yaml 's/port: 80/port: eighty/'
must_fail overlays kustomize/overlays/k3s/kustomization.yaml 's/redis.yaml/rediss.yaml/'
must_fail overlays kustomize/base/namespace.yaml 's/Prune=false,//'
must_fail overlays kustomize/overlays/k3s/azurite.yaml 's/Prune=false,//'
must_fail overlays kustomize/overlays/k3s/azurite.yaml '/- apiVersion: v1/,/kind:/d; s/^      metadata:/    - metadata:/'
must_fail overlays kustomize/base/horizontalpodautoscaler.yaml 's/periodSeconds: 30/periodSeconds: soon/'
must_fail overlays kustomize/overlays/release/kustomization.yaml 's/newName: .*/newName: [ghcr.io]/'
must_fail telemetry kustomize/components/telemetry/kustomization.yaml 's/behavior: merge/behavior: replace/'
must_fail telemetry kustomize/components/telemetry/networkpolicy.yaml 's/podSelector:/podSelectors:/'
must_fail alerts docs/operate/alerts.yaml 's/histogram_quantile(/histogram_quantiles(/'
must_fail alerts docs/operate/alerts.yaml 's/for: 5m/for: five minutes/'
must_fail keys kustomize/components/function-keys/kustomization.yaml '/emptyDir: null/d'
must_fail keys scripts/function-keys.sh 's/head -c 40/head -c 4/'
must_fail keys scripts/function-keys.sh 's/"systemKeys": \[\]/"systemKeys": null/'
must_fail policies $base 's/readOnlyRootFilesystem: true/readOnlyRootFilesystem: false/'
must_fail policies $base 's/runAsNonRoot: true/runAsNonRoot: false/; s/runAsUser: 10001/runAsUser: 0/'
must_fail policies $base '/livenessProbe:/,/failureThreshold: 6/d'
must_fail policies $base '/limits:/,/memory: 512Mi/d'
must_fail policies kustomize/overlays/k3s/kustomization.yaml 's/newTag: 0.1.0/newTag: latest/'
must_fail dockerfile Dockerfile 's/^FROM rust:.* AS/FROM rust:latest AS/'
must_fail dockerfile Dockerfile '/^USER/d'
must_fail dockerfile .devcontainer/Dockerfile 's/azurite@[0-9.]*/azurite/'
must_fail compose compose.yaml 's/healthcheck:/healthchecks:/'
must_fail workflows .github/workflows/checks.yaml 's/runs-on:/run-on:/'
must_fail workflows .github/workflows/release.yaml 's/@[0-9a-f]* # v4.2.2/@v4/'
must_fail workflows .github/workflows/release.yaml 's/^  group:/  groups:/'
must_fail workflows .github/renovate.json 's/"enabled": true/"enabled": "yes"/'
must_fail bicep infra/app.bicep 's/param tags object/param tags/'
must_fail bicep infra/app.bicep 's/httpsOnly: true/httpsOnly: false/'
must_fail bicep infra/app.bicep "s/publicAccess: 'None'/publicAccess: 'Blob'/"
# Nested siblings, of which the scanner sees only the last.
nested="resource one 'federatedIdentityCredentials' = { name: 'one' }"
must_fail bicep infra/app.bicep "s/^resource identity .*/&\n  $nested\n  ${nested//one/two}/"
