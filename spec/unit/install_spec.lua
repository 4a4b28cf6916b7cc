--- make install and make uninstall. They install what is built already: nothing is compiled, because only the last step
--- of both, runtime/install/install.sh, is run, as the Makefile does.

local core <const> = require "dbrun.core"
local fs <const> = require "dbrun.fs"
local process <const> = require "dbrun.process"

describe("make install", function()
    local build <const> = fs.dirname(core.options.program)
    local top

    -- The files that `make install` makes before that step.
    setup(function()
        if not fs.exists(build .. "/man") then require("dbrun.manual.man").write(build .. "/man") end
        if not fs.exists(build .. "/manual") then require("dbrun.manual.site").write(build .. "/manual") end
        local shells = require "dbrun.completion.shells"
        fs.mkdir_p(build .. "/completion")
        for name, shell in pairs { dbrun = "bash", _dbrun = "zsh", ["dbrun.fish"] = "fish" } do
            fs.write(build .. "/completion/" .. name, shells[shell])
        end
    end)
    before_each(function() top = fs.mkdtemp(fs.tempdir() .. "/dbrun-install-") end)
    after_each(function() fs.rmtree(top) end)

    local function step(verb, destdir, prefix)
        local r = process.run { "sh", "runtime/install/install.sh", verb, destdir, prefix, build, timeout = 60 }
        assert.equal(0, r.code, r.stderr)
        return r
    end

    it("accepts a prefix with blanks and quotes, and removes each folder that it made", function()
        for _, prefix in ipairs { "/a b", "/it's/deep $x" } do
            step("install", "", top .. prefix)
            local r = process.run { top .. prefix .. "/bin/dbrun", "config", "--help", cwd = "/", timeout = 10 }
            assert.matches("^Usage: dbrun config", r.stdout, r.stderr)
            assert.is_true(fs.exists(top .. prefix .. "/share/dbrun/lua/dbrun/init.lua"))
            assert.is_true(fs.exists(top .. prefix .. "/share/man/man1/dbrun.1"))
            for _, name in ipairs { "bash-completion/completions/dbrun", "zsh/site-functions/_dbrun",
                "fish/vendor_completions.d/dbrun.fish" } do
                assert.is_true(fs.exists(top .. prefix .. "/share/" .. name))
            end
            step("uninstall", "", top .. prefix)
            assert.same({}, fs.list(top))
        end
    end)

    it("puts everything below DESTDIR, which can be relative and have blanks", function()
        step("install", top .. "/d e", "/usr/local")
        assert.is_true(fs.exists(top .. "/d e/usr/local/bin/dbrun"))
        assert.not_matches(top, fs.read(top .. "/d e/usr/local/share/dbrun/installed"), 1, true)
        step("uninstall", top .. "/d e", "/usr/local")
        assert.same({}, fs.list(top))
    end)

    it("keeps folders that existed before, and files of others", function()
        fs.mkdir_p(top .. "/bin")
        fs.mkdir_p(top .. "/share/man")
        step("install", "", top)
        step("install", "", top)
        fs.write(top .. "/share/dbrun/scripts/mine.lua", "return 0\n")
        local r = step("uninstall", "", top)
        assert.matches("has files of others, which stay", r.stderr)
        assert.equal("return 0\n", fs.read(top .. "/share/dbrun/scripts/mine.lua"))
        fs.unlink(top .. "/share/dbrun/scripts/mine.lua")
        fs.rmdir(top .. "/share/dbrun/scripts")
        fs.rmdir(top .. "/share/dbrun")
        assert.same({ "bin", "share" }, fs.list(top))
        assert.same({ "man" }, fs.list(top .. "/share"))
    end)

    it("removes files of an older version that this one does not have", function()
        step("install", "", top .. "/p")
        local list = top .. "/p/share/dbrun/installed"
        fs.write(top .. "/p/share/dbrun/scripts/gone.lua", "")
        fs.write(list, fs.read(list) .. "share/dbrun/scripts/gone.lua\n")
        step("install", "", top .. "/p")
        assert.is_false(fs.exists(top .. "/p/share/dbrun/scripts/gone.lua"))
        step("uninstall", "", top .. "/p")
        assert.is_false(fs.exists(top .. "/p"))
    end)

    it("passes the values of the Makefile unchanged", function()
        local r = process.run { "make", "-n", "uninstall", "PREFIX=/tmp/it's a b", "DESTDIR=/d e", timeout = 30 }
        assert.equal(0, r.code, r.stderr)
        assert.truthy(r.stdout:find([[uninstall '/d e' '/tmp/it'\''s a b' 'build']], 1, true), r.stdout)
    end)
end)
