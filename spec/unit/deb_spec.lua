--- The Debian package: its source folder and its rules. Building it takes as long as compiling, so debhelper only
--- prints what it would do.
local fs <const> = require "dbrun.fs"
local process <const> = require "dbrun.process"

describe("make deb", function()
    local top, copy, version

    local function out(command)
        local r <const> = process.run { "sh", "-c", command, timeout = 60 }
        assert.equal(0, r.code, command .. ": " .. r.stdout .. r.stderr)
        return r.stdout
    end
    local function has(program) return process.run({ "sh", "-c", "command -v " .. program }).code == 0 end

    setup(function()
        version = fs.read("Makefile"):match "\nVERSION%s*:=%s*(%S+)"
        top = fs.mkdtemp()
        out(("sh runtime/install/deb.sh source '%s/d e b' %s"):format(top, version))
        copy = top .. "/d e b/dbrun-" .. version
    end)
    teardown(function() fs.rmtree(top) end)

    it("copies tracked files, with debian/ on top", function()
        for _, name in ipairs { "Makefile", "lua/dbrun/init.lua", "debian/rules", "debian/control" } do
            assert.is_true(fs.exists(copy .. "/" .. name), name)
        end
        assert.is_false(fs.exists(copy .. "/build"))
        assert.is_true(fs.access(copy .. "/debian/rules", "x"))
    end)

    it("has the program's version, and recommends libraries that are opened on demand", function()
        assert.equal(version, fs.read(copy .. "/debian/changelog"):match "^dbrun %(([^)]*)%)")
        local control <const> = fs.read(copy .. "/debian/control")
        assert.equal("libedit2, libpg-query1504.0, libmimalloc2.0, lua-busted, less",
            control:match "\nRecommends: ([^\n]*)")
        -- The library with whose structs the program was compiled.
        local so <const> = fs.read("runtime/bind/data/sql.c"):match 'DBRUN_PG_QUERY_SONAME "libpg_query%.so%.([%d.]+)"'
        assert.truthy(control:find("libpg-query" .. so, 1, true))
    end)

    it("has rules that debhelper accepts", function()
        if not has "dh" or not has "dpkg-parsechangelog" then
            pending "debhelper and dpkg-dev are not installed"
            return
        end
        assert.equal(version .. "\n", out(("cd '%s' && dpkg-parsechangelog -S Version"):format(copy)))
        assert.matches("debian/rules override_dh_auto_install", out(("cd '%s' && dh binary --no-act"):format(copy)))
    end)

    it("says what is missing", function()
        local r <const> = process.run { "sh", "-c", ("cd '%s' && mkdir bin && for p in rm mkdir git xargs cp find "
            .. "sh; do at=$(command -v $p) && ln -s $at bin; done; cd - >/dev/null; PATH='%s/bin'; "
            .. "sh runtime/install/deb.sh package '%s/x' 1"):format(top, top, top) }
        assert.equal(2, r.code)
        assert.matches("make deb: dh is missing: sudo apt%-get install debhelper", r.stderr)
    end)
end)
