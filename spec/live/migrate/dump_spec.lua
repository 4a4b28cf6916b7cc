-- dbrun migrate dump: the text of a schema.
local extensions = require "spec.support.extensions"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"

describe("dbrun migrate dump", function()
    local url, name

    local lacking <const> = servers.pg_dump_lacks()
    if lacking then return pending(lacking) end

    before_each(function() url, name = servers.database() end)

    local function run(env)
        env.DATABASE_URL = env.DATABASE_URL or url
        return scripts.run("migrate", { "dump", "--file", "-" }, env)
    end

    local function dump(env)
        local result = run(env or {})
        assert.equal(0, result.code, result.text)
        return result.stdout
    end

    ---Calls fn(env) with a pg_dump in PATH that prints a text.
    local function with_program(text, fn)
        local folder = scripts.folder { ["text"] = text }
        fs.write(folder .. "/pg_dump", ("#!/bin/sh\ncat '%s/text'\n"):format(folder))
        fs.chmod(folder .. "/pg_dump", tonumber("755", 8))
        local ok, e = pcall(fn, { PATH = folder .. ":" .. os.getenv "PATH" })
        fs.rmtree(folder)
        if not ok then error(e, 0) end
    end

    it("leaves out the numbers of columns that an older pg_dump writes", function()
        with_program([[
CREATE TABLE public."a
b" (i integer, t text DEFAULT 'ALTER TABLE ONLY x ALTER COLUMN i SET (pg_attver=1);
');
ALTER TABLE ONLY public."a
b" ALTER COLUMN i SET (pg_attver=4711);
ALTER FOREIGN TABLE ONLY public.f ALTER COLUMN i SET (n_distinct=4, pg_attver=4711);
ALTER TABLE ONLY public.f ALTER COLUMN t SET (pg_attver=4711, n_distinct=4);
ALTER TABLE ONLY public.f ALTER COLUMN t SET STORAGE PLAIN;
]], function(env)
            assert.matches([[
CREATE TABLE public."a
b" (i integer, t text DEFAULT 'ALTER TABLE ONLY x ALTER COLUMN i SET (pg_attver=1);
');
ALTER FOREIGN TABLE ONLY public.f ALTER COLUMN i SET (n_distinct=4);
ALTER TABLE ONLY public.f ALTER COLUMN t SET (n_distinct=4);
ALTER TABLE ONLY public.f ALTER COLUMN t SET STORAGE PLAIN;
]], dump(env), 1, true)
        end)
    end)

    it("warns when Citus distributes tables", function()
        if not extensions.is_there "citus" then pending "citus is not installed" end
        local server <close> = servers.postgres { settings = { shared_preload_libraries = "citus" } }
        local address = server:address {}
        server:psql "create extension citus"
        assert.equal("", run({ DATABASE_URL = address }).stderr)
        server:psql "create table spread (i int); create table everywhere (i int)"
        server:psql "select create_distributed_table('spread', 'i'), create_reference_table('everywhere')"
        local result = run { DATABASE_URL = address }
        assert.equal(0, result.code, result.text)
        assert.matches("^migrate: warning: [^\n]*%(everywhere, spread%)[^\n]*create_distributed_table%(%)",
            result.stderr)
        assert.matches("CREATE TABLE public.spread", result.stdout, 1, true)
    end)

    it("names the missing right", function()
        local role = "spec_dump_" .. name:gsub("%W", "_")
        local server = servers.shared_postgres()
        server:psql(("create table t (i int); create role %s login"):format(role), name)
        local result = run { DATABASE_URL = server:address { database = name, user = role } }
        assert.equal(1, result.code, result.text)
        assert.equal("", result.stdout)
        assert.matches("permission denied for table t\n", result.stderr, 1, true)
        assert.matches("hint: pg_dump locks and reads what it writes: grant select", result.stderr, 1, true)
        server:psql("drop role " .. role, name)
    end)

    it("leaves \\restrict out at head and foot, and every line of a string where it is", function()
        servers.shared_postgres():psql([[create function f() returns text language sql as $$ select '
\restrict a
\unrestrict b

-- c' $$]], name)
        local text = dump()
        assert.equal(text, dump())
        assert.matches("select '\n\\restrict a\n\\unrestrict b\n\n-- c'", text, 1, true)
        assert.equal(1, select(2, text:gsub("\\restrict", "")))
        assert.equal(1, select(2, text:gsub("\\unrestrict", "")))
        local loaded = process.run { "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", (servers.database()),
            stdin = text }
        assert.equal(0, loaded.code, loaded.stderr)
    end)
end)
