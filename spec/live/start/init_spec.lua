--- The steps of `dbrun init` for a user who has only the binary.
local core <const> = require "dbrun.core"
local fs <const> = require "dbrun.fs"
local initdb <const> = require "spec.support.initdb"
local process <const> = require "dbrun.process"

local PROGRAM <const> = fs.realpath(core.options.program)
local LUA_DIR <const> = (os.getenv "DBRUN_LUA_DIR" or "") ~= "" and fs.realpath(os.getenv "DBRUN_LUA_DIR")

describe("dbrun init", function()
    local root, folder

    ---Runs a command line in the folder with only the binary in front of the PATH.
    local function sh(command, where)
        return process.run {
            "env", "-i", "HOME=" .. root, "PATH=" .. root .. "/bin:" .. os.getenv "PATH",
            "DBRUN_PG_BINDIR=" .. initdb.bindir(), LUA_DIR and "DBRUN_LUA_DIR=" .. LUA_DIR or "X=", "sh", "-c", command,
            cwd = where or folder, timeout = 60,
        }
    end
    local function out(command, where)
        local r <const> = sh(command, where)
        assert.equal(0, r.code, command .. ": " .. r.stdout .. r.stderr)
        return r.stdout
    end
    setup(function()
        root = initdb.folder()
        fs.mkdir(root .. "/bin")
        out("cp " .. PROGRAM .. " bin/dbrun", root)
    end)
    teardown(function() fs.rmtree(root) end)
    before_each(function()
        folder = root .. "/shop"
        fs.mkdir(folder)
    end)
    after_each(function() fs.rmtree(folder) end)

    it("prints steps that lead through a migration, a seed, a script, its test and a check", function()
        local printed <const> = out("dbrun init 'my shop; #1'")
        assert.matches("\n8 files%. Next:\n  cd 'my shop; #1'\n", printed)
        local where <const>, commands <const> = folder .. "/my shop; #1", {}
        for line in printed:gmatch "\n  (dbrun [^\n]+)" do commands[#commands + 1] = line:match "^(.-)  +" end
        assert.same({ "dbrun --stack migrate up", "dbrun --stack seed", "dbrun --stack tidy --dry-run",
            "dbrun --stack test", "dbrun --stack verify", "dbrun --stack" }, commands)
        local _ <close> = setmetatable({}, { __close = function() sh("dbrun stack reset --force", where) end })
        local text <const> = {}
        for i, command in ipairs(commands) do text[i] = out(command .. " </dev/null", where) end
        assert.matches("1 migration applied", text[1])
        assert.matches("2 rows", text[2])
        assert.equal("0 notes deleted\n", text[3])
        assert.matches("1 success", text[4])
        assert.matches(" passed", text[5])
        assert.equal("2\n", out("dbrun --stack sql -t 'select count(*) from notes'", where))
        assert.equal("0 notes deleted\n", out("dbrun --stack --timeout 600 tidy", where .. "/scripts/seeds"))
        -- The files for other servers.
        assert.equal("postgresql://app:***@localhost:5432/app .env line 2\n",
            out("cp .env.example .env; dbrun config | grep ^DATABASE_URL | xargs | sed 's/DATABASE_URL //'", where))
    end)

    it("refuses an empty name, such as an unset variable", function()
        local r <const> = sh 'dbrun init "$UNSET"'
        assert.equal(2, r.code)
        assert.equal("init: the folder's name is empty (help: dbrun init --help)\n", r.stderr)
    end)

    it("refuses a dangling link in its way, before it writes", function()
        for _, link in ipairs { "here", "here/.gitignore", "here/scripts", "here/scripts/seeds" } do
            out("rm -rf here; mkdir -p $(dirname " .. link .. "); ln -s nowhere " .. link)
            local before <const> = out "find here | sort"
            local r <const> = sh "dbrun init here"
            assert.equal(1, r.code, link)
            assert.equal("init: '" .. link .. "' is a dangling link\n"
                .. "  hint: remove it; nothing was written\n", r.stderr)
            assert.equal(before, out "find here | sort")
        end
        out "rm -rf here"
    end)

    it("does not cause stubs in a project without them", function()
        out "dbrun config"
        assert.is_false(fs.exists(folder .. "/.dbrun"))
    end)

    it("works beside folders with the names of commands", function()
        out "mkdir init test config help migrate; dbrun init; dbrun config >/dev/null; dbrun help >/dev/null"
        assert.matches("\n8 files", out "dbrun init sub/folder")
        assert.matches("did you mean 'migrate'", sh("dbrun migrat up").stderr)
    end)
end)
