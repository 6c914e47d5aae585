#!/bin/sh
# Sees to it that there are Prometheus and its promtool for the tests of the telemetry, and prints their paths: PROMETHEUS
# and PROMTOOL, or `prometheus` and `promtool` in PATH, or in target/prometheus, where the Debian package is unpacked when
# there are none.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
fetch() {
    "$here/../../.ci/debian-program.sh" "$1" "$2" target/prometheus 'macOS: brew install prometheus' prometheus
}
fetch PROMETHEUS prometheus
fetch PROMTOOL promtool
