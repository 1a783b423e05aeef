#!/usr/bin/env bash
# The whole check: what the tests need is installed, then types, lint, unused code, then every test.
# Ends with a line "N passed, N failed".
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/install-test-needs.sh
npm run --silent build
npm run --silent check
report=$(mktemp)
trap 'rm -f "$report"' EXIT
status=0
npx vitest run --reporter=default --reporter=json --outputFile.json="$report" "$@" || status=$?
node scripts/closing-line.mjs "$report" || status=1
exit "$status"
