#!/bin/sh
# Sees to it that there is a Redis server for the tests of the bridge, and prints its path.
#
# In this order: REDIS_SERVER, `redis-server` in PATH, target/redis/redis-server. When there is none, the Debian package
# redis-server: installed by root, as in a container; unpacked below target/redis by anybody else, which changes nothing
# of the machine; installed through sudo where that asks for no password. Does nothing when a server is there.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
store=$here/../target/redis

fail() {
    printf 'cli/fetch-redis.sh: %s\n' "$1" >&2
    exit 1
}

if [ -n "${REDIS_SERVER:-}" ]; then
    [ -f "$REDIS_SERVER" ] && [ -x "$REDIS_SERVER" ] ||
        fail "REDIS_SERVER names $REDIS_SERVER, which is no program; correct it, or unset it"
    printf '%s\n' "$REDIS_SERVER"
    exit 0
fi

if command -v redis-server; then
    exit 0
fi

if [ -x "$store/redis-server" ]; then
    printf '%s\n' target/redis/redis-server
    exit 0
fi

remedy='install it (Debian or Ubuntu: sudo apt-get install redis-server, macOS: brew install redis), or name one with REDIS_SERVER'
command -v apt-get >/dev/null 2>&1 || fail "redis-server is missing; $remedy"

mkdir -p "$store"
work=$(mktemp -d "$store/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# `install_as ""` or `install_as "sudo -n"`. The service is not to run: the tests start servers of their own.
install_as() {
    {
        $1 apt-get update &&
            $1 env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y --no-install-recommends redis-server
    } >"$work/apt.log" 2>&1
}

# The package and what it needs that is not there, below target/redis, with a starter that finds the libraries.
unpack() {
    needed=$(apt-cache depends --important redis-tools | sed -n 's/^ *Depends: *\([a-z0-9.+-]*\)$/\1/p')
    missing=
    for package in $needed; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
    done
    # shellcheck disable=SC2086 # a list of names
    (cd "$work" && apt-get download redis-server redis-tools $missing) || return 1
    for archive in "$work"/*.deb; do
        dpkg -x "$archive" "$work/root" || return 1
    done
    root=$(CDPATH='' cd -- "$store" && pwd)/root
    libraries=$(cd "$work/root" && find . -name '*.so.*' -exec dirname {} + | sort -u | sed "s|^\.|$root|" | paste -sd :)
    printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" exec "%s" "$@"\n' "$libraries" "$root/usr/bin/redis-server" >"$work/starter"
    chmod 755 "$work/starter"
    rm -rf "$store/root"
    mv "$work/root" "$store/root"
    "$work/starter" --version && mv "$work/starter" "$store/redis-server"
}

printf 'fetching redis-server\n' >&2
if [ "$(id -u)" -eq 0 ] && install_as ''; then
    command -v redis-server
elif unpack >"$work/unpack.log" 2>&1; then
    printf '%s\n' target/redis/redis-server
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null && install_as 'sudo -n'; then
    command -v redis-server
else
    cat "$work"/*.log | tail -n 5 >&2
    fail "redis-server is missing and could not be fetched, apt's own message stands above; $remedy"
fi
