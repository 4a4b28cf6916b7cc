--- dbrun init: the files of a new project, and the existing files that it keeps.

local process <const> = require "dbrun.process"
local run <const> = require "spec.support.command".run

describe("dbrun init", function()
    it("makes eight files of less than 25 lines, and prints the next commands", function()
        local r = run("lua init && wc -l .env.example .gitignore .luarc.json scripts/*.lua scripts/*/* spec/* "
            .. "| grep -v total && for f in scripts/*.lua scripts/seeds/* spec/*; do luac5.4 -p $f; done; test -x "
            .. "scripts/tidy.lua; test ! -e .env; echo $?")
        assert.equal(0, r.code, r.err)
        assert.matches("\n8 files%. Next:\n  dbrun %-%-stack migrate up  ", r.out)
        assert.matches("cp %.env%.example %.env, and leave %-%-stack out%.  Every night: 15 3 %* %* %*  cd /", r.out)
        assert.matches("created   scripts/migrations/%d%d%d%d%d%d%d%d%d%d%d%d%d%d_create_notes%.sql\n", r.out)
        local counted = 0
        for lines, name in r.out:gmatch "\n *(%d+) ([%w._/]+)" do
            if name ~= "files." then
                assert.is_true(tonumber(lines) < 25, name)
                counted = counted + 1
            end
        end
        assert.equal(8, counted)
        assert.matches("\n0\n$", r.out)
    end)

    it("keeps existing files, also the second time, and adds lines to .gitignore", function()
        local r = run("printf 'node_modules' > .gitignore; lua init > /dev/null; echo mine > scripts/tidy.lua; "
            .. "cp -r . ../copy; lua init; cat .gitignore; rm -rf .dbrun ../copy/.dbrun; "
            .. "diff -r . ../copy && echo same")
        assert.equal(0, r.code, r.err)
        assert.matches("\n0 files, 8 kept%. Next:\n", r.out)
        assert.matches("node_modules\n/%.env\n/%.dbrun/\nsame\n$", r.out)
        r = run("printf '.dbrun\\n/.env\\n' > .gitignore; lua init; cat .gitignore")
        assert.matches("\nkept      %.gitignore\n", r.out)
        assert.matches("\n%.dbrun\n/%.env\n$", r.out)
    end)

    it("adds no sample to a project that has migrations", function()
        for _, path in ipairs { "scripts/migrations/0001_app.sql", "db/migrations/20260101000000_app.sql" } do
            local r = run(("mkdir -p $(dirname %s); touch %s; lua init; find . -name '*notes*' -o -name 'tidy*'")
                :format(path, path))
            assert.equal(0, r.code, r.err)
            assert.matches("\n3 files%. Next:\n", r.out)
            assert.not_matches("notes", r.out)
            assert.not_matches("tidy", r.out)
        end
    end)

    it("makes a folder of any name", function()
        for _, name in ipairs { "a b", "it's", "-x", "deep/er" } do
            local quoted = "'" .. name:gsub("'", "'\\''") .. "'"
            local r = run(("lua init -- %s && cd ./%s && ls"):format(quoted, quoted))
            assert.equal("scripts\nspec\n", r.out:match "[^\n]*\n[^\n]*\n$", r.err)
        end
    end)

    it("writes nothing when another file is in the way", function()
        for make, words in pairs {
            ["touch scripts"] = "'./scripts' is a file, where a folder must be",
            ["mkdir .gitignore"] = "'./.gitignore' is a folder, where a file must be",
            ["mkdir scripts; touch scripts/seeds"] = "'./scripts/seeds' is a file, where a folder must be",
        } do
            local r = run(make .. "; lua init; echo $?; ls -A | wc -l")
            assert.equal("1\n1\n", r.out, r.err)
            assert.truthy(r.err:find(words, 1, true), r.err)
            assert.not_matches("traceback", r.err)
        end
        local r = run "touch f; lua init f"
        assert.equal(2, r.code)
        assert.matches("'f' is a file, not a folder", r.err)
        assert.equal(2, run("lua init a b").code)
    end)

    it("says when it has no right to write", function()
        if process.uid() ~= 0 then pending "needs root, who can become another user" return end
        local r = run("chmod 711 ..; cp $(readlink -f $(command -v lua)) ../mine; mkdir scripts; cp $(dirname $("
            .. "readlink "
            .. "-f $(command -v lua)))/../scripts/init.lua scripts; chmod 755 . ../mine scripts; setpriv --reuid 65534 "
            .. "--clear-groups ../mine scripts/init.lua")
        assert.equal(1, r.code, r.err)
        assert.matches("init: cannot write to the folder", r.err)
    end)

    it("writes stubs that Lua can read, and renews those of another version", function()
        local r = run("lua init > /dev/null; cd .dbrun/stubs; find . -name '*.lua' -exec luac5.4 -p {} \\; && "
            .. "grep -c 'function M.read(' dbrun/fs.lua; echo old > version; touch dbrun/gone.lua; cd ../../scripts; "
            .. "lua config > /dev/null; cat ../.dbrun/stubs/version; ls ../.dbrun/stubs/dbrun/gone.lua 2>&1 | wc -l; "
            .. "grep -l 'return M' ../.dbrun/stubs/dbrun/db.lua")
        assert.matches("^1\n%d+%.%d+%.%d+\n1\n", r.out, r.err)
        assert.matches("stubs/dbrun/db%.lua\n$", r.out)
    end)

    it("writes methods into stubs as those of their classes", function()
        local r = run("lua init > /dev/null; cat .dbrun/stubs/dbrun/classes.lua .dbrun/stubs/dbrun/db.lua")
        assert.matches("%-%-%-@class dbrun.Connection: dbrun.Engine\n[^\n].-\nlocal Class = {}\n", r.out)
        assert.matches("%-%-%-@param fn fun%(tx: dbrun.Connection%): %.%.%.\n%-%-%-@return any[^\n]*\n[^f]*"
            .. "function Class:transaction%(opts, fn%) end\n", r.out)
        assert.matches("%-%-%-@type dbrun.Engine\nM.async = nil\n", r.out)
        assert.matches("%-%-%-@param opts dbrun.EngineOptions\n%-%-%-@return dbrun.Engine\n"
            .. "function M.engine%(opts%) end\n", r.out)
    end)

    it("says when stubs cannot be renewed, and goes on", function()
        local r = run("lua init > /dev/null; echo old > .dbrun/stubs/version; rm -rf .dbrun/stubs/dbrun; "
            .. "ln -s /dev/null/x .dbrun/stubs/dbrun; mkdir .dbrun/stubs/.lock; lua config --show DB_POOL_SIZE")
        assert.equal("20\n", r.out)
        assert.matches("the stubs in .dbrun/stubs stay as they are: ", r.err)
    end)
end)
