-- Migration files: the files of a folder, the sections of a file, and the statements of a section.
local aftermath = require "dbrun.migrate.run.aftermath"
local blocks = require "dbrun.migrate.read.blocks"
local errors = require "dbrun.error"
local files = require "dbrun.migrate.read.files"
local fs = require "dbrun.fs"
local parse = require "dbrun.migrate.read.parse"
local rounds = require("spec.support.rounds").of
local split = require "dbrun.migrate.read.split"

local function failure(fn, ...)
    local ok, e = pcall(fn, ...)
    assert.is_false(ok, "it was accepted")
    assert.is_true(errors.is(e), tostring(e))
    return e
end

describe("the sections of a migration file", function()
    local function parsed(text) return parse.parse(text, "db/1_x.sql") end

    it("are the text between the directives", function()
        local p = parsed "-- migrate:up\ncreate table a();\n\n-- migrate:down\ndrop table a;\n"
        assert.equal("-- migrate:up\ncreate table a();\n\n", p.up.sql)
        assert.equal("-- migrate:down\ndrop table a;\n", p.down.sql)
        assert.equal(1, p.up.line)
        assert.equal(4, p.down.line)
        assert.is_true(p.up.transaction)
        assert.is_true(p.down.transaction)
    end)

    it("can be written --migrate:up, with more blanks or CRLF, after comments, blank lines and a BOM", function()
        for _, text in ipairs {
            "--migrate:up\nselect 1;\n--migrate:down\nselect 2;",
            "--   migrate:up\nselect 1;\n--\tmigrate:down\nselect 2;",
            "-- migrate:up\r\nselect 1;\r\n-- migrate:down\r\nselect 2;\r\n",
            "-- a remark\n\n   -- another\n-- migrate:up\nselect 1;\n-- migrate:down\nselect 2;",
            "\xEF\xBB\xBF-- migrate:up\nselect 1;\n-- migrate:down\nselect 2;",
        } do
            local p = parsed(text)
            assert.matches("select 1;", p.up.sql)
            assert.matches("select 2;", p.down.sql)
            assert.not_matches("select 2;", p.up.sql)
        end
    end)

    it("can both be empty", function()
        local p = parsed "-- migrate:up\n-- migrate:down"
        assert.same({}, (split.split(p.up.sql)))
        assert.same({}, (split.split(p.down.sql)))
    end)

    it("have their own options; only transaction:false turns the transaction off", function()
        local p = parsed "-- migrate:up transaction:false env:prod remark\r\n-- migrate:down transaction:true\n"
        assert.is_false(p.up.transaction)
        assert.is_true(p.down.transaction)
        assert.same({ transaction = "false", env = "prod" }, p.up.options)
        for _, rest in ipairs { "in one transaction", "see https://example.org/a:b", "A-1: remark", "a = b", "env:prod",
            "transaction:yes" } do
            assert.is_true(parsed("-- migrate:up " .. rest .. "\n-- migrate:down\n").up.transaction)
        end
    end)

    it("refuse a mistyped option", function()
        for _, text in ipairs { "transaction:no", "transaction:flase", "transaction:False", "transaction: false",
            "transaction = false", "transaction=false", "transaction:", "Transaction:false", "transction:false",
            "a remark, transaction:off", "(transaction:false)", "transaction:false,",
        } do
            for _, file in ipairs { "-- migrate:up %s\n-- migrate:down\n", "-- migrate:up\n-- migrate:down %s\n" } do
                local e = failure(parsed, file:format(text))
                assert.matches("' is not an option of a migration", e.message, 1, true)
                assert.equal(file:find "^%-%- migrate:up %%" and 1 or 2, e.line)
                assert.matches("transaction:false", e.hint, 1, true)
            end
        end
    end)

    it("begin only with a directive in column 0, in lower case, as a separate word", function()
        for _, text in ipairs {
            " -- migrate:up\n-- migrate:down\n", "-- MIGRATE:UP\n-- migrate:down\n",
            "-- migrate:upwards\n-- migrate:down\n", "-- migrate:up;\n-- migrate:down\n",
        } do
            assert.matches("migrate:up", failure(parsed, text).message)
        end
    end)

    it("can be in several pairs: the ups in order, the downs in reverse", function()
        local p = parsed("-- migrate:up\nselect 1;\n-- migrate:down\nselect 2;\n"
            .. "-- migrate:up transaction:false\nselect 3;\n-- migrate:down\nselect 4;")
        local function lines(section, direction)
            local found, kinds = {}, {}
            local read = blocks.of(section, direction)
            for i, statement in ipairs(read.statements) do
                found[i] = statement.line .. " " .. statement.sql
                assert.equal(statement.sql, section.sql:sub(statement.first, statement.first + #statement.sql - 1))
            end
            for i, step in ipairs(read.steps or {}) do kinds[i] = step.kind end
            return table.concat(found, ", "), table.concat(kinds, " ")
        end
        assert.is_false(p.up.transaction)
        assert.is_true(p.down.transaction)
        assert.same({ "2 select 1, 6 select 3", "part single" }, { lines(p.up, "up") })
        assert.same({ "8 select 4, 4 select 2", "" }, { lines(p.down, "down") })
    end)

    it("end separately: a comment or a string does not extend into the next section", function()
        local p = parsed "-- migrate:up\nselect 1 /*\n-- migrate:down\n-- migrate:up\n*/ select 2;\n-- migrate:down\n"
        local refused = blocks.of(p.up, "up").refused
        assert.equal(2, refused.line)
        assert.matches("has no end", refused.message)
    end)

    local cases = {
        { "no up section", "select 1;\n", 1, "no '%-%- migrate:up' section" },
        { "nothing at all", "", 1, "no '%-%- migrate:up' section" },
        { "no down section", "-- migrate:up\nselect 1;\n", 3, "no '%-%- migrate:down' section" },
        { "the down section first", "\n-- migrate:down\n-- migrate:up\n", 2, "stands before" },
        { "a statement in front", "-- x\n\nselect 1;\n-- migrate:up\n-- migrate:down\n", 3, "statement stands before" },
        { "two down sections", "-- migrate:up\n-- migrate:down\n\n-- migrate:down\n", 4,
            "a second .*first is in line 2" },
        { "two up sections", "-- migrate:up\n\n-- migrate:up\n-- migrate:down\n", 3, "a second .*first, in line 1" },
        { "an up behind a pair, without a down", "-- migrate:up\n-- migrate:down\n-- migrate:up\n", 4,
            "no '%-%- migrate:down' section" },
        { "a NUL byte", "-- migrate:up\nselect 1;\n\0 select 2;\n-- migrate:down\n", 3, "has a NUL byte" },
        { "UTF-16", "\xFF\xFE-\0-\0 \0m\0i\0\n\0", 1, "is UTF%-16" },
        { "UTF-16, the other way round", "\xFE\xFF\0-\0-\0 \0m\0i\0\n", 1, "is UTF%-16" },
    }
    for _, case in ipairs(cases) do
        local name, text, line, message = table.unpack(case)
        it("are refused with file and line: " .. name, function()
            local e = failure(parsed, text)
            assert.matches("^db/1_x%.sql:" .. line .. ": ", e.message)
            assert.matches(message, e.message)
            assert.equal(line, e.line)
            assert.equal("db/1_x.sql", e.file)
        end)
    end

    it("are refused with the line that only looks like a directive, and the tool whose file it is", function()
        for text, hint in pairs {
            ["-- Migrate:Up\nx;\n-- Migrate:Down\n"] = "line 1 is a comment: .*'%-%- migrate:up', in lower case",
            ["\n  -- migrate:up\nx;\n-- migrate:down\n"] = "line 2 is a comment",
            ["-- migrate:up\nx;\n\t-- migrate: down\n"] = "line 3 is a comment: .*'%-%- migrate:down'",
            ["-- +migrate Up\nx;\n"] = "line 1 is a comment",
            ["-- +goose Up\nx;\n"] = "a file of goose: dbrun migrate import goose %-%-from db ",
            ["x;\n"] = "^begin the file with a line",
        } do
            assert.matches(hint, failure(parsed, text).hint)
        end
        assert.matches("of golang%-migrate: dbrun migrate import golang%-migrate %-%-from m ",
            failure(parse.parse, "x;\n", "m/1_x.up.sql").hint)
    end)
end)

describe("the statements of a section", function()
    local cases = {
        { "plain ones", "select 1; select 2", { "select 1", "select 2" } },
        { "comments and empty statements", "-- a;\n;;/* ; */ select 1;\n-- end;", { "select 1" } },
        { "nested comments", "/* a /* ; */ ; */ select 1; select 2;", { "select 1", "select 2" } },
        { "strings", "select 'a;''b;'; select e'\\';'; select \"a;b\"", { "select 'a;''b;'", "select e'\\';'",
            'select "a;b"' } },
        { "strings with doubled quotes and backslashes", "select e'it''s \\' ;'; select e'a'\n'\\';'; x",
            { "select e'it''s \\' ;'", "select e'a'\n'\\';'", "x" } },
        { "line comments that end at a carriage return", "-- a;\rselect 1; select 2", { "select 1", "select 2" } },
        { "dollar signs in names", "select a$b$ from t; select d$b$", { "select a$b$ from t", "select d$b$" } },
        { "dollar quotes", "do $$ begin; end $$; select $a$ ;$$; $a$;",
            { "do $$ begin; end $$", "select $a$ ;$$; $a$" } },
        { "rules", "create rule r as on insert to t do (select 1; select 2); select 3",
            { "create rule r as on insert to t do (select 1; select 2)", "select 3" } },
        { "SQL bodies",
            "create or replace function f() returns int begin atomic select case when a then 1 end; select 2; end; x",
            { "create or replace function f() returns int begin atomic select case when a then 1 end; select 2; end",
                "x" } },
        { "nothing", " \n -- only a remark", {} },
    }
    for _, case in ipairs(cases) do
        local name, sql, expected = table.unpack(case)
        it("are separated: " .. name, function()
            local texts = {}
            for i, statement in ipairs((split.split(sql))) do texts[i] = statement.sql end
            assert.same(expected, texts)
        end)
        it("are separated without a parser, too: " .. name, function()
            local texts = {}
            for i, range in ipairs(split.lex(sql)) do texts[i] = sql:sub(range.first, range.last) end
            assert.same(expected, texts)
        end)
    end

    it("know the line of their first word", function()
        local lines = {}
        for i, statement in ipairs((split.split("-- migrate:up\n\n-- why\nselect 1;\n\n\nselect\n2; select 3", 10))) do
            lines[i] = statement.line
        end
        assert.same({ 13, 16, 17 }, lines)
    end)

    it("are still separated, none dropped, when one does not parse", function()
        local list = split.split "select 1; selec 2;\nselect 'it''s'; mistake"
        local texts = {}
        for i, statement in ipairs(list) do texts[i] = statement.sql end
        assert.same({ "select 1", "selec 2", "select 'it''s'", "mistake" }, texts)
    end)

    it("are the same without a parser, for random texts", function()
        local seed = tonumber(os.getenv "DBRUN_TEST_SEED") or os.time()
        print("DBRUN_TEST_SEED=" .. seed)
        math.randomseed(seed)
        local parts <const> = {
            "select 1", "select 'a'", "select e'\\';'", "select 'it''s'", "select $$;$$", "select $a$;$$;$a$",
            ";", "; ", "\n", "\r", "-- ;'\n", "/* ; /* ' */ */", 'select "a;b"', "select a$b$ as c$b$",
            "select (1)", "select 2*-1", "select 'a'\n'b;'", "select e'a'\n'\\';'",
            "select U&'\\0041;'", "do $x$ begin; end $x$",
        }
        for _ = 1, rounds(400) do
            local text = {}
            for i = 1, math.random(12) do
                text[i] = parts[math.random(#parts)] .. (math.random(2) == 1 and ";" or " ")
            end
            local sql <const> = table.concat(text)
            local parsed <const>, how <const> = split.split(sql)
            if how == "parser" then
                local expected, lexed = {}, {}
                for i, statement in ipairs(parsed) do -- the parser leaves a comment after the last word
                    expected[i] = statement.sql:sub(1, split.lex(statement.sql)[1].last)
                end
                for i, range in ipairs(split.lex(sql)) do lexed[i] = sql:sub(range.first, range.last) end
                assert.same(expected, lexed)
            end
        end
    end)

    it("are read from texts that are cut anywhere", function()
        for _, sql in ipairs {
            "select 'a", 'select "a', "select $$ a", "/* a", "/* /* */", "select e'\\", "(", ";", "$", "$a",
        } do
            assert.is_table((split.split(sql)))
            assert.is_table(split.lex(sql))
        end
    end)

    it("are one text for patterns: with one space for blanks and comments, without case and strings", function()
        assert.equal([[create index "I" on a.b (c) where d = '' or e < $1]],
            split.plain "CREATE\n/* x */\tINDEX -- y\n\"I\" ON A.b (c) WHERE d = E'X\\' ON' OR e < $1")
        assert.equal("do ''", split.plain "DO $$ begin COMMIT; end $$")
        assert.equal("", split.plain "")
    end)

    it("that cannot run in a transaction are recognised by their words when the parser does not know them", function()
        local handler, body = aftermath.outside "CREATE INDEX -- now\nCONCURRENTLY /* x */ i ON s.t (a) mistake mistake"
        assert.equal("CREATE INDEX CONCURRENTLY", assert(handler).name)
        assert.same({ idxname = "i", concurrent = true, relation = { schemaname = "s", relname = "t" } }, body)
        assert.is_nil((aftermath.outside "select 'create index concurrently i on t' mistake mistake"))
    end)

    it("that begin or end a transaction are found; savepoints and function bodies do not count", function()
        local function control(sql)
            local statements = split.split(sql)
            for i, statement in ipairs(statements) do statement.line = i end
            local refused = blocks.in_transaction(statements, "migration", "")
            return refused and statements[refused.line].sql
        end
        assert.equal("commit", control "select 1; commit")
        assert.equal("BEGIN", control "BEGIN; select 1")
        assert.equal("start transaction", control "start transaction; select 1")
        assert.equal("rollback", control "rollback; select 1")
        assert.equal("rollback and no chain", control "select 1; rollback and no chain")
        assert.equal("rollback /* to */", control "rollback /* to */; select 1")
        assert.equal("prepare transaction 'a'", control "prepare transaction 'a'")
        assert.is_nil(control "prepare p as select 1; start_of_day()")
        assert.is_nil(control "rollback /* all */ work -- since\n to a; rollback transaction to savepoint b")
        assert.is_nil(control "savepoint a; rollback to a; release a")
        assert.is_nil(control "ROLLBACK TO SAVEPOINT a")
        assert.is_nil(control "do $$ begin commit; end $$; create function f() returns int begin atomic select 1; end")
    end)
end)

describe("the files of migration folders", function()
    local root

    before_each(function() root = fs.mkdtemp() end)
    after_each(function() fs.rmtree(root) end)

    local function make(path, text)
        fs.mkdir_p(fs.dirname(root .. "/" .. path))
        fs.write(root .. "/" .. path, text or "-- migrate:up\n-- migrate:down\n")
    end

    local function names(...)
        local dirs, list = {}, {}
        for i, dir in ipairs { ... } do dirs[i] = root .. "/" .. dir end
        for i, file in ipairs(files.list(dirs)) do list[i] = file.name end
        return list
    end

    it("are those whose name begins with digits and ends with .sql", function()
        for _, name in ipairs { "2_b.sql", "10_a.sql", "3.sql", "README.md", "x4_c.sql", "5_d.sql.bak", "6_e.SQL" } do
            make("db/" .. name)
        end
        fs.mkdir(root .. "/db/7_folder.sql")
        assert.same({ "10_a.sql", "2_b.sql", "3.sql" }, names "db")
        assert.equal("10", files.list({ root .. "/db" })[1].version)
    end)

    it("are sorted by name over all folders, as strings", function()
        make "a/1_a.sql"
        make "a/30_c.sql"
        make "b/2_b.sql"
        assert.same({ "1_a.sql", "2_b.sql", "30_c.sql" }, names("a", "b"))
        assert.same({ "1_a.sql", "2_b.sql", "30_c.sql" }, names("b", "a/"))
    end)

    it("must not have the same version twice", function()
        make "a/1_a.sql"
        make "b/1_b.sql"
        local e = failure(names, "a", "b")
        assert.matches("version 1: .*a/1_a%.sql and .*b/1_b%.sql", e.message)
    end)

    it("are an error that names the folder and how to set it when there is no folder", function()
        local e = failure(names, "nowhere")
        assert.equal("config", e.kind)
        assert.matches("nowhere", e.message)
        assert.matches("DBRUN_MIGRATIONS_DIR", e.hint)
    end)

    it("are an error when there are none", function()
        fs.mkdir(root .. "/empty")
        assert.matches("no migration files", failure(files.some, { root .. "/empty" }).message)
        fs.write(root .. "/empty/notes.sql", "")
        assert.matches("notes.sql is none: .* begins with digits", failure(files.some, { root .. "/empty" }).hint)
        fs.write(root .. "/empty/V1_1__notes.sql", "")
        assert.matches("import flyway %-%-from .*/empty ", failure(files.some, { root .. "/empty" }).hint)
        fs.mkdir(root .. "/gm")
        for _, way in ipairs { "up", "down" } do fs.write(("%s/gm/1_a.%s.sql"):format(root, way), "") end
        assert.matches("import golang%-migrate %-%-from .*/gm ", failure(files.some, { root .. "/gm" }).hint)
    end)

    it("have the time in front, both sections, and a plain name when they are new", function()
        assert.equal("20250102030405_add_alerts.sql", files.new_name("add alerts", 1735787045))
        assert.equal("20250102030405_etc_passwd.sql", files.new_name("../../etc/passwd", 1735787045))
        assert.matches("not a name", failure(files.new_name, " / ").message)
        local path = files.create({ root .. "/new/folder/" }, "first one")
        assert.matches("^" .. root:gsub("%p", "%%%0") .. "/new/folder/%d+_first_one%.sql$", path)
        local p = parse.parse(fs.read(path), path)
        assert.same({}, (split.split(p.up.sql)))
    end)
end)

describe("a new migration", function()
    local root
    before_each(function() root = fs.mkdtemp() end)
    after_each(function() fs.rmtree(root) end)

    local function new(dirs, words) return fs.basename(files.create(dirs, words)) end

    it("has a version that no other file of the folders has", function()
        local dirs, seen = { root .. "/a", root .. "/b" }, {}
        fs.mkdir_p(dirs[2])
        local now = os.time()
        for i = 0, 4 do fs.write(("%s/%s_x.sql"):format(dirs[2], os.date("!%Y%m%d%H%M%S", now + i)), "") end
        for i = 1, 5 do
            local version = new(dirs, "same words"):match "^%d+"
            assert.is_nil(seen[version])
            assert.is_false(fs.exists(("%s/%s_x.sql"):format(dirs[2], version)))
            seen[version] = i
        end
        assert.equal(5, #fs.list(dirs[1])) -- no lock file remains
    end)

    it("has its own version when several processes make one at once", function()
        local process, core = require "dbrun.process", require "dbrun.core"
        local children = {}
        for i = 1, 8 do
            children[i] = process.start { core.options.program, "--no-env", "scripts/migrate.lua", "new", "n" .. i,
                "--dir", root, stdout = "capture", stderr = "capture" }
        end
        local versions = {}
        for _, child in ipairs(children) do
            local result = child:wait(30)
            assert.equal(0, result.code, result.stderr)
        end
        for _, name in ipairs(fs.list(root)) do versions[name:match "^%d+"] = true end
        local count = 0
        for _ in pairs(versions) do count = count + 1 end
        assert.equal(8, count)
    end)
end)
