#!/bin/sh
# packages.sh NAME...: installs the Debian packages that are missing.
# As root directly, else through sudo; without either it prints the one line to run and fails.
# One dpkg-query answers for all, so nothing to install costs a few milliseconds.
set -u

if ! command -v dpkg-query >/dev/null 2>&1; then
    exit 0 # not a Debian system: the compiler will say what it misses
fi

installed=" $(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
    sed -n 's/^installed //p' | tr '\n' ' ') "
missing=
for package in "$@"; do
    case "$installed" in
    *" $package "*) ;;
    *) missing="$missing $package" ;;
    esac
done
[ -z "$missing" ] && exit 0

# RUNLEVEL=1 keeps the packages from starting the system's own servers: none is needed here.
settings="DEBIAN_FRONTEND=noninteractive RUNLEVEL=1"
line="apt-get install -y --no-install-recommends$missing"

if [ "$(id -u)" = 0 ]; then
    run="env $settings"
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    run="sudo -n env $settings"
elif command -v sudo >/dev/null 2>&1 && [ -t 0 ]; then
    run="sudo env $settings"
else
    echo "Packages are missing. As root, run:" >&2
    echo "$line" >&2
    exit 1
fi

echo "installing:$missing"
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
if ! { $run apt-get -q update && $run $line; } >"$log" 2>&1; then
    cat "$log" >&2
    echo "The packages could not be installed. As root, run: $line" >&2
    exit 1
fi
