-- A dbmate project, applied by dbrun, compared with the same statements run by psql.
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"

local DIRS <const> = { "spec/support/dbmate/db/migrations", "spec/support/dbmate/db/more" }

---The files in dbmate's order, split only at their directive lines, for psql.
local function reference()
    local list = {}
    for _, dir in ipairs(DIRS) do
        for _, name in ipairs(fs.list(dir)) do
            if name:find "^%d+.*%.sql$" then list[#list + 1] = { name = name, path = dir .. "/" .. name } end
        end
    end
    table.sort(list, function(a, b) return a.name < b.name end)
    for _, file in ipairs(list) do
        local section
        file.up, file.down = {}, {}
        for line in (fs.read(file.path) .. "\n"):gmatch "(.-)\n" do
            local word = line:match "^%-%-%s*migrate:(%l+)"
            if word == "up" or word == "down" then section = word
            elseif section then table.insert(file[section], line) end
        end
        file.up, file.down = table.concat(file.up, "\n"), table.concat(file.down, "\n")
    end
    return list
end

describe("a project of dbmate", function()
    if servers.version() < 14 then return pending "PostgreSQL 13 has no functions with BEGIN ATOMIC" end

    local ours, theirs, url, other_url, list

    before_each(function()
        url, ours = servers.database()
        other_url, theirs = servers.database()
        list = reference()
        servers.shared_postgres():psql("create table schema_migrations (version varchar primary key)", theirs)
    end)

    local function psql(direction)
        local from, to, step = 1, #list, 1
        if direction == "down" then from, to, step = #list, 1, -1 end
        for i = from, to, step do
            local result = process.run { "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", other_url,
                stdin = list[i][direction] }
            assert.equal(0, result.code, list[i].name .. ": " .. result.stderr)
        end
    end

    local function dbrun(...)
        local args = { ... }
        for _, dir in ipairs(DIRS) do table.move({ "--dir", dir }, 1, 2, #args + 1, args) end
        local result = scripts.run("migrate", args, { DATABASE_URL = url })
        assert.equal(0, result.code, result.text)
        return result
    end

    local function dump(which)
        local result = process.run {
            "pg_dump", "--schema-only", "--exclude-table=schema_migrations_dbrun", "-d", which,
        }
        assert.equal(0, result.code, result.stderr)
        return (result.stdout:gsub("\n\\[un]*restrict [^\n]*", ""))
    end

    it("of more than 20 migrations gives the same schema as psql, up, down and up again", function()
        local lacking = servers.pg_dump_lacks()
        if lacking then return pending(lacking) end
        assert.is_true(#list > 20)
        assert.matches(#list .. " migrations applied", dbrun("up").stdout)
        psql "up"
        local full = dump(other_url)
        assert.matches("größe", full)
        assert.equal(full, dump(url))
        assert.matches(#list .. " migrations taken back", dbrun("down", "--steps", "99").stdout)
        psql "down"
        assert.equal(dump(other_url), dump(url))
        dbrun "up"
        psql "up"
        assert.equal(full, dump(url))
        assert.equal(full, dump(other_url))
    end)

    it("has the same versions in the table as with dbmate", function()
        dbrun "up"
        local versions = {}
        for _, file in ipairs(list) do versions[#versions + 1] = file.name:match "^%d+" end
        assert.equal(table.concat(versions, " "), servers.shared_postgres():psql(
            "select string_agg(version, ' ' order by version collate \"C\") from schema_migrations", ours))
    end)

    it("dumps as dbmate does: no comment on top, no owners, the versions at the end", function()
        local lacking = servers.pg_dump_lacks()
        if lacking then return pending(lacking) end
        dbrun "up"
        local folder = fs.mkdtemp()
        dbrun("dump", "--file", folder .. "/db/schema.sql")
        local text = fs.read(folder .. "/db/schema.sql")
        fs.rmtree(folder)
        assert.matches("^SET statement_timeout = 0;\n", text)
        assert.not_matches("OWNER TO", text)
        assert.not_matches("schema_migrations_dbrun", text)
        assert.matches("\n%-%-\n%-%- PostgreSQL database dump complete\n%-%-\n", text)
        assert.matches("\n%-%-\n%-%- Dbmate schema migrations\n%-%-\n\n"
            .. "INSERT INTO public.schema_migrations %(version%) VALUES\n    %('20200101000000'%),\n", text)
        assert.matches("    %('20200122000000'%);\n$", text)
        local fresh = process.run { "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d",
            (servers.database()), stdin = text }
        assert.equal(0, fresh.code, fresh.stderr)
    end)

    it("can name its schema with search_path in the URL", function()
        local base = url
        url = base .. "&search_path=app,public"
        dbrun "up"
        url = base
        local pg = servers.shared_postgres()
        assert.equal(tostring(#list), pg:psql("select count(*) from app.schema_migrations", ours))
        assert.equal("t", pg:psql("select to_regclass('app.users') is not null", ours))
    end)
end)
