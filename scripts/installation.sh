# Functions of the scripts that install something; sourced by them.

has() { command -v "$1" >/dev/null 2>&1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
apt_install() {
  has apt-get || { echo "Please install $*, and run this again." >&2; exit 1; }
  as_root apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# require_node MAJOR WHAT: installs Node.js if it is missing. Fails if it is older than WHAT needs.
require_node() {
  has npm || apt_install nodejs npm
  node=$(node --version)
  major=${node#v}
  if [ "${major%%.*}" -lt "$1" ]; then
    echo "$2 needs Node.js $1 or later, and this is $node." >&2
    exit 1
  fi
}

# install_venv FOLDER REQUIREMENTS WHAT: makes a virtual environment of Python with these packages,
# unless it has them.
install_venv() {
  if cmp -s "$2" "$1/installed.txt"; then return; fi
  echo "Installing $3."
  rm -rf "$1"
  python3 -m venv "$1" >/dev/null 2>&1 || {
    apt_install python3-venv
    python3 -m venv "$1"
  }
  "$1/bin/pip" install --quiet --disable-pip-version-check -r "$2"
  cp "$2" "$1/installed.txt"
}
