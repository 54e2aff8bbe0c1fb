"""Rules for the deployment files that no schema or scanner knows.

    manifest_rules.py overlay FILE...   rendered Kubernetes manifests
    manifest_rules.py keys FILE         the Secret that scripts/function-keys.sh prints
    manifest_rules.py bicep FILE...     Bicep files, as the policy scanner's parser sees them
    manifest_rules.py actions FILE...   GitHub workflows

Prints each violation, and exits with 1 if there is one.
"""

import json
import re
import sys
from pathlib import Path

import yaml
from pycep import BicepParser


def overlay(file):
    for document in yaml.safe_load_all(Path(file).read_text()):
        kind = document["kind"]
        metadata = [document["metadata"]] if kind == "Namespace" else []
        for claim in document.get("spec", {}).get("volumeClaimTemplates", []):
            metadata.append(claim["metadata"])
            # Otherwise Argo CD's server-side apply never gets in sync.
            if "apiVersion" not in claim or "kind" not in claim:
                yield f"{file}: a volumeClaimTemplate of {kind} lacks apiVersion or kind"
        for data in metadata:
            options = data.get("annotations", {}).get("argocd.argoproj.io/sync-options", "")
            if not {"Prune=false", "Delete=false"} <= set(options.split(",")):
                yield f"{file}: Argo CD may delete {data['name']}, and the users with it"
        pod = document.get("spec", {}).get("template", {}).get("spec", {})
        for volume in pod.get("volumes", []):
            # The schema allows several sources, the API server does not.
            if len(volume) != 2:
                yield f"{file}: volume {volume['name']} has {len(volume) - 1} sources"


def keys(file):
    """The format that the Functions host reads: Security/KeyManagement/HostSecrets.cs in its source."""
    host = json.loads(yaml.safe_load(Path(file).read_text())["stringData"]["host.json"])
    values = [key["value"] for key in [host["masterKey"], *host["functionKeys"]]]
    if len(values) != 2 or len(set(values)) != 2 or any(len(value) < 40 for value in values):
        yield f"{file}: not two different keys of at least 40 characters"
    if host["systemKeys"] != [] or any(key["encrypted"] for key in host["functionKeys"]):
        yield f"{file}: not the host's format"


def bicep(file):
    text = Path(file).read_text()
    # The parser, and so the scanner, loses all but the last of nested sibling resources.
    declared = set(re.findall(r"^\s*resource (\w+) '", text, re.MULTILINE))
    seen = set(BicepParser().parse(text=text).get("resources", {}))
    for name in sorted(declared ^ seen):
        yield f"{file}: the scanner does not see resource {name}; is it nested, not `parent:`?"


def actions(file):
    for name, ref in re.findall(r"uses: *([\w./-]+)@(.*)", Path(file).read_text()):
        if not re.fullmatch(r"[0-9a-f]{40} # v\d+(\.\d+)*", ref):
            yield f"{file}: {name} is not pinned by digest, with its version in a comment"


rule, files = globals()[sys.argv[1]], sys.argv[2:]
violations = [violation for file in files for violation in rule(file)]
print("\n".join(violations), end="\n" if violations else "")
sys.exit(bool(violations))
