--- The private stack uses and removes only its own folders, whatever its record says.
local fs = require "dbrun.fs"
local own = require "spec.support.stack"

local stack <const>, ok <const>, new_folder <const>, place_of <const>, answers <const>, clean_up <const> =
    own.stack, own.ok, own.new_folder, own.place_of, own.answers, own.clean_up

describe("dbrun stack, whose record names folders that are not its own,", function()
    after_each(clean_up)

    ---A user's folder with a file in it, and a stack's folder whose record names it.
    local function claimed(data, sockets, writer)
        local folder, base = new_folder("project")
        local precious = base .. "/precious"
        fs.mkdir_p(precious .. "/postgres")
        fs.write(precious .. "/postgres/novel", "chapter one")
        fs.mkdir(precious .. "/.git")
        fs.mkdir_p(folder .. "/.dbrun/stack")
        local words = { folder = folder, precious = precious }
        local function fill(text) return (text:gsub("$(%w+)", words)) end
        fs.write(folder .. "/.dbrun/stack/place", ("folder=%s\ndata=%s\nsockets=%s\n"):format(fill(writer or "$folder")
            .. "/.dbrun/stack", fill(data), fill(sockets)))
        return folder, precious
    end

    for data, sockets in pairs {
        ["$precious"] = "$precious", ["$folder/.dbrun/stack/data"] = "$precious",
        ["$folder/.dbrun/stack/../../../precious"] = "$folder/.dbrun/stack/sockets", ["../precious"] = "$precious",
        ["$folder"] = "$folder/.dbrun",
    } do
        it(("data=%s sockets=%s: does not touch them, and reset drops the record"):format(data, sockets), function()
            for _, writer in ipairs { "$folder", "/no/such" } do
                local folder, precious = claimed(data, sockets, writer)
                local mode = fs.stat(precious).mode
                for _, command in ipairs { "up", "down", "status", "env" } do
                    local r = stack(folder, command)
                    assert.is_true(r.code == 1, command .. r.stdout)
                    assert.matches("does not carry the mark of this stack", r.stderr, 1, true)
                end
                local r = ok(stack(folder, "reset", "--force"))
                assert.matches("was left", r.stderr, 1, true)
                assert.equal("chapter one", fs.read(precious .. "/postgres/novel"))
                assert.is_true(fs.exists(precious .. "/.git"))
                assert.equal(mode, fs.stat(precious).mode)
                assert.is_true(fs.exists(folder))
                assert.equal(1, stack(folder, "status").code)
                clean_up()
            end
        end)
    end

    it("such as another project's stack, does not touch that", function()
        local other = new_folder(("long"):rep(30))
        ok(stack(other, "up"))
        local at = place_of(other)
        for _, data in ipairs { at.data, at.sockets } do
            local folder = claimed(data, at.sockets)
            stack(folder, "down")
            ok(stack(folder, "reset", "--force"))
            answers(other)
        end
    end)

    it("keeps files that others have put into its own folders", function()
        local folder = new_folder()
        ok(stack(folder, "up"))
        local at = place_of(folder)
        fs.write(at.data .. "/notes.txt", "mine")
        local r = ok(stack(folder, "reset", "--force"))
        assert.matches("was left", r.stderr, 1, true)
        assert.are.same({ "notes.txt" }, fs.list(at.data))
        assert.is_false(fs.exists(at.sockets))
    end)

    it("uses folders elsewhere that have its mark, also after a move", function()
        local folder, base = new_folder(("long"):rep(30))
        ok(stack(folder, "up"))
        local at = place_of(folder)
        assert.equal(folder .. "/.dbrun/stack\n", fs.read(at.sockets .. "/belongs-to"))
        ok(stack(folder, "down"))
        local moved = base .. "/" .. ("moved"):rep(25)
        fs.rename(folder, moved)
        ok(stack(moved, "up"))
        answers(moved)
        assert.equal(at.sockets, place_of(moved).sockets)
        ok(stack(moved, "reset", "--force"))
        assert.is_false(fs.exists(at.sockets))
    end)
end)

describe("dbrun stack in a sub-folder", function()
    after_each(clean_up)

    it("is the stack of the nearest parent folder that has one, up to the repository's root", function()
        local folder = new_folder("project")
        ok(stack(folder, "up"))
        fs.mkdir_p(folder .. "/src/deep")
        assert.matches("is up already.*is up already", ok(stack(folder .. "/src/deep", "up")).stdout)
        assert.equal(ok(stack(folder, "env")).stdout, ok(stack(folder .. "/src/deep", "env")).stdout)
        assert.is_false(fs.exists(folder .. "/src/deep/.dbrun"))
        fs.mkdir(folder .. "/src/.git")
        assert.equal(1, stack(folder .. "/src/deep", "env").code)
        ok(stack(folder .. "/src", "reset", "--force"))
        answers(folder)
        for name, mark in pairs { env = ".env", migrations = "scripts/migrations/", own = ".dbrun/" } do
            local inner <const> = folder .. "/" .. name -- a separate project: reset must not reach the one above
            fs.mkdir_p(fs.dirname(fs.join(inner, mark)))
            if mark:find "/$" then fs.mkdir_p(inner .. "/" .. mark) else fs.write(inner .. "/" .. mark, "") end
            assert.matches("never started", stack(inner, "status").stdout)
            stack(inner, "reset", "--force")
        end
        answers(folder)
    end)

    it("is named in errors when no database is configured, and as long as it runs", function()
        local folder = new_folder("project")
        ok(stack(folder, "up"))
        fs.mkdir(folder .. "/src")
        fs.mkdir(folder .. "/migrations")
        fs.write(folder .. "/migrations/1_a.sql", "-- migrate:up\n-- migrate:down\n")
        local env = {}
        for _, name in ipairs { "DATABASE_URL", "MIGRATION_DATABASE_URL", "REDIS_URL", "PGHOST", "PGSERVICE",
            "PGHOSTADDR" } do
            env[name] = false
        end
        env.PGPORT = "1" -- where no server listens
        local function run(...)
            local argv = { own.dbrun, ... }
            argv.cwd, argv.env, argv.stderr, argv.timeout = folder .. "/src", env, "stdout", 60
            return require("dbrun.process").run(argv).stdout
        end
        local command = ("dbrun stack env > '%s/.env'"):format(folder)
        local function all_name(what, plain)
            for _, argv in ipairs {
                { "-e", "require 'dbrun.db'.async:value 'select 1'" },
                { fs.realpath "scripts/migrate.lua", "status", "--dir", "../migrations" },
                { fs.realpath "scripts/verify.lua", "--only", "postgres.async" },
            } do
                local said = run(table.unpack(argv))
                assert.is_truthy(said:find(what, 1, plain), said)
            end
        end
        all_name(command, true)
        fs.write(folder .. "/.env", "OTHER=1\n")
        all_name((command:gsub(">", ">>")), true)
        local elsewhere = run("--no-env", "-e",
            "require 'dbrun.db'.engine{ url = 'postgres://127.0.0.1:1/x' }:value '1'")
        assert.is_nil(elsewhere:find("stack env", 1, true))
        ok(stack(folder, "down"))
        all_name("dbrun stack up", true)
    end)

    it("is not used when it belongs to another user", function()
        if not own.is_root then return pending("needs root to become another user") end
        local folder = new_folder("shared")
        fs.mkdir_p(folder .. "/.dbrun/stack")
        fs.write(folder .. "/.dbrun/stack/place", "")
        local nobody = require("dbrun.process").user "nobody"
        fs.chown(folder .. "/.dbrun/stack", nobody.uid, nobody.gid)
        fs.mkdir(folder .. "/inner")
        assert.matches("never been started", stack(folder .. "/inner", "env").stderr, 1, true)
        assert.equal("there was nothing to remove\n", ok(stack(folder .. "/inner", "reset", "--force")).stdout)
        assert.is_true(fs.exists(folder .. "/.dbrun/stack/place"))
    end)
end)
