#!/bin/sh
# Sees to it that there is a Redis server for the tests of the bridge, and prints its path: REDIS_SERVER, `redis-server`
# in PATH, or target/redis/redis-server, where the Debian package is unpacked when there is none.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
exec "$here/../.ci/debian-program.sh" REDIS_SERVER redis-server target/redis 'macOS: brew install redis' redis-server redis-tools
