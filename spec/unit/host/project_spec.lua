--- The project's folder, and the files that belong to it.

local process <const> = require "dbrun.process"
local run <const> = require "spec.support.command".run

describe("the project's folder", function()
    ---Runs a shell command; returns its output. $PWD is the folder of the files.
    local function out(command, files)
        local r = run("unset DATABASE_URL\n" .. command, files)
        assert.equal(0, r.code, r.err)
        return r.out
    end

    local WHOSE <const> = "lua config --show project"

    it("is the nearest one upwards with .dbrun, .env or scripts/migrations", function()
        for _, marker in ipairs { "mkdir p/.dbrun", "touch p/.env", "mkdir -p p/scripts/migrations" } do
            assert.equal("yes\n", out("mkdir -p p/a/b; " .. marker .. "; cd p/a/b; "
                .. "test $(" .. WHOSE .. ") = $(readlink -f ../..) && echo yes"))
        end
        assert.equal("/p/q\n", out("mkdir -p p/q/r; touch p/.env p/q/.env; cd p/q/r; "
            .. WHOSE .. " | sed 's|.*/folder||'"))
    end)

    it("is the current folder when that has one, or when there is none above", function()
        assert.equal("/p/q\n/x\n", out("mkdir -p p/q x; touch p/.env p/q/.env; cd p/q; " .. WHOSE
            .. " | sed 's|.*/folder||'; cd ../../x; " .. WHOSE .. " | sed 's|.*/folder||'"))
    end)

    it("is not made by a folder .env, a file .dbrun or a file scripts/migrations", function()
        assert.equal("/p/a\n", out("mkdir -p p/a p/.env p/scripts; touch p/.dbrun p/scripts/migrations; cd p/a; "
            .. WHOSE .. " | sed 's|.*/folder||'"))
    end)

    it("is searched up to a folder with .git, inclusive", function()
        assert.equal("/p/a\n/p\n", out("mkdir -p p/a/b p/a/.git; touch p/.env; cd p/a/b; touch ../.env; "
            .. WHOSE .. " | sed 's|.*/folder||'; rm -rf ../.git; rm ../.env; echo gitdir: x > ../../.git; "
            .. WHOSE .. " | sed 's|.*/folder||'"))
        assert.equal("/p/a\n", out("mkdir -p p/a; touch p/.env p/a/.git; cd p/a; "
            .. WHOSE .. " | sed 's|.*/folder||'"))
        assert.equal("/p/a/b\n", out("mkdir -p p/a/b; touch p/.env p/a/.git; cd p/a/b; "
            .. WHOSE .. " | sed 's|.*/folder||'"))
    end)

    it("is searched up to $HOME, inclusive", function()
        assert.equal("/h/a\n/h\n", out("mkdir -p h/a; touch .env; export HOME=$PWD/h; cd h/a; "
            .. WHOSE .. " | sed 's|.*/folder||'; touch ../.env; " .. WHOSE .. " | sed 's|.*/folder||'"))
    end)

    it("is never above it in a world-writable folder, even with the sticky bit", function()
        for _, mode in ipairs { "777", "1777", "707" } do
            local r = run("mkdir -p p/a p/scripts; echo 'print \"trap\"' > p/scripts/tidy.lua; touch p/.env; chmod "
                .. mode .. " p; cd p/a; lua tidy; lua config | grep ^project")
            assert.not_matches("trap", r.out)
            assert.matches("p/a +current folder; /.*/p is not used: all may write there", r.out)
            assert.matches("the project in /.*/p is not used: all may write there; %-C names it", r.err)
            assert.equal("trap\n", out("mkdir -p p/a p/scripts; echo 'print \"trap\"' > p/scripts/tidy.lua; "
                .. "touch p/.env; chmod " .. mode .. " p; cd p/a; lua -C .. tidy"))
        end
        assert.equal("group\n", out("mkdir -p p/a p/scripts; echo 'print \"group\"' > p/scripts/tidy.lua; "
            .. "touch p/.env; chmod 775 p; cd p/a; lua tidy"))
    end)

    it("ends the search where it is not trusted: folders above are another project", function()
        assert.equal("/p/q/a\n", out("mkdir -p p/q/a; touch p/.env p/q/.env; chmod 777 p/q; cd p/q/a; "
            .. WHOSE .. " | sed 's|.*/folder||'"))
    end)

    describe("with several users", function()
        local function as_root(name, fn)
            it(name, function()
                if process.uid() ~= 0 then pending "needs root, who can give files away" return end
                fn()
            end)
        end
        -- The folder of the specs belongs to root, and the binary's folder can, too.
        local PUBLIC <const> = "chmod 711 ..; cp $(readlink -f $(command -v lua)) ../mine; chmod 755 ../mine . ; "

        as_root("is never above it when another user owns it, root included", function()
            local r = run("mkdir -p p/a p/scripts; echo 'print \"trap\"' > p/scripts/tidy.lua; touch p/.env; "
                .. "chown 65534 p; cd p/a; lua tidy; lua config | grep ^project")
            assert.not_matches("trap", r.out)
            assert.matches("is not used: another user owns it", r.out)
            r = run(PUBLIC .. "mkdir -p p/a; touch p/.env; chown 65534 p/a; cd p/a; "
                .. "setpriv --reuid 65534 --clear-groups ../../../mine -e 'print(require \"dbrun.project\".above())'")
            assert.equal("nil\n", r.out, r.err)
        end)

        as_root("may be the caller's under sudo", function()
            assert.equal("/p\n/p/a\n", out("mkdir -p p/a; touch p/.env; chown 65534 p; cd p/a; SUDO_UID=65534 "
                .. WHOSE .. " | sed 's|.*/folder||'; SUDO_UID=65533 " .. WHOSE .. " | sed 's|.*/folder||'"))
        end)

        as_root("counts in the current folder whoever owns it", function()
            assert.equal("1\n", out(PUBLIC .. "mkdir p; echo KEY=1 > p/.env; chmod 755 p; cd p; "
                .. "setpriv --reuid 65534 --clear-groups ../../mine -e 'print(require \"dbrun.config\".KEY)'"))
        end)

        as_root("refuses what somebody else has left where all may write", function()
            local r = run("mkdir -p p/scripts; chmod 1777 p; cd p; echo KEY=1 > .env; chown 65534 .env; "
                .. "lua -e 'print(require \"dbrun.config\".KEY)'")
            assert.equal(2, r.code)
            assert.matches("%.env belongs to user %w+, in a folder that all may write", r.err)
            r = run("mkdir -p p/scripts; chmod 1777 p; cd p; for f in verify scripts/verify.lua; do "
                .. "echo 'print \"trap\"' > $f; chown 65534 $f scripts; done; lua verify --help; lua config")
            assert.not_matches("trap", r.out)
            assert.matches("Usage: dbrun verify", r.out)
            assert.matches("scripts belongs to user %w+, in a folder that all may write", r.err)
            assert.equal("mine\n", out("mkdir -p p/scripts; chmod 1777 p; cd p; echo 'print \"mine\"' > "
                .. "scripts/verify.lua; lua verify"))
        end)
    end)

    it("has .env, scripts, migrations, seeds, hooks and expectations", function()
        local text = out("mkdir -p p/a p/scripts/migrations; echo DBRUN_SEEDS_DIR=./data > p/.env; "
            .. "echo 'print(arg[0], require \"dbrun.fs\".cwd())' > p/scripts/where.lua; cd p/a; lua where; "
            .. "lua -e 'local c = require \"dbrun.config\" print(c.DBRUN_SEEDS_DIR, c.DBRUN_HOOKS_DIR) "
            .. "print((require \"dbrun.migrate.read.folders\".default())) "
            .. "print(require \"dbrun.project\".path(require \"dbrun.verify.expect\".DEFAULT_FILE)) "
            .. "print(require \"dbrun.stack.place\".folder()) print(c.source \"DBRUN_SEEDS_DIR\")' "
            .. "| sed 's|[^ \t]*/folder||g'")
        assert.matches("^/.*/p/scripts/where.lua\t/.*/p/a\n", text)
        assert.matches("\n/p/data\t/p/scripts/hooks\n/p/scripts/migrations\n/p/scripts/expect.lua\n/p/.dbrun/stack\n"
            .. "/p/.env line 1\n$", text)
    end)

    it("does not change paths of the command line, which start at the current folder", function()
        assert.equal("here\nbeside\n", out("mkdir -p p/a; touch p/.env; cd p/a; echo 'print \"here\"' > x.lua; "
            .. "echo KEY=beside > e; lua x.lua; lua --env-file e -e 'print(require \"dbrun.config\".KEY)'"))
    end)

    it("is left out of names in messages, inside the project", function()
        assert.equal("scripts/migrations\n.env line 1\n", out("mkdir -p scripts/migrations; echo K=1 > .env; lua -e "
            .. "'local c = require \"dbrun.config\" print(c.DBRUN_MIGRATIONS_DIR) print(c.source \"K\")'"))
    end)

    it("is shown by `dbrun config` as text and as JSON", function()
        local text = out("mkdir -p p/a; touch p/.env; cd p/a; lua config; lua config --format json; "
            .. "lua -C .. config")
        assert.matches("\nproject +/.*/p +folder above\n", text)
        assert.matches('"key": "project",\n    "source": "folder above",\n    "value": "/.*/p"', text)
        assert.matches("\nproject +/.*/p +current folder\n", text)
    end)
end)

describe("-C", function()
    it("goes to a folder first, and to each further one from there", function()
        assert.equal("folder/a b/c\n", run("mkdir -p 'a b/c'; lua -C 'a b' -Cc -e 'print(require \"dbrun.fs\".cwd())' "
            .. "| sed 's|.*/folder|folder|'").out)
        assert.equal("x\n", run("mkdir a; echo 'print \"x\"' > a/x.lua; lua -C a x.lua").out)
        assert.equal("1\n", run("mkdir a; echo K=1 > a/e; lua --env-file e -C a -e "
            .. "'print(require \"dbrun.config\".K)'").out)
    end)

    it("refuses a path that is not a folder", function()
        for given, words in pairs {
            ["-C nix"] = "-C: cannot go to nix: No such file or directory",
            ["-C f"] = "-C: cannot go to f: Not a directory",
            ["-C ''"] = "-C: expected a folder, got an empty name", ["-C"] = "'-C' needs argument",
            ["-C a -C nix"] = "-C: cannot go to nix",
        } do
            local r = run("mkdir a; lua " .. given .. " -e 'print(1)'", { f = "" })
            if given == "-C" then r = run "lua -C" end
            assert.equal("", r.out)
            assert.equal(2, r.code)
            assert.truthy(r.err:find(words, 1, true), r.err)
        end
    end)
end)

describe("a mistyped command line", function()
    local function hint(command, near, files)
        local r = run(command, files)
        assert.equal(2, r.code, r.err)
        assert.equal("", r.out)
        assert.truthy(r.err:find(("did you mean '%s'?"):format(near), 1, true), r.err)
    end

    it("suggests the nearest command, of the installation and of the project", function()
        hint("lua migrat up", "migrate")
        hint("lua verfy", "verify")
        hint("lua Seed", "seed")
        hint("lua conifg.lua", "config")
        hint("mkdir scripts; touch scripts/purge.lua; lua prge", "purge")
        hint("mkdir -p a scripts/migrations; touch scripts/purge.lua; cd a; lua prge", "purge")
    end)

    it("suggests the nearest option", function()
        hint("lua --stak", "--stack")
        hint("lua -stack", "--stack")
        hint("lua --no_env -e 1", "--no-env")
        hint("lua --statment-timeout=1", "--statement-timeout")
        local r = run "lua --zzzzzzzzz"
        assert.not_matches("did you mean", r.err)
        assert.matches("lua: unrecognized option '%-%-zzzzzzzzz' %(dbrun %-%-help lists them%)\n", r.err)
    end)

    it("suggests nothing without a similar name", function()
        assert.not_matches("did you mean", run("lua xyzzy-frobnicate").err)
    end)

    it("runs a regular file with a command's name, but not a folder", function()
        for _, name in ipairs { "config", "verify", "stack" } do
            assert.matches("^Usage: dbrun " .. name, run(("mkdir %s; lua %s --help"):format(name, name)).out)
            assert.matches("^Usage: dbrun " .. name, run(("mkfifo %s; lua %s --help"):format(name, name)).out)
        end
        assert.equal("file\n", run("lua verify", { verify = "print 'file'" }).out)
        assert.equal("file\n",
            run("mkdir t; ln -s ../verify t/verify; cd t; lua verify", { verify = "print 'file'" }).out)
        local r = run("mkdir config; lua ./config")
        assert.matches("cannot read ./config", r.err)
        assert.equal(1, r.code)
    end)

    it("lists its options in --help", function()
        local help = run("lua --help").out
        for _, name in ipairs { "-C DIR", "--env-file FILE", "--lock-timeout S", "--log LEVEL" } do
            assert.truthy(help:find("\n  " .. name .. " ", 1, true), name)
        end
    end)
end)
