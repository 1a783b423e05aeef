#!/usr/bin/env bash
# Puts the jars of the Kafka broker that the tests start into the user's cache, through Maven; does nothing where they are.
# Prints the folder. Without Maven, Java or a network it says so and ends with 1: the tests are then skipped (in CI they fail).
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
version="${KAFKA_VERSION:-3.9.1}"
folder="${XDG_CACHE_HOME:-$HOME/.cache}/tailrace/kafka-$version"
complete="$folder/.complete-$(sha256sum "$here/kafka/pom.xml" | cut -c 1-12)"
if [ -e "$complete" ]; then
  echo "$folder"
  exit 0
fi
for program in mvn java; do
  if ! command -v "$program" >/dev/null 2>&1; then
    echo "Kafka's tests need $program (Debian: maven, default-jre-headless)" >&2
    exit 1
  fi
done
# One at a time. A fetch cut short leaves nothing that looks complete; Maven checks the sums of what it takes.
mkdir -p "$folder"
exec 9>"$folder/.lock"
flock 9
if [ -e "$complete" ]; then
  echo "$folder"
  exit 0
fi
mvn --batch-mode --quiet --strict-checksums -f "$here/kafka/pom.xml" -Dkafka.version="$version" \
  dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$folder" >&2
touch "$complete"
echo "$folder"
