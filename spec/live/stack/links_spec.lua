--- The private stack and symbolic links: a link in place of .dbrun is followed, a link inside is not trusted.
local fs = require "dbrun.fs"
local own = require "spec.support.stack"
local process = require "dbrun.process"

local stack <const>, ok <const>, new_folder <const>, place_of <const>, answers <const>, clean_up <const> =
    own.stack, own.ok, own.new_folder, own.place_of, own.answers, own.clean_up

describe("dbrun stack, with a link", function()
    after_each(clean_up)

    for _, name in ipairs { "/.dbrun", "/.dbrun/stack" } do
        it("in place of " .. name .. ", uses the servers at its target", function()
            local main, base = new_folder "main"
            ok(stack(main, "up"))
            local other, place, pid = base .. "/other", fs.read(main .. "/.dbrun/stack/place"), own.pid_of(main)
            fs.mkdir_p(fs.dirname(other .. name))
            fs.symlink(main .. name, other .. name)
            assert.matches("answers, process " .. pid, ok(stack(other, "status")).stdout, 1, true)
            assert.matches("is up already", ok(stack(other, "up")).stdout, 1, true)
            assert.equal(place, fs.read(main .. "/.dbrun/stack/place"))
            assert.equal(pid, own.pid_of(main))
            answers(main)
            ok(stack(other, "down"))
            assert.equal(0, own.servers_in(place_of(main).data))
        end)
    end

    for _, name in ipairs { "data", "sockets", "data/postgres", "data/redis" } do
        it("in place of " .. name .. ", does not touch its target", function()
            local folder, base = new_folder "project"
            ok(stack(folder, "up"))
            ok(stack(folder, "down"))
            local precious = base .. "/precious"
            for _, made in ipairs { "/postgres.new.7", "/redis" } do fs.mkdir_p(precious .. made) end
            -- A running server has its process number there; this one does.
            fs.write(precious .. "/postmaster.pid", process.pid() .. "\n")
            fs.write(precious .. "/.s.PGSQL.5432", "")
            fs.write(precious .. "/postgres.new.7/novel", "chapter one")
            local before = { fs.stat(precious).mode, fs.stat(precious).uid }
            local part = folder .. "/.dbrun/stack/" .. name
            fs.rmtree(part)
            fs.symlink(precious, part)
            for _, command in ipairs { "up", "status", "down", "env" } do
                local r = stack(folder, command)
                assert.equal(1, r.code, command)
                assert.matches(name .. "' is not a folder, but a link", r.stderr, 1, true)
            end
            ok(stack(folder, "reset", "--force"))
            assert.equal("chapter one", fs.read(precious .. "/postgres.new.7/novel"))
            for _, file in ipairs { "/postmaster.pid", "/.s.PGSQL.5432", "/redis" } do
                assert.is_true(fs.exists(precious .. file), file)
            end
            assert.same(before, { fs.stat(precious).mode, fs.stat(precious).uid })
        end)
    end
end)

describe("dbrun stack, whose record of Redis is lost,", function()
    after_each(clean_up)

    it("stops it with reset", function()
        local folder = new_folder()
        ok(stack(folder, "up"))
        local pid = own.pid_of(folder, "redis")
        fs.unlink(place_of(folder).data .. "/redis/redis.pid")
        ok(stack(folder, "reset", "--force"))
        assert.is_false(process.alive(pid))
    end)

    it("stops it when the folder was removed, before it starts another one", function()
        local folder = new_folder()
        ok(stack(folder, "up"))
        local pid = own.pid_of(folder, "redis")
        fs.rmtree(folder .. "/.dbrun")
        ok(stack(folder, "up"))
        assert.is_false(process.alive(pid))
        answers(folder)
    end)
end)
