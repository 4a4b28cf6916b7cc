#!/bin/sh
# make lint: every check runs, also when an earlier one failed; exit status 1 when any did.
set -u
failed=0
INCDIRS="-Iruntime -isystem ${LUA_INCDIR:-/usr/include/lua5.4} -isystem ${PQ_INCDIR:-/usr/include/postgresql}"
WARN="-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion -Werror"
C_FILES=$(find runtime spec -name '*.c' | sort)
H_FILES=$(find runtime spec -name '*.h' | sort)

check() { # check NAME COMMAND...
    name=$1
    shift
    if "$@"; then
        echo "ok    $name"
    else
        echo "FAIL  $name"
        failed=1
    fi
}

gen=$(mktemp -d) || exit 1
trap 'rm -rf "$gen"' EXIT
printf '#define DBRUN_VERSION "lint"\n#define DBRUN_PREFIX "/usr/local"\n' >"$gen/config.h"

# gcc really compiles: it finds some of its warnings only while optimising, and circles and order read its objects.
# clang finds all of its own while it parses. With LINT_OBJECTS, a folder that make WERROR=-Werror has filled, gcc compiles
# what is not there.
compile() { # compile CC FLAG
    files=
    for file in $C_FILES; do
        mkdir -p "$gen/$1/${file%/*}"
        object=${LINT_OBJECTS:+$PWD/$LINT_OBJECTS/${file%.c}.o}
        if [ "$1" = gcc ] && [ "$object" -nt "$file" ]; then
            ln -s "$object" "$gen/$1/${file%.c}.o"
        else
            files="$files $file"
        fi
    done
    printf '%s\n' $files | CC=$1 GEN=$gen FLAGS="-std=c11 -D_GNU_SOURCE -fPIC $2 $WARN $INCDIRS -I$gen" \
        xargs -n 1 -P "$(nproc)" sh -c '$CC $FLAGS -c -o "$GEN/$CC/${1%.c}.o" "$1"' sh
}

# Needs what compile gcc has left. Tools of the build have a program each and are not part of the whole.
circles() {
    rm -rf "$gen/gcc/runtime/host/embed"
    lua5.4 spec/support/circles.lua "$gen/gcc/runtime" runtime
}

# Needs what compile gcc has left, as circles does.
order() {
    lua5.4 spec/support/order.lua "$gen/gcc/runtime" runtime
}

# A folder of runtime/, and each folder of runtime/bind/, is a floor. It includes only floors below it (and itself).
floor_of() {
    case $1 in
    base) echo 0 ;;
    pg | redis | pool) echo 1 ;;
    io) echo 2 ;;
    connect | trace) echo 3 ;;
    task) echo 4 ;;
    bind/base) echo 5 ;;
    bind/os | bind/data) echo 6 ;;
    bind/pg | bind/redis) echo 7 ;;
    bind) echo 8 ;;
    host | host/embed) echo 9 ;;
    *) echo unknown ;;
    esac
}

floors() {
    status=0
    for file in $(find runtime -name '*.[ch]' | sort); do
        own=$(dirname "${file#runtime/}")
        mine=$(floor_of "$own")
        if [ "$mine" = unknown ]; then
            echo "$file: the folder is no floor"
            status=1
            continue
        fi
        for other in $(sed -n 's|^#include "\([a-z_/]*\)/[a-z_0-9]*\.h".*|\1|p' "$file" | sort -u); do
            theirs=$(floor_of "$other")
            if [ "$theirs" = unknown ] || { [ "$other" != "$own" ] && [ "$theirs" -ge "$mine" ]; }; then
                echo "$file: floor $own must not include $other/"
                status=1
            fi
        done
        if [ "$mine" -lt 4 ] && grep -nE '#include [<"](lua|lauxlib|lualib)\.h' "$file" /dev/null; then
            echo "$file: no Lua below task/"
            status=1
        fi
        case $file in
        runtime/base/* | runtime/pg/* | runtime/redis/* | runtime/pool/* | runtime/io/poll.*)
            if grep -nE '#include [<"]uv\.h' "$file" /dev/null; then
                echo "$file: no libuv in base/, pg/, redis/, pool/, nor in io/poll"
                status=1
            fi
            ;;
        esac
    done
    return $status
}

# What a server answers is taken in one place, behind PQisBusy; a connect, on a thread of its own, has another. What
# libpq waits in by itself has none.
results() {
    calls='\<PQ(getResult|exec[A-Za-z]*|prepare|describe(Prepared|Portal)|fn)\>'
    found=$(grep -roE "$calls" --include='*.[ch]' --exclude=libpq.h runtime | sort)
    if [ "$found" != "runtime/connect/pg.c:PQgetResult
runtime/pg/machine_end.c:PQgetResult" ]; then
        grep -rnE "$calls" --include='*.[ch]' runtime
        echo "PQgetResult stands once in pg/machine_end.c and once in connect/pg.c"
        return 1
    fi
}

# A script may set any locale.
locales() {
    lua5.4 spec/support/locale.lua $(find runtime/base runtime/pg runtime/redis runtime/pool runtime/connect \
        runtime/bind/data runtime/bind/pg runtime/bind/redis -name '*.[ch]' | sort) \
        $(find lua/dbrun/db lua/dbrun/redis lua/dbrun/seed -name '*.lua' | sort) \
        lua/dbrun/db.lua lua/dbrun/redis.lua lua/dbrun/json.lua lua/dbrun/time.lua lua/dbrun/url.lua
}

check "gcc -Werror" compile gcc -O2
check "clang -Werror" compile clang -fsyntax-only
check "clang-format" clang-format --dry-run -Werror $C_FILES $H_FILES
check "floors" floors
check "one place for results" results
check "no locale in codecs" locales
check "circles" circles
check "order of files" order
check "circles of modules" lua5.4 spec/support/requires.lua lua
check "manual" lua5.4 spec/support/documented.lua

# Both at the same time: each takes seconds on one core.
lua_check() { luacheck --max-line-length 120 -q --no-cache --no-color "$@"; }
lua_check --std lua54+busted --exclude-files spec/bench -- spec >"$gen/spec.out" 2>&1 &
specs=$!
check "luacheck lua scripts bench" lua_check --std lua54 lua scripts spec/bench runtime/bind/redis/table
wait "$specs"
specs=$?
cat "$gen/spec.out"
check "luacheck spec" [ "$specs" = 0 ]
exit $failed
