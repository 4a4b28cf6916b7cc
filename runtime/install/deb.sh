#!/bin/sh
# make deb: the Debian package, built from a copy of the project.
#   deb.sh source|package FOLDER VERSION
# `source` makes the copy, FOLDER/dbrun-VERSION with debian/ on top; `package` builds it too.
set -eu
verb=$1 folder=$2 copy=$2/dbrun-$3

need() {
    for program; do
        command -v "$program" >/dev/null && continue
        echo "make deb: $program is missing: sudo apt-get install debhelper dpkg-dev" >&2
        exit 2
    done
}

rm -rf "$folder"
mkdir -p "$copy"
if [ -e .git ]; then # what is built or private is not tracked
    git ls-files -z
else
    find . -type f ! -path './build/*' ! -path './.dbrun/*' ! -path ./.env -print0
fi | xargs -0 cp -P --parents -t "$copy"
[ -f "$copy/Makefile" ] || { echo "make deb: no files were copied: what does git ls-files say here?" >&2; exit 1; }
cp -R runtime/debian "$copy/debian"
[ "$verb" = package ] || exit 0
need dh dpkg-buildpackage
cd "$copy"
unset MAKEFLAGS MFLAGS MAKELEVEL # of this make: PREFIX= there is not the package's
dpkg-buildpackage -us -uc -b
cd ..
for package in *.deb; do echo "$folder/$package"; done
