#!/usr/bin/env bash
# Runs a command with what its tests need, where it may be had: Kafka's jars, a Docker engine.
# What can't be had is said here once; the tests that need it skip, or fail under CI=true.
set -uo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
cd "$here/.."

if [ -z "${PLIMSOLL_TEST_BROKER:-}" ]; then
    .venv/bin/python -c '
import sys
from infra.kafka import KafkaUnavailable, jars
try:
    jars()
except KafkaUnavailable as reason:
    sys.exit(f"Kafka: {reason}")' || true
fi

# An engine that was here is in use by others: only one that we had to start is stopped.
"$here/docker.sh" status >/dev/null 2>&1 && was_here=1 || was_here=
[ -n "$was_here" ] || "$here/docker.sh" start || true
"$@"
status=$?
[ -n "$was_here" ] || "$here/docker.sh" stop || true
exit "$status"
