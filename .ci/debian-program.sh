#!/bin/sh
# Sees to it that there is a program that tests need, and prints its path.
#
#   .ci/debian-program.sh VARIABLE PROGRAM FOLDER HINT PACKAGE...
#
# In this order: what VARIABLE names, PROGRAM in PATH, FOLDER/PROGRAM (FOLDER is below the workspace). When there is none,
# the Debian packages are unpacked into FOLDER, with those libraries of theirs that the machine has not: that takes no root
# and changes nothing of the machine. Where they do not run unpacked, root installs them, or sudo where it asks for no
# password. HINT says how else to get the program. Does nothing when the program is there.
set -eu

variable=$1 program=$2 folder=$3 hint=$4
shift 4
workspace=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
store=$workspace/$folder

fail() {
    printf '%s: %s\n' "$program" "$1" >&2
    exit 1
}

eval "own=\${$variable:-}"
if [ -n "$own" ]; then
    [ -f "$own" ] && [ -x "$own" ] || fail "$variable names $own, which is no program; correct it, or unset it"
    printf '%s\n' "$own"
    exit 0
fi

if command -v "$program"; then
    exit 0
fi

if [ -x "$store/$program" ]; then
    printf '%s\n' "$folder/$program"
    exit 0
fi

remedy="install it (Debian or Ubuntu: sudo apt-get install $1, $hint), or name one with $variable"
command -v apt-get >/dev/null 2>&1 || fail "it is missing; $remedy"

mkdir -p "$store"
work=$(mktemp -d "$store/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# `install_as COMMAND PACKAGE...`, COMMAND being empty or `sudo -n`. No service is to run: tests start what they need.
install_as() {
    as=$1
    shift
    {
        $as apt-get update &&
            $as env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y --no-install-recommends "$@"
    } >"$work/apt.log" 2>&1
}

# Of the packages, the ones with shared libraries that they need and the machine has not.
missing_libraries() {
    apt-cache $lists depends --important "$@" | sed -n 's/^ *Depends: *\(lib[a-z0-9.+-]*\)$/\1/p' | grep -v '^libjs-' | sort -u |
        while read -r library; do
            dpkg-query -W -f '${Status}' "$library" 2>/dev/null | grep -q 'ok installed' || printf '%s\n' "$library"
        done
}

# With the lists of packages that the machine has; where it has none, or old ones, with lists of our own.
download() {
    lists=
    # shellcheck disable=SC2046,SC2086 # lists of words
    (cd "$work" && apt-get $lists download "$@" $(missing_libraries "$@")) && return
    rm -f "$work"/*.deb
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    lists="-o Dir::State::lists=$work/lists -o Dir::Cache=$work/cache"
    # shellcheck disable=SC2046,SC2086 # likewise
    (cd "$work" && apt-get $lists update && apt-get $lists download "$@" $(missing_libraries "$@"))
}

# Unpacks the packages below the folder.
unpack() {
    download "$@" || return 1
    for archive in "$work"/*.deb; do
        dpkg -x "$archive" "$work/root" || return 1
    done
    rm -rf "$store/root"
    mv "$work/root" "$store/root"
}

# A starter for the unpacked program, which finds its libraries. Fails where the program does not run.
start_from_folder() {
    root=$store/root
    [ -x "$root/usr/bin/$program" ] || return 1
    libraries=$(find "$root" -name '*.so.*' -exec dirname {} + | sort -u | paste -sd :)
    printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" exec "%s" "$@"\n' "$libraries" "$root/usr/bin/$program" >"$work/starter"
    chmod 755 "$work/starter"
    "$work/starter" --version && mv "$work/starter" "$store/$program"
}

# Another program of the same packages may have been unpacked before.
if start_from_folder >"$work/unpack.log" 2>&1; then
    printf '%s\n' "$folder/$program"
    exit 0
fi

printf 'fetching %s\n' "$program" >&2
if unpack "$@" >"$work/unpack.log" 2>&1 && start_from_folder >>"$work/unpack.log" 2>&1; then
    printf '%s\n' "$folder/$program"
elif [ "$(id -u)" -eq 0 ] && install_as '' "$@"; then
    command -v "$program"
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null && install_as 'sudo -n' "$@"; then
    command -v "$program"
else
    cat "$work"/*.log | tail -n 5 >&2
    fail "it is missing and could not be fetched, apt's own message stands above; $remedy"
fi
