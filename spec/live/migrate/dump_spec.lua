-- dbrun migrate dump: what the text of a schema is.
local process = require "dbrun.process"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"

describe("dbrun migrate dump", function()
    local url, name

    local lacking <const> = servers.pg_dump_lacks()
    if lacking then return pending(lacking) end

    before_each(function() url, name = servers.database() end)

    local function dump()
        local result = scripts.run("migrate", { "dump", "--file", "-" }, { DATABASE_URL = url })
        assert.equal(0, result.code, result.text)
        return result.stdout
    end

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
