#!/bin/sh
# make install and make uninstall:
#   install.sh install|uninstall DESTDIR PREFIX BUILD
# What was installed is listed in share/dbrun/installed, a path below the prefix on each line, folders that were made for
# it with a slash behind. Uninstalling removes what the list names, so it leaves no folder that installing has made, and
# takes no file that somebody else has put beside.
set -eu
umask 022
verb=$1 root=$2$3 build=$4
list=share/dbrun/installed

# Makes the folder $1 below the root, and those above it, and lists the ones that were not there.
folder() {
    [ -d "$root/$1" ] && return 0
    case $1 in */*) folder "${1%/*}" ;; esac
    mkdir "$root/$1"
    printf '%s/\n' "$1" >>"$new"
}

# Installs the file $1 as $2 with the mode $3.
file() {
    folder "${2%/*}"
    install -m "$3" "$1" "$root/$2"
    printf '%s\n' "$2" >>"$new"
}

# Removes what the list names, folders last and only empty ones.
clear_list() {
    while IFS= read -r name; do
        case $name in */) ;; *) rm -f "$root/$name" ;; esac
    done <"$1"
    grep '/$' "$1" | sort -r | while IFS= read -r name; do
        rmdir "$root/$name" 2>/dev/null || :
    done
}

case $verb in
install)
    new=$(mktemp)
    trap 'rm -f "$new"' EXIT
    if [ -f "$root/$list" ]; then # an older version: its folders stay ours, its files may be gone in this one
        grep '/$' "$root/$list" >"$new" || :
        while IFS= read -r name; do
            case $name in */) ;; *) rm -f "$root/$name" ;; esac
        done <"$root/$list"
    fi
    if [ ! -d "$root" ]; then # the number of folders that are made, from the root upwards
        made=0 at=$root
        while [ ! -d "$at" ]; do
            made=$((made + 1)) at=$(dirname "$at")
        done
        mkdir -p "$root"
        echo "./$made/" >>"$new"
    fi
    folder bin
    file "$build/dbrun" bin/dbrun 755
    for script in scripts/*.lua; do
        case $script in scripts/expect.lua) continue ;; esac # the sample of what verify expects
        file "$script" "share/dbrun/$script" 644
    done
    find lua '(' -name '*.lua' -o -path 'lua/manual/*.md' ')' | sort >"$new.lua"
    while IFS= read -r name; do
        file "$name" "share/dbrun/$name" 644
    done <"$new.lua"
    rm -f "$new.lua"
    for page in "$build"/man/*.1; do
        file "$page" "share/man/man1/${page##*/}" 644
    done
    for text in LICENSE README.md CHANGELOG.md; do
        file "$text" "share/doc/dbrun/$text" 644
    done
    for page in "$build"/manual/*; do
        file "$page" "share/doc/dbrun/html/${page##*/}" 644
    done
    echo "$list" >>"$new"
    sort -u "$new" >"$root/$list"
    chmod 644 "$root/$list"
    ;;
uninstall)
    if [ ! -f "$root/$list" ]; then # installed before there was a list
        rm -f "$root/bin/dbrun" "$root/share/man/man1/dbrun.1" "$root"/share/man/man1/dbrun-*.1
        rm -rf "$root/share/dbrun" "$root/share/doc/dbrun"
        exit 0
    fi
    old=$(mktemp)
    trap 'rm -f "$old"' EXIT
    cp "$root/$list" "$old"
    clear_list "$old"
    made=$(sed -n 's|^\./\([0-9]*\)/$|\1|p' "$old") at=$root
    while [ "${made:-0}" -gt 0 ] && rmdir "$at" 2>/dev/null; do
        made=$((made - 1)) at=$(dirname "$at")
    done
    [ ! -d "$root/share/dbrun" ] || echo "$root/share/dbrun has files of others, which stay" >&2
    ;;
esac
