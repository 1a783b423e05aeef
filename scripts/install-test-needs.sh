#!/usr/bin/env bash
# Installs what the tests drive for real, from Debian's packages; does nothing where it is all there.
# On a laptop without root or apt a missing program is said, and the tests that need it are skipped; in CI that is a failure.
set -euo pipefail
needs=(logrotate:logrotate zstd:zstd xz:xz-utils bzip2:bzip2 gzip:gzip openssl:openssl tmux:tmux mount:mount zsh:zsh fish:fish setpriv:util-linux ruby:ruby ps:procps)
missing=()
for need in "${needs[@]}"; do
  command -v "${need%%:*}" >/dev/null 2>&1 || PATH="$PATH:/usr/sbin:/sbin" command -v "${need%%:*}" >/dev/null 2>&1 || missing+=("${need##*:}")
done
python3 -c "import jsonschema" >/dev/null 2>&1 || missing+=(python3 python3-jsonschema)
# DuckDB reads back what the parquet sink wrote. From PyPI into a folder of its own: the Node package is too large for npm ci.
duckdb="${XDG_CACHE_HOME:-$HOME/.cache}/tailrace-tests/duckdb"
[ -d "$duckdb/duckdb" ] || python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
install_duckdb() {
  [ -d "$duckdb/duckdb" ] && return 0
  if python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$duckdb.part" 'duckdb==1.*' >&2; then
    rm -rf "$duckdb" && mv "$duckdb.part" "$duckdb"
    return 0
  fi
  rm -rf "$duckdb.part"
  echo "DuckDB cannot be had from PyPI, and the tests that read Parquet files with it will be skipped" >&2
  [ "${CI:-}" != "true" ]
}
if [ "${#missing[@]}" -eq 0 ]; then
  install_duckdb
  exit 0
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >&2
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
  install_duckdb
  exit 0
fi
echo "These programs are missing, and their tests will be skipped: ${missing[*]} (install them with your package manager)" >&2
[ "${CI:-}" = "true" ] && exit 1
exit 0
