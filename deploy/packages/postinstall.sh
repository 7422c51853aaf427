#!/bin/sh
# Runs after an installation and after an upgrade, as deb ("configure", and the old version
# if there was one) and as rpm (the number of versions: 1, then 2).
# The service is not started by its installation: it has neither key nor repository yet.
set -e

[ "$1" = configure ] || [ "$1" -ge 1 ] 2>/dev/null || exit 0

# Nothing runs where an image is being built, and what runs here is not what is installed
# into the root of another.
[ -d /run/systemd/system ] && [ -z "${DPKG_ROOT:-}" ] || exit 0

systemctl daemon-reload

# What runs goes on with the new version.
systemctl try-restart omni-syncd.service || true
