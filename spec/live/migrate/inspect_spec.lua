-- Commands that inspect migrations with a database: a plan of every kind of statement, and lint of pending files.
local kinds = require "spec.support.migrate.kinds"
local migrations = require "spec.support.migrations"
local scripts = require "spec.support.scripts"

describe("dbrun migrate", function()
    local url
    migrations.around(_ENV, function(...) url = ... end)

    local function run(command, dir, ...)
        return scripts.run("migrate", { command, "--dir", dir, ... }, { DATABASE_URL = url })
    end

    it("plans every kind of statement", function()
        local text, count = {}, 0
        for kind, statements in pairs(kinds) do
            -- Statements that begin or end a transaction are refused in a file.
            for _, sql in ipairs(kind ~= "TransactionStmt" and statements or {}) do
                text[#text + 1] = sql .. (sql:find "from stdin$" and ";\n\\." or ";")
                count = count + 1
            end
        end
        table.sort(text)
        local dir = migrations.folder {
            ["1_x.sql"] = "-- migrate:up\n" .. table.concat(text, "\n") .. "\n-- migrate:down\n",
        }
        local result = run("plan", dir)
        assert.equal(0, result.code, result.text)
        local _, planned = result.stdout:gsub("\n%-%- line %d+", "")
        assert.equal(count, planned)
        assert.is_nil(result.stdout:find("not known", 1, true))
    end)

    it("plans the locks of statements within DO, and of both spellings of a name", function()
        local dir = migrations.folder {
            ["1_x.sql"] = "-- migrate:up\ncreate table public.s (a int);\nalter table s add b int;\n"
                .. "do $$begin alter table old add b int; end$$;\nalter table u add foreign key (a) references w;\n"
                .. "alter table u alter constraint k deferrable;\n-- migrate:down\n",
        }
        local text = run("plan", dir).stdout
        assert.is_nil(text:find("locks s in", 1, true))
        assert.matches("-- locks old in ACCESS EXCLUSIVE", text, 1, true)
        assert.matches("-- locks w in SHARE ROW EXCLUSIVE", text, 1, true)
        assert.matches("-- locks u in ACCESS EXCLUSIVE", text, 1, true)
    end)

    it("inspects pending files", function()
        local dir = migrations.folder {
            ["1_a.sql"] = "-- migrate:up\ncreate table t (a int);\n-- lint: allow no-lock-timeout\n"
                .. "set local lock_timeout = 0;\n-- migrate:down\ndrop table t;\n",
            ["2_b.sql"] = "-- migrate:up\ncreate index on t (a);\n-- migrate:down\ndrop index t_a_idx;\n",
        }
        assert.equal(0, run("up", dir, "--to", "1").code)
        local result = run("lint", dir, "--pending")
        assert.equal(1, result.code, result.text)
        assert.matches("1 finding (0 errors, 1 warning, 0 notes) in 1 file", result.stdout, 1, true)
        assert.equal(0, run("up", dir).code)
        result = run("lint", dir, "--pending")
        assert.equal(0, result.code, result.text)
        assert.matches("0 files looked at", result.stdout, 1, true)
        assert.equal(2, scripts.run("migrate", { "lint", "--dir", dir, "--pending" }, {
            DATABASE_URL = "postgresql://127.0.0.1:1/none",
        }).code)
    end)
end)
