#!/bin/sh
# Runs after a removal (deb: "remove", then "purge" if asked; rpm: 0) and after an upgrade.
# A purge, which rpm does not know, takes the keys, the clones and the history along.
set -e

if [ -d /run/systemd/system ] && [ -z "${DPKG_ROOT:-}" ]; then
  systemctl daemon-reload || true
fi

if [ "$1" = purge ]; then
  root=${DPKG_ROOT:-}
  rm -rf "$root/etc/omni-syncd" "$root/etc/systemd/system/omni-syncd.service.d" \
    "$root/var/lib/private/omni-syncd"

  # Made by systemd, and a link to the directory of the user that came and went.
  if [ -L "$root/var/lib/omni-syncd" ]; then
    rm -f "$root/var/lib/omni-syncd"
  fi
fi
