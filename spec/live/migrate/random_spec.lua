-- Random migration files run as in psql, or are refused; also when the run is killed and continued.
-- DBRUN_MIGRATE_FILES and DBRUN_TEST_SEED set their number and choose them.
local fs = require "dbrun.fs"
local oracle = require "spec.support.migrate.oracle"
local random_file = require "spec.support.migrate.random_file"
local rounds = require("spec.support.rounds").of

local FILES <const> = math.tointeger(tonumber(os.getenv "DBRUN_MIGRATE_FILES" or "")) or rounds(150)
local SEED <const> = math.tointeger(tonumber(os.getenv "DBRUN_TEST_SEED" or "")) or 20250101

describe("random migration files", function()
    local world
    setup(function()
        world = oracle.new()
        print(("random migration files: %d, DBRUN_TEST_SEED=%d"):format(FILES, SEED))
    end)
    teardown(function() world:close() end)

    ---Names the file in a failure.
    local function check(number, file, ok, what, ...)
        if ok then return end
        local kept <const> = fs.mkdtemp() .. "/file.sql"
        fs.write(kept, file.text)
        error(("file %d (%s): %s\n%s"):format(number, kept, what:format(...), file.text), 0)
    end

    local function check_lists(number, file, psql, dbrun)
        for i = 1, math.max(#psql.statements, #dbrun.statements) do
            check(number, file, psql.statements[i] == dbrun.statements[i],
                "statement %d is\n%s\nin psql, and\n%s\nin dbrun (psql: %s, dbrun: %s)", i,
                psql.statements[i] or "none", dbrun.statements[i] or "none", psql.error, dbrun.error)
        end
    end

    it("run as in psql, or are refused before anything runs", function()
        local refused, failed = 0, 0
        for number = 1, FILES do
            local file <const> = random_file.new(SEED * 1000003 + number, "f" .. number,
                { errors = true, sequences = true, wrong_ends = true })
            local folder <const>, path <const> = world:prepare(file, number)
            local dbrun <const> = world:dbrun(file, folder)
            local swallows <const> = file.text:find("table broken", 1, true)
            if dbrun.sqlstate == "refused" then
                check(number, file, file.refused or swallows, "it was refused: %s", dbrun.error)
                check(number, file, #dbrun.statements == 0, "it was refused after %d statements: %s", #dbrun.statements,
                    dbrun.error)
                check(number, file, dbrun.line, "its error has no line: %s", dbrun.error)
                refused = refused + 1
            else
                check(number, file, not file.refused or swallows, "it was not refused (%s)", dbrun.error or "no error")
                local psql <const> = world:psql(file, path)
                check_lists(number, file, psql, dbrun)
                check(number, file, psql.sqlstate == dbrun.sqlstate, "psql: %s\ndbrun: %s", psql.error, dbrun.error)
                check(number, file, not dbrun.sqlstate or dbrun.line and (psql.line == 0 or dbrun.line <= psql.line),
                    "the error is in line %s, in psql before %s", dbrun.line, psql.line)
                local mine <const>, theirs <const> = world:state("dbrun", file, true), world:state("psql", file, true)
                check(number, file, mine == theirs, "psql made\n%s\ndbrun made\n%s", theirs, mine)
                if dbrun.sqlstate then failed = failed + 1 end
            end
            check(number, file, world:is_recorded(number) == (dbrun.sqlstate == nil), "its record is wrong")
            world:forget(file, folder)
        end
        print(("%d files: %d refused, %d failed as in psql"):format(FILES, refused, failed))
        assert.is_true(refused > 0 and failed > 0)
    end)

    it("that are killed anywhere end as in psql after the next run, or that run refuses", function()
        local again, refused = 0, 0
        for number = 1, FILES // 5 do
            local id <const> = FILES + number
            local file <const> = random_file.new(SEED * 1000003 - number, "k" .. number,
                { transaction = number % 8 == 0 })
            local folder <const>, path <const> = world:prepare(file, id)
            local at <const> = 14 + random_file.random(SEED + number)(60)
            local ended <const> = world:crash(file, folder, at)
            local dbrun <const>, psql <const> = world:dbrun(file, folder), world:psql(file, path)
            if dbrun.sqlstate == "refused" then
                refused = refused + 1
                check(id, file, dbrun.error:find("repair --version", 1, true) and dbrun.line, "killed at %d: %s", at,
                    dbrun.error)
            else
                again = again + (ended and 0 or 1)
                check(id, file, psql.sqlstate == dbrun.sqlstate, "killed at %d; psql: %s\ndbrun: %s", at, psql.error,
                    dbrun.error)
                local mine <const>, theirs <const> = world:state("dbrun", file), world:state("psql", file)
                check(id, file, mine == theirs, "killed at %d; psql made\n%s\ndbrun made\n%s", at, theirs, mine)
                check(id, file, world:is_recorded(id) == (dbrun.sqlstate == nil), "its record is wrong")
            end
            world:forget(file, folder)
        end
        print(("%d killed: %d continued, %d refused"):format(FILES // 5, again, refused))
        assert.is_true(again > 0)
    end)
end)
