#!/bin/sh
# Install what the tests start and Debian packages: Chromium (the web page), PostgreSQL,
# faketime, docker-compose (to check the compose file; no engine is needed).
set -eu

packages=""
command -v chromium >/dev/null || packages="$packages chromium"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || packages="$packages postgresql"
ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || packages="$packages faketime"
command -v docker-compose >/dev/null || packages="$packages docker-compose"
test -n "$packages" || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "as root: apt-get install --no-install-recommends$packages" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086  # a list of words
apt-get install -qq -y --no-install-recommends $packages >/dev/null
