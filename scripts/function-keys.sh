#!/bin/sh
# Prints a Secret with new random function keys, for kustomize/components/function-keys:
#   scripts/function-keys.sh | kubectl apply -f -
# The key named `default` is accepted by every function, the master key also by the host's admin API.
set -eu

key() { head -c 40 /dev/urandom | base64 | tr -d '\n=' | tr '+/' '-_'; }

cat <<END
apiVersion: v1
kind: Secret
metadata:
  name: function-keys
  namespace: cache-aside
type: Opaque
stringData:
  host.json: |
    {
      "masterKey": {"name": "master", "value": "$(key)", "encrypted": false},
      "functionKeys": [{"name": "default", "value": "$(key)", "encrypted": false}],
      "systemKeys": []
    }
END
