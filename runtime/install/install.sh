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

# Installs files into the folder $1, where they keep their names.
files() {
    into=$1
    shift
    folder "$into"
    install -m 644 -t "$root/$into" "$@"
    for one; do printf '%s\n' "$into/${one##*/}"; done >>"$new"
}

# Removes the files that the list $1 names.
clear_files() {
    grep -v '/$' "$1" | (cd "$root" && tr '\n' '\0' | xargs -0 rm -f --)
}

# Removes what the list names, folders last and only empty ones.
clear_list() {
    clear_files "$1"
    grep '/$' "$1" | sort -r | (cd "$root" && tr '\n' '\0' | xargs -0 rmdir -- 2>/dev/null) || :
}

case $verb in
install)
    new=$(mktemp)
    trap 'rm -f "$new"' EXIT
    if [ -f "$root/$list" ]; then # an older version: its folders stay ours, its files may be gone in this one
        grep '/$' "$root/$list" >"$new" || :
        clear_files "$root/$list"
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
    set --
    for script in scripts/*.lua; do # but for the sample of what verify expects
        [ "$script" = scripts/expect.lua ] || set -- "$@" "$script"
    done
    files share/dbrun/scripts "$@"
    find lua -type d | sort >"$new.lua"
    while IFS= read -r name; do
        set -- "$name"/*.lua
        if [ -f "$1" ]; then files "share/dbrun/$name" "$@"; fi
    done <"$new.lua"
    rm -f "$new.lua"
    files share/dbrun/lua/manual lua/manual/*.md
    files share/man/man1 "$build"/man/*.1
    files share/doc/dbrun LICENSE README.md CHANGELOG.md
    files share/doc/dbrun/html "$build"/manual/*
    files share/bash-completion/completions "$build/completion/dbrun"
    files share/zsh/site-functions "$build/completion/_dbrun"
    files share/fish/vendor_completions.d "$build/completion/dbrun.fish"
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
