#!/bin/sh
# Runs before a removal (deb: "remove", rpm: 0) and before an upgrade, when nothing stops.
set -e

[ "$1" = remove ] || [ "$1" = 0 ] || exit 0
[ -z "${DPKG_ROOT:-}" ] || exit 0 # what runs here is not what is removed from the root of another

if [ -d /run/systemd/system ]; then
  systemctl disable --now omni-syncd.service || true
elif command -v systemctl >/dev/null; then
  systemctl disable omni-syncd.service || true
fi
