# dbrun: `make` builds ./build/dbrun, `make help` lists the rest.
#
# Everything is found by wildcard: a new runtime/<floor>/x.c, lua/dbrun/x.lua, spec/unit/c/test_x.c or
# spec/<kind>/<part>/x_spec.lua needs no change here. BUILD is the output folder; `make asan` calls this file again
# with BUILD=build/asan.

VERSION  := 0.1.0
PREFIX   ?= /usr/local
DESTDIR  ?=
BUILD    ?= build

# Debian packages: what building and running needs, and what testing and linting needs besides.
PACKAGES      := gcc make libc6-dev liblua5.4-dev libuv1-dev libpq-dev libhiredis-dev libssl-dev \
                 libjansson-dev libpg-query-dev libedit-dev libmimalloc2.0 lua-argparse postgresql-15 \
                 postgresql-client-15 redis-server
TEST_PACKAGES := $(PACKAGES) lua5.4 lua-busted lua-check lua-filesystem clang clang-format valgrind luarocks \
                 pgbouncer openssl procps iproute2 libxml2-utils perl python3-alembic python3-psycopg2

ifeq ($(origin CC),default)
CC          := gcc
endif
LUA_INCDIR  ?= /usr/include/lua5.4
LUA_LIB     ?= $(firstword $(wildcard /usr/lib/*/liblua5.4.a))
PQ_INCDIR   ?= /usr/include/postgresql
# A hiredis of another place, as pkg-config names it. From 1.0 on connections speak RESP3.
HIREDIS_CFLAGS ?=
HIREDIS_LIBS   ?= -lhiredis
ARGPARSE    ?= /usr/share/lua/5.4/argparse.lua
CFLAGS      ?= -O2 -g -DNDEBUG
WARN        := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion
# -Werror: the checks of gcc that make lint has (.ci/run).
WERROR      ?=
SANITIZE    ?=
CPPFLAGS_   := -D_GNU_SOURCE -Iruntime -I$(BUILD)/gen $(patsubst -I%,-isystem%,$(HIREDIS_CFLAGS)) -isystem $(LUA_INCDIR) -isystem $(PQ_INCDIR) $(CPPFLAGS)
CFLAGS_     := -std=c11 $(WARN) -fPIC -fvisibility=hidden -fno-common $(CFLAGS) $(WERROR) $(SANITIZE)
LDFLAGS_    := -Wl,--as-needed $(SANITIZE) $(LDFLAGS)
# libpq, libpg_query, libedit and mimalloc are opened when somebody needs them. The linker looks for each symbol of each
# library in this order at every start, and most are in the first two.
LIBS        := -lc -lcrypto -lssl $(HIREDIS_LIBS) -luv -ljansson -lpthread -ldl -lm

SOURCES      := $(wildcard runtime/*/*.c runtime/bind/*/*.c)
HOST_SOURCES := $(wildcard runtime/host/*.c)
CORE_SOURCES := $(filter-out $(HOST_SOURCES),$(SOURCES))
LUA_SOURCES  := $(sort $(shell find lua -name '*.lua'))
# The commands; the sample of what verify expects is none.
SCRIPTS      := $(filter-out scripts/expect.lua,$(sort $(wildcard scripts/*.lua)))
MANUAL       := $(sort $(wildcard lua/manual/*.md))
TEST_SOURCES := $(wildcard spec/unit/c/test_*.c)
FUZZ_SOURCES := $(wildcard spec/unit/c/fuzz_*.c)
TEST_SUPPORT := $(filter-out $(TEST_SOURCES) $(FUZZ_SOURCES),$(wildcard spec/unit/c/*.c))

CORE_OBJECTS := $(CORE_SOURCES:%.c=$(BUILD)/obj/%.o)
HOST_OBJECTS := $(HOST_SOURCES:%.c=$(BUILD)/obj/%.o) $(BUILD)/obj/embedded.o
SUPPORT_OBJS := $(TEST_SUPPORT:%.c=$(BUILD)/obj/%.o)
TESTS        := $(TEST_SOURCES:spec/unit/c/%.c=$(BUILD)/test/%)

DBRUN := $(BUILD)/dbrun
EMBED := $(BUILD)/embed
PAGE  := $(BUILD)/page
# The page of --trace FILE.html; the scripts in the order in which they stand in it.
VIEWER_PARTS := viewer.html viewer.css numbers.js timeline.js page.js
VIEWER := $(VIEWER_PARTS:%=runtime/trace/viewer/%)

# A value as one word of the shell.
quoted = '$(subst ','\'',$(1))'

# `make V=1` shows the commands.
ifeq ($(V),1)
SAY := @:
RUN :=
else
SAY := @printf '  %s\n'
RUN := @
endif

.PHONY: all core tests fuzzers deps test-deps help verify up down migrate seed test faults lint asan valgrind fuzz \
        migrate-fuzz batch-storm bench bench-failover redis-table width-table manual man completion deb install uninstall install-rock clean FORCE
.DELETE_ON_ERROR:
.SECONDARY:

all: $(DBRUN) core

core: $(BUILD)/core.so $(BUILD)/lib/dbrun/core.so

tests: $(TESTS)

help:
	@echo "make            build $(DBRUN)"
	@echo "make verify     packages, build, servers, migrations, seeds, then dbrun scripts/verify.lua --strict"
	@echo "make up | down  start | stop the private PostgreSQL and Redis in .dbrun/stack"
	@echo "make migrate    apply scripts/migrations      make seed   run scripts/seeds"
	@echo "make test       all tests; the last line counts them"
	@echo "make asan       the tests on an AddressSanitizer + UBSan + LeakSanitizer build (of commands in Lua a third)"
	@echo "make faults     each fault 100 times at random moments; DBRUN_TEST_SEED repeats them"
	@echo "make valgrind   the C tests under valgrind"
	@echo "make fuzz       libFuzzer on hostile input, FUZZ_SECONDS=$(FUZZ_SECONDS) for each program"
	@echo "make migrate-fuzz  $(MIGRATE_FILES) random migration files by dbrun and by psql: no difference"
	@echo "make batch-storm  a batch job under crashes, a failover and cut networks (root): each row is done once"
	@echo "make lint       gcc and clang with -Werror, clang-format, luacheck, floors, circles"
	@echo "make bench      compare with the installed peers: 8 minutes (ONLY=P4,B3, LONG=1; bench-failover: of Redis)"
	@echo "make redis-table COMMAND_FOLDERS=...   write the table of Redis commands anew (runtime/bind/redis/table)"
	@echo "make width-table UNICODE=$(UNICODE)   write the table of characters' widths anew (runtime/base/width)"
	@echo "make manual     the manual in HTML: $(BUILD)/manual/index.html"
	@echo "make install PREFIX=$(PREFIX) DESTDIR=$(DESTDIR)   make uninstall   make clean"
	@echo "make deb        the Debian package: $(BUILD)/deb/dbrun_$(VERSION)_*.deb"
	@echo "make deps       install the Debian packages that are missing"

# ---- building ----------------------------------------------------------------------------------------

# A value inside of a string of C.
c_text = $(subst ",\",$(subst \,\\,$(1)))

# Version and prefix as C; rewritten only when they change, so that they rebuild only what uses them.
$(BUILD)/gen/config.h: FORCE
	@mkdir -p $(@D)
	@printf '#define DBRUN_VERSION "%s"\n#define DBRUN_PREFIX "%s"\n' '$(VERSION)' $(call quoted,$(call c_text,$(PREFIX))) > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(BUILD)/obj/%.o: %.c | $(BUILD)/gen/config.h
	@mkdir -p $(@D)
	$(SAY) 'CC    $<'
	$(RUN)$(CC) $(CPPFLAGS_) $(CFLAGS_) -MMD -MP -c -o $@ $<

# The files of lua/ and the commands as bytecode inside the binary, the manual as text. The list is a file of its own, so that removing a
# source rebuilds too.
$(BUILD)/gen/lua.list: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' $(LUA_SOURCES) $(MANUAL) $(ARGPARSE) $(SCRIPTS) > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(EMBED): runtime/host/embed/embed.c $(LUA_LIB)
	@mkdir -p $(@D)
	$(SAY) 'CC    $<'
	$(RUN)$(CC) $(CPPFLAGS_) $(CFLAGS_) -o $@ $< $(LUA_LIB) $(SANITIZE) -lm -ldl

$(BUILD)/gen/embedded.c: $(EMBED) $(LUA_SOURCES) $(MANUAL) $(SCRIPTS) $(BUILD)/gen/viewer.html $(BUILD)/gen/lua.list
	$(SAY) 'EMBED lua'
	$(RUN)$(EMBED) $@ lua $(LUA_SOURCES) $(MANUAL) $(ARGPARSE) $(SCRIPTS) $(BUILD)/gen/viewer.html

$(PAGE): runtime/host/embed/page.c | $(BUILD)/gen/config.h
	@mkdir -p $(@D)
	$(SAY) 'CC    $<'
	$(RUN)$(CC) $(CPPFLAGS_) $(CFLAGS_) -o $@ $< $(SANITIZE) -lcrypto

$(BUILD)/gen/viewer.html: $(PAGE) $(VIEWER)
	$(SAY) 'PAGE  $@'
	$(RUN)$(PAGE) $@ $(VIEWER)

$(BUILD)/obj/embedded.o: $(BUILD)/gen/embedded.c runtime/host/embedded.h
	@mkdir -p $(@D)
	$(SAY) 'CC    $<'
	$(RUN)$(CC) $(CPPFLAGS_) $(CFLAGS_) -c -o $@ $<

# All of the Lua library goes in and its API is exported, so that C modules (lfs, term, ...) load.
$(DBRUN): $(CORE_OBJECTS) $(HOST_OBJECTS) $(LUA_LIB)
	$(SAY) 'LD    $@'
	$(RUN)$(CC) $(LDFLAGS_) -Wl,-E -o $@ $(CORE_OBJECTS) $(HOST_OBJECTS) \
	    -Wl,--whole-archive $(LUA_LIB) -Wl,--no-whole-archive $(LIBS)

# A thread that is stuck in a connect may outlive lua_close, hence nodelete.
$(BUILD)/core.so: $(CORE_OBJECTS)
	$(SAY) 'LD    $@'
	$(RUN)$(CC) $(LDFLAGS_) -shared -Wl,-z,nodelete -o $@ $(CORE_OBJECTS) $(LIBS)

$(BUILD)/lib/dbrun/core.so: $(BUILD)/core.so
	@mkdir -p $(@D)
	@ln -sf ../../core.so $@

# C tests link the members they use, so the tests of the lower floors carry no Lua.
$(BUILD)/libdbrun.a: $(CORE_OBJECTS) $(SUPPORT_OBJS)
	$(SAY) 'AR    $@'
	$(RUN)rm -f $@ && ar rcs $@ $^

$(BUILD)/test/%: $(BUILD)/obj/spec/unit/c/%.o $(BUILD)/libdbrun.a $(LUA_LIB)
	@mkdir -p $(@D)
	$(SAY) 'LD    $@'
	$(RUN)$(CC) $(LDFLAGS_) -o $@ $< $(BUILD)/libdbrun.a $(LUA_LIB) -lpq $(LIBS)

-include $(shell test -d $(BUILD)/obj && find $(BUILD)/obj -name '*.d')

# ---- packages ----------------------------------------------------------------------------------------

deps:
	@sh spec/support/packages.sh $(PACKAGES)

# What the specs call and Debian does not have goes into build/tools, where run.lua looks.
test-deps:
	@sh spec/support/packages.sh $(TEST_PACKAGES)
	@sh spec/support/tools.sh build/tools

# ---- using it ----------------------------------------------------------------------------------------

# With servers named by the environment or .env nothing is started; else the private stack is used.
STACK = $$(sh spec/support/servers_named.sh || echo --stack)

# Packages come before anything is compiled, also the first time, hence the second make.
SUBMAKE = $(MAKE) --no-print-directory -s -j$(shell nproc)

verify: deps
	@$(SUBMAKE) all
	@stack="$(STACK)"; \
	$(DBRUN) $$stack scripts/migrate.lua up && \
	$(DBRUN) $$stack scripts/seed.lua && \
	$(DBRUN) $$stack scripts/verify.lua --strict

up: deps
	@$(SUBMAKE) all
	@$(DBRUN) scripts/stack.lua up

down:
	@if [ -x $(DBRUN) ]; then $(DBRUN) scripts/stack.lua down; else echo "nothing is built, nothing to stop"; fi

migrate: deps
	@$(SUBMAKE) all
	@$(DBRUN) $(STACK) scripts/migrate.lua up

seed: deps
	@$(SUBMAKE) all
	@$(DBRUN) $(STACK) scripts/seed.lua

# ONLY=P4,B3: only these. LONG=1: the long form. BENCH_ARGS: see dbrun spec/bench/run.lua --help.
bench: deps
	@$(SUBMAKE) all
	@$(DBRUN) spec/bench/run.lua $(if $(ONLY),--only $(ONLY)) $(if $(LONG),--long) $(BENCH_ARGS)

bench-failover: deps
	@$(SUBMAKE) all
	@$(DBRUN) spec/bench/failover.lua $(BENCH_ARGS)

# ---- generated sources ----

# The table of Redis commands is committed; it is made anew when a server has new commands. COMMAND_FOLDERS are folders
# with descriptions of commands, src/commands of the servers' sources: newest first.
redis-table: $(DBRUN)
	@test -n "$(COMMAND_FOLDERS)" || { echo "make redis-table COMMAND_FOLDERS='redis/src/commands ...'" >&2; exit 2; }
	@$(DBRUN) runtime/bind/redis/table/generate.lua runtime/bind/redis/command_table.c $(COMMAND_FOLDERS)

# Unicode's files, as Debian's unicode-data has them.
UNICODE ?= /usr/share/unicode

width-table:
	@test -f "$(UNICODE)/EastAsianWidth.txt" || { echo "make width-table UNICODE=FOLDER (apt-get install unicode-data)" >&2; exit 2; }
	@lua5.4 runtime/base/width/generate.lua runtime/base/width_table.c "$(UNICODE)"

# ---- checking ----------------------------------------------------------------------------------------

RUN_TESTS = lua5.4 spec/support/run.lua

test: test-deps
	@$(SUBMAKE) all tests
	@$(DBRUN) $(STACK) scripts/migrate.lua up
	@$(DBRUN) $(STACK) scripts/seed.lua
	@$(RUN_TESTS) --build $(BUILD) spec/unit spec/live spec/faults

FAULTS := spec/faults/pg/each spec/faults/pg/copy_spec.lua spec/faults/pg/listen_spec.lua \
          spec/live/pg/finaliser_spec.lua \
          spec/unit/c/test_pg_memory.c spec/unit/c/test_redis_memory.c

ASAN_BUILD    := $(BUILD)/asan
ASAN_SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer

asan: test-deps
	@$(SUBMAKE) BUILD=$(ASAN_BUILD) SANITIZE="$(ASAN_SANITIZE)" CFLAGS="-O1 -g" all tests
	@$(RUN_TESTS) --sanitizers --build $(ASAN_BUILD) spec/unit spec/live spec/faults

# make test makes each of them a tenth as often. DBRUN_FAULT_ROUNDS and DBRUN_TEST_SEED may be set.
faults: test-deps
	@$(SUBMAKE) all tests
	@DBRUN_FAULT_ROUNDS=$${DBRUN_FAULT_ROUNDS:-100} DBRUN_TEST_STRIDE=1 DBRUN_TEST_SEED=$${DBRUN_TEST_SEED:-$$(date +%s)} \
	    $(RUN_TESTS) --build $(BUILD) --seconds 1200 $(FAULTS)

# Random migration files beside psql. make test compares 150; DBRUN_TEST_SEED makes others.
MIGRATE_FILES ?= 10000

migrate-fuzz: test-deps
	@$(SUBMAKE) all
	@DBRUN_MIGRATE_FILES=$(MIGRATE_FILES) $(RUN_TESTS) --build $(BUILD) --seconds 7200 spec/live/migrate/random_spec.lua

# make test has a short form of the crashes, and no cut network. DBRUN_TEST_SEED repeats one.
batch-storm: test-deps
	@$(SUBMAKE) all
	@DBRUN_BATCH_ROWS=$${DBRUN_BATCH_ROWS:-200000} DBRUN_BATCH_FAULTS=$${DBRUN_BATCH_FAULTS:-200} \
	    DBRUN_BATCH_CUTS=$${DBRUN_BATCH_CUTS:-10} $(RUN_TESTS) --build $(BUILD) --seconds 3600 spec/faults/batch

valgrind: test-deps
	@$(SUBMAKE) tests
	@$(RUN_TESTS) --valgrind --build $(BUILD)

# Each spec/unit/c/fuzz_*.c is a program of its own, with its words in a .dict. What it learns stays in $(BUILD)/fuzz/corpus; an input
# that makes it fail is kept beside it.
FUZZ_SECONDS  ?= 60
FUZZ_BUILD    := $(BUILD)/fuzz
FUZZ_SANITIZE := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
FUZZERS       := $(FUZZ_SOURCES:spec/unit/c/%.c=$(BUILD)/%)

$(BUILD)/fuzz_%: $(BUILD)/obj/spec/unit/c/fuzz_%.o $(BUILD)/libdbrun.a $(LUA_LIB)
	$(SAY) 'LD    $@'
	$(RUN)$(CC) $(LDFLAGS_) -fsanitize=fuzzer -o $@ $< $(BUILD)/libdbrun.a $(LUA_LIB) -lpq $(LIBS)

fuzzers: $(FUZZERS)

fuzz: test-deps
	@$(SUBMAKE) BUILD=$(FUZZ_BUILD) CC=clang SANITIZE="$(FUZZ_SANITIZE)" CFLAGS="-O1 -g" fuzzers
	@set -e; for program in $(FUZZ_SOURCES:spec/unit/c/%.c=%); do \
	    corpus=$(FUZZ_BUILD)/corpus/$$program; mkdir -p $$corpus; \
	    $(FUZZ_BUILD)/$$program -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
	        -dict=spec/unit/c/$$program.dict -print_final_stats=1 -verbosity=0 -artifact_prefix=$$corpus- $$corpus; \
	    echo "$$program: nothing found in $(FUZZ_SECONDS) s"; \
	done

lint: test-deps
	@sh spec/support/lint.sh

# ---- the manual ----

manual: $(DBRUN)
	@$(DBRUN) -e 'require("dbrun.manual.site").write "$(BUILD)/manual"'
	@echo "$(BUILD)/manual/index.html"

man: $(DBRUN)
	@$(DBRUN) -e 'require("dbrun.manual.man").write "$(BUILD)/man"'

# ---- installing --------------------------------------------------------------------------------------

completion: $(DBRUN)
	@mkdir -p $(BUILD)/completion
	@$(DBRUN) completion bash > $(BUILD)/completion/dbrun
	@$(DBRUN) completion zsh > $(BUILD)/completion/_dbrun
	@$(DBRUN) completion fish > $(BUILD)/completion/dbrun.fish

install: all manual man completion
	@sh runtime/install/install.sh install $(call quoted,$(DESTDIR)) $(call quoted,$(PREFIX)) $(call quoted,$(BUILD))

uninstall:
	@sh runtime/install/install.sh uninstall $(call quoted,$(DESTDIR)) $(call quoted,$(PREFIX)) $(call quoted,$(BUILD))

# The Debian package, in $(BUILD)/deb.
deb:
	@sh runtime/install/deb.sh package $(call quoted,$(BUILD)/deb) '$(VERSION)'

# For the rockspec: INST_LIBDIR and INST_LUADIR are the rock's folders.
install-rock: core
	install -D -m 755 $(BUILD)/core.so $(call quoted,$(INST_LIBDIR)/dbrun/core.so)
	@set -e; find lua -name '*.lua' | while IFS= read -r file; do \
	    install -D -m 644 "$$file" $(call quoted,$(INST_LUADIR))/"$${file#lua/}"; \
	done; \
	find lua/manual -name '*.md' | while IFS= read -r file; do \
	    install -D -m 644 "$$file" $(call quoted,$(INST_LUADIR))/dbrun/manual/chapters/"$${file#lua/manual/}"; \
	done

clean:
	rm -rf $(BUILD)
