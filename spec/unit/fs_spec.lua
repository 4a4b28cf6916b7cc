--- Files and folders.
local core = require "dbrun.core"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local task = require "dbrun.task"

local function oct(text) return tonumber(text, 8) end

local function raised(kind, fn, ...)
    local ok, e = pcall(fn, ...)
    assert.is_false(ok)
    assert.is_true(errors.is(e, kind), tostring(e))
    return e
end

describe("files and folders", function()
    local dir

    before_each(function() dir = fs.mkdtemp() end)
    after_each(function() fs.rmtree(dir) end)

    it("are written from numbers as with io.write", function()
        fs.write(dir .. "/pid", 55)
        assert.equal("55", fs.read(dir .. "/pid"))
    end)

    it("are distinguished by kind", function()
        fs.write(dir .. "/f", "12345", oct "640")
        fs.symlink("f", dir .. "/l")
        fs.symlink("nowhere", dir .. "/dangling")
        local f = fs.stat(dir .. "/f")
        assert.are.equal("file", f.kind)
        assert.are.equal(5, f.size)
        assert.are.equal(oct "640", f.mode)
        assert.are.equal(process.uid(), f.uid)
        assert.is_true(math.abs(f.mtime - os.time()) < 5)
        assert.are.equal("folder", fs.stat(dir).kind)
        assert.are.equal("file", fs.stat(dir .. "/l").kind)
        assert.are.equal("link", fs.stat(dir .. "/l", true).kind)
        assert.are.equal("f", fs.readlink(dir .. "/l"))
        assert.is_nil(fs.stat(dir .. "/dangling"))
        assert.is_nil(fs.stat(dir .. "/f/below"))
        assert.is_true(fs.exists(dir .. "/f"))
        assert.is_false(fs.exists(dir .. "/none"))
        assert.are.equal(fs.realpath(dir) .. "/f", fs.realpath(dir .. "/./l"))
    end)

    it("are written through links, to pipes and devices, on request", function()
        fs.write(dir .. "/f", "old", oct "640")
        fs.symlink("f", dir .. "/l")
        fs.write(dir .. "/l", "new", nil, { through = true })
        assert.equal("new", fs.read(dir .. "/f"))
        assert.equal(oct "640", fs.stat(dir .. "/f").mode)
        fs.symlink("made", dir .. "/dangling")
        fs.write(dir .. "/dangling", "x", nil, { through = true })
        assert.equal("x", fs.read(dir .. "/made"))
        fs.symlink("/dev/null", dir .. "/nothing")
        fs.write(dir .. "/nothing", "x", nil, { through = true })
        for _, name in ipairs { "l", "dangling", "nothing" } do
            assert.equal("link", fs.stat(dir .. "/" .. name, true).kind)
        end
        fs.symlink("/dev/full", dir .. "/full")
        local full = raised("io", fs.write, dir .. "/full", "x", nil, { through = true })
        assert.equal(("cannot write '%s/full': No space left on device"):format(dir), full.message)
        fs.mkdir_p(dir .. "/folder")
        assert.equal(("cannot write '%s/folder': Is a directory"):format(dir),
            raised("io", fs.write, dir .. "/folder", "x").message)
        fs.write(dir .. "/l", "own")
        assert.equal("file", fs.stat(dir .. "/l", true).kind)
    end)

    it("are made and listed in the order of their bytes", function()
        fs.mkdir_p(dir .. "/a/b c/d", oct "700")
        assert.are.equal(oct "700", fs.stat(dir .. "/a/b c/d").mode)
        fs.mkdir_p(dir .. "/a/b c/d")
        for _, name in ipairs { "b", "B", "é", "a", ".hidden" } do fs.write(fs.join(dir, name .. ".x"), "") end
        assert.are.same({ ".hidden.x", "B.x", "a", "a.x", "b.x", "é.x" }, fs.list(dir))
        assert.is_false(fs.mkdir(dir .. "/a"))
        assert.matches("is not a folder", raised("io", fs.mkdir_p, dir .. "/a.x").message)
        assert.matches("a.x/y", raised("io", fs.mkdir_p, dir .. "/a.x/y").message)
    end)

    it("are removed with all their contents, and links are not followed", function()
        fs.mkdir_p(dir .. "/keep")
        fs.write(dir .. "/keep/f", "x")
        fs.mkdir_p(dir .. "/gone/deep/er")
        fs.write(dir .. "/gone/deep/f", "x")
        fs.symlink(dir .. "/keep", dir .. "/gone/deep/link")
        fs.rmtree(dir .. "/gone")
        assert.is_false(fs.exists(dir .. "/gone"))
        assert.are.equal("x", fs.read(dir .. "/keep/f"))
        fs.symlink(dir .. "/keep", dir .. "/link")
        fs.rmtree(dir .. "/link")
        fs.symlink(dir .. "/keep", dir .. "/link")
        fs.rmtree(dir .. "/link/")
        assert.is_nil(fs.stat(dir .. "/link", true))
        raised("io", fs.rmtree, dir .. "/keep/f/")
        assert.is_true(fs.exists(dir .. "/keep/f"))
        fs.rmtree(dir .. "/never was there")
        assert.is_true(fs.unlink(dir .. "/keep/f"))
        assert.is_false(fs.unlink(dir .. "/keep/f"))
    end)

    it("are removed by several programs at once", function()
        local jobs <const> = 4
        for round = 1, 3 do
            local tree = dir .. "/tree" .. round
            for i = 1, 2000 do fs.mkdir_p(("%s/%d/%d"):format(tree, i % 20, i)) end
            local running = {}
            for job = 1, jobs do
                local remove = ("require('dbrun.fs').rmtree(%q)"):format(tree)
                running[job] = task.spawn(process.run,
                    { core.options.program, "--no-env", "-e", remove, timeout = 60 })
            end
            for job = 1, jobs do
                local result = running[job]:join()
                assert.are.equal(0, result.code, result.stderr)
            end
            assert.is_false(fs.exists(tree))
        end
    end)

    it("are written completely or not at all", function()
        local path = dir .. "/f"
        fs.write(path, "old", oct "600")
        fs.write(path, "new\0\255")
        assert.are.equal("new\0\255", fs.read(path))
        assert.are.equal(oct "600", fs.stat(path).mode, "the mode must stay")
        fs.write(path, "x", nil, { sync = true })
        assert.are.same({ "f" }, fs.list(dir))
        assert.equal(("cannot make the file '%s/none/f': No such file or directory"):format(dir), raised("io", fs.write,
            dir .. "/none/f", "x").message) -- not the name of its temporary file
        fs.mkdir(dir .. "/folder")
        raised("io", fs.write, dir .. "/folder", "x")
        assert.are.same({ "f", "folder" }, fs.list(dir), "a partial file remains")
    end)

    it("report a full disk, and leave no partial file", function()
        if process.uid() ~= 0 then return pending("only root can mount a small file system") end
        local small = dir .. "/small"
        fs.mkdir(small)
        if not process.run({ "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small }).ok then
            return pending("no file system can be mounted here")
        end
        finally(function() process.run { "umount", small } end)
        fs.write(small .. "/f", "old")
        assert.matches("No space left", raised("io", fs.write, small .. "/f", ("x"):rep(100000)).message)
        assert.are.equal("old", fs.read(small .. "/f"))
        assert.are.same({ "f" }, fs.list(small))
        assert.is_true(fs.free_space(small) <= 65536)
    end)

    it("have errors that name path and cause", function()
        assert.matches("cannot read '/no/such': No such file or directory", raised("io", fs.read, "/no/such").message)
        assert.matches("Is a directory", raised("io", fs.read, dir).message)
        assert.matches("cannot list the folder '/no/such'", raised("io", fs.list, "/no/such").message)
        assert.matches("cannot resolve '/no/such'", raised("io", fs.realpath, "/no/such").message)
        assert.matches("cannot rename '/no/such' to '/tmp/x'", raised("io", fs.rename, "/no/such", "/tmp/x").message)
    end)

    it("refuse a NUL in a path", function()
        assert.has_error(function() fs.stat("/tmp\0/x") end)
        assert.has_error(function() fs.rmtree("") end)
    end)

    it("does not remove the current folder, the home folder, that of temporary files, or what contains them", function()
        local top <const> = dir .. "/top"
        for _, folder in ipairs { "/a/cwd", "/h/home/x", "/t/temp" } do
            fs.mkdir_p(top .. folder)
            fs.write(top .. folder .. "/file", "kept")
        end
        fs.symlink("h/home", top .. "/link")
        local refused <const> = {
            ".", "./", "..", "../", "../..", "../../", "../../a", top, top .. "//", top .. "/a", top .. "/a/cwd",
            top .. "/a/cwd/.", top .. "/h", top .. "/h/home/", top .. "/h/home/x/..", top .. "/h/../h/home",
            top .. "/link", top .. "/link/", top .. "/t", top .. "/t/temp", top .. "/link/../../t/temp",
            top .. "/h/home/x/.",
        }
        local r <const> = process.run { core.options.program, "--no-env", "-e", [[
            local fs = require "dbrun.fs"
            for _, path in ipairs(require "dbrun.json".decode(os.getenv "REFUSED")) do
                local ok, problem = pcall(fs.rmtree, path)
                print(path, ok, problem and problem.kind, problem and problem.hint:match "^Nothing was removed%.")
            end
        ]], cwd = top .. "/a/cwd", env = {
            HOME = top .. "/link", TMPDIR = top .. "/t/temp", REFUSED = require "dbrun.json".encode(refused),
        } }
        local expected <const> = {}
        for i, path in ipairs(refused) do expected[i] = path .. "\tfalse\tusage\tNothing was removed.\n" end
        assert.equal(table.concat(expected), r.stdout, r.stderr)
        for _, folder in ipairs { "/a/cwd", "/link/x", "/t/temp" } do
            assert.equal("kept", fs.read(top .. folder .. "/file"))
        end
    end)

    it("change owner and rights", function()
        fs.write(dir .. "/f", "")
        fs.chmod(dir .. "/f", oct "604")
        assert.are.equal(oct "604", fs.stat(dir .. "/f").mode)
        for _, call in ipairs { fs.chmod, fs.mkdir, fs.mkdir_p } do -- no right of these is lost
            assert.matches("mode must be a whole number from 0 to 4095",
                raised("usage", call, dir .. "/g", 1 << 12).message)
        end
        if process.uid() ~= 0 then
            raised("io", fs.chown, dir .. "/f", 0, 0)
        else
            fs.chown(dir .. "/f", 12345, 54321)
            assert.are.equal(12345, fs.stat(dir .. "/f").uid)
            assert.are.equal(54321, fs.stat(dir .. "/f").gid)
        end
    end)

    it("have paths that can be joined and split", function()
        assert.are.equal("/a/b/c", fs.join("/a/", "b", "c"))
        assert.are.equal("/c", fs.join("/a", "/c"))
        assert.are.equal("/a", fs.dirname("/a/b"))
        assert.are.equal("/a", fs.dirname("/a/b/"))
        assert.are.equal("/", fs.dirname("/a"))
        assert.are.equal("/", fs.dirname("/"))
        assert.are.equal(".", fs.dirname("a"))
        assert.are.equal("b", fs.basename("/a/b/"))
        assert.are.equal("/", fs.cwd():sub(1, 1))
    end)
end)

describe("a lock on a file", function()
    local dir, path

    before_each(function()
        dir = fs.mkdtemp()
        path = dir .. "/lock"
    end)
    after_each(function() fs.rmtree(dir) end)

    it("has one holder", function()
        local lock = fs.lock(path)
        assert.is_truthy(lock)
        assert.is_nil(fs.lock(path))
        lock:release()
        lock:release()
        local again <close> = fs.lock(path)
        assert.is_truthy(again)
    end)

    it("is waited for without delaying other tasks", function()
        local lock = fs.lock(path)
        local ticks = 0
        local group <close> = task.group()
        group:spawn(function()
            for _ = 1, 10 do
                task.sleep(0.01)
                ticks = ticks + 1
            end
            lock:release()
        end)
        local second <close> = fs.lock(path, 5)
        assert.is_truthy(second)
        assert.are.equal(10, ticks)
    end)

    it("is waited for no longer than its limit", function()
        local lock <close> = fs.lock(path)
        local t = task.now()
        assert.is_nil(fs.lock(path, 0.1))
        local took = task.now() - t
        assert.is_true(took >= 0.1 and took < 3)
        assert.is_truthy(lock)
    end)

    it("is released when its holder is killed", function()
        local holder <close> = process.start {
            core.options.program, "-e", [[
                local lock = require("dbrun.fs").lock(os.getenv("LOCK_PATH"))
                print(lock ~= nil); io.stdout:flush()
                require("dbrun.task").sleep(30)]], env = { LOCK_PATH = path }, stdout = "capture",
        }
        assert.are.equal("true", holder:read_line(10))
        assert.is_nil(fs.lock(path))
        holder:kill("KILL")
        local lock <close> = fs.lock(path, 5)
        assert.is_truthy(lock)
    end)

    it("is not passed on to children", function()
        local lock = fs.lock(path)
        local child <close> = process.start { "sleep", "30" }
        lock:release()
        local again <close> = fs.lock(path)
        assert.is_truthy(again)
        assert.is_true(child:running())
    end)

    it("is a lock on the existing file, not on a removed one", function()
        local lock = fs.lock(path)
        fs.unlink(path)
        local other <close> = fs.lock(path)
        assert.is_truthy(other)
        lock:release()
        assert.is_nil(fs.lock(path))
    end)
end)
