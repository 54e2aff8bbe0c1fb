#!/bin/sh
# Lays out the function app as in the image, without a container engine: scripts/layout.sh FOLDER BINARY
# copies into FOLDER what the Dockerfile copies to /home/site/wwwroot, with BINARY as the handler.
set -eu
folder=$1
binary=$(realpath "$2")
mkdir -p "$folder"
folder=$(realpath "$folder")
cd "$(dirname "$0")/.."

root=/home/site/wwwroot/
# The last stage's COPY lines, `COPY what /home/site/wwwroot/where`.
awk '/^FROM/ { last = "" } /^COPY/ { last = last $0 "\n" } END { printf "%s", last }' Dockerfile |
  while read -r _ what rest; do
    case "$what $rest" in
    "--from=binary /handler $root") cp "$binary" "$folder/handler" && chmod +x "$folder/handler" ;;
    --*) echo "layout.sh cannot read this line of the Dockerfile: COPY $what $rest" >&2; exit 1 ;;
    *" $root"*)
      where=$folder/${rest#"$root"}
      if [ -d "$what" ]; then mkdir -p "$where" && cp -R "$what/." "$where"; else cp "$what" "$where"; fi
      ;;
    *) echo "layout.sh cannot read this line of the Dockerfile: COPY $what $rest" >&2; exit 1 ;;
    esac
  done
