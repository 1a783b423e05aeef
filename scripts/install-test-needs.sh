#!/usr/bin/env bash
# Installs what the tests drive for real, from Debian's packages; does nothing where it is all there.
# On a laptop without root or apt a missing program is said, and the tests that need it are skipped; in CI that is a failure.
set -euo pipefail
needs=(logrotate:logrotate zstd:zstd xz:xz-utils bzip2:bzip2 gzip:gzip openssl:openssl tmux:tmux mount:mount zsh:zsh fish:fish setpriv:util-linux)
missing=()
for need in "${needs[@]}"; do
  command -v "${need%%:*}" >/dev/null 2>&1 || PATH="$PATH:/usr/sbin:/sbin" command -v "${need%%:*}" >/dev/null 2>&1 || missing+=("${need##*:}")
done
python3 -c "import jsonschema" >/dev/null 2>&1 || missing+=(python3 python3-jsonschema)
[ "${#missing[@]}" -eq 0 ] && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >&2
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
  exit 0
fi
echo "These programs are missing, and their tests will be skipped: ${missing[*]} (install them with your package manager)" >&2
[ "${CI:-}" = "true" ] && exit 1
exit 0
