#!/usr/bin/env bash
# Installs what the tests drive for real: programs and servers from Debian's packages, DuckDB from PyPI, Kafka's jars
# through Maven; does nothing where it is all there. What the servers need to run is made by the tests themselves.
# On a laptop without root or apt a missing program is said, and the tests that need it are skipped; in CI that is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

# program:package; a program is looked for where Debian puts those of administrators and of PostgreSQL, too.
needs=(
  logrotate:logrotate zstd:zstd xz:xz-utils bzip2:bzip2 gzip:gzip openssl:openssl tmux:tmux mount:mount ip:iproute2 zsh:zsh fish:fish
  setpriv:util-linux ps:procps ruby:ruby python3:python3 initdb:postgresql nats-server:nats-server
  java:default-jre-headless mvn:maven
)
PATH="$PATH:/usr/sbin:/sbin$(printf ':%s' /usr/lib/postgresql/*/bin)"
missing=()
for need in "${needs[@]}"; do
  command -v "${need%%:*}" >/dev/null 2>&1 || missing+=("${need##*:}")
done
python3 -c "import jsonschema" >/dev/null 2>&1 || missing+=(python3-jsonschema)
# The Node package of DuckDB, which reads back what the parquet sink wrote, is too large for `npm ci`.
duckdb="${XDG_CACHE_HOME:-$HOME/.cache}/tailrace-tests/duckdb"
[ -d "$duckdb/duckdb" ] || python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)

failed=()
if [ "${#missing[@]}" -gt 0 ]; then
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 || failed+=("${missing[@]}")
  else
    failed+=("${missing[@]}")
  fi
fi
if [ ! -d "$duckdb/duckdb" ]; then
  if python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$duckdb.part" 'duckdb==1.*' >&2; then
    rm -rf "$duckdb" && mv "$duckdb.part" "$duckdb"
  else
    rm -rf "$duckdb.part"
    failed+=("duckdb (PyPI)")
  fi
fi
bash scripts/fetch-kafka.sh >/dev/null || failed+=("Kafka's jars (Maven)")

[ "${#failed[@]}" -eq 0 ] && exit 0
echo "These are missing, and the tests that need them will be skipped: ${failed[*]}" >&2
[ "${CI:-}" = "true" ] && exit 1
exit 0
