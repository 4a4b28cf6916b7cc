--- The private stack in temporary folders: runs `dbrun stack ...` there, looks at its files, and cleans up.
local assert = require "luassert"
local core = require "dbrun.core"
local daemon = require "dbrun.stack.daemon"
local fs = require "dbrun.fs"
local initdb = require "spec.support.initdb"
local process = require "dbrun.process"

local M = {}

M.dbrun = core.options.program
M.script = fs.join(fs.cwd(), "scripts/stack.lua")
M.is_root = process.uid() == 0

--- A file's mode as text, such as "700".
function M.oct(text) return tonumber(text, 8) end

--- The first `up` of a folder copies a cluster; with `initdb = true` it runs initdb.
local function copies(folder, words, spec)
    return words[1] == "up" and not (spec.initdb or spec.program or spec.env and spec.env.PATH)
        and not fs.exists(folder .. "/.dbrun")
end

--- Runs `dbrun stack ...` in a folder.
function M.stack(folder, ...)
    local words = { ... }
    local spec = type(words[#words]) == "table" and table.remove(words) or {}
    if copies(folder, words, spec) then
        spec.env = spec.env or {}
        spec.env.DBRUN_PG_BINDIR = spec.env.DBRUN_PG_BINDIR or initdb.bindir()
    end
    spec.initdb = nil
    local program = spec.program or { M.dbrun, M.script }
    local argv = { table.unpack(program) }
    table.move(words, 1, #words, #argv + 1, argv)
    for name, value in pairs(spec) do
        if name ~= "program" then argv[name] = value end
    end
    argv.cwd, argv.timeout = argv.cwd or folder, argv.timeout or 90
    return process.run(argv)
end

--- Fails when the program failed.
function M.ok(result)
    assert.are.equal(0, result.code, result.stderr .. result.stdout)
    return result
end

local folders = {}

--- A folder that the servers' user can enter.
function M.new_folder(name)
    local base = fs.mkdtemp()
    fs.chmod(base, M.oct "755")
    folders[#folders + 1] = base
    local folder = name and fs.join(base, name) or base
    fs.mkdir_p(folder)
    return folder, base
end

function M.place_of(folder)
    local out = {}
    for line in fs.read(folder .. "/.dbrun/stack/place"):gmatch("[^\n]+") do
        local key, value = line:match("^(%w+)=(.*)$")
        out[key] = value:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
    end
    return out
end

function M.pid_of(folder, server)
    local data = M.place_of(folder).data
    local file = server == "redis" and "/redis/redis.pid" or "/postgres/postmaster.pid"
    return math.tointeger(tonumber(fs.read(data .. file):match("%d+")))
end

function M.servers_in(data)
    local postgres = daemon.processes("postgres", data .. "/postgres")
    local redis = daemon.processes("redis-server", data .. "/redis")
    return #postgres + #redis
end

function M.urls(folder)
    local out = M.ok(M.stack(folder, "env")).stdout
    return assert(out:match("DATABASE_URL=([^\n]+)\n")), assert(out:match("REDIS_URL=([^\n]+)\n"))
end

-- The server version's own psql: Debian's psql in PATH is a Perl script, which takes four times as long to start.
local function psql_program()
    local path = require("dbrun.stack.programs").postgres().bindir .. "/psql"
    return fs.exists(path) and path or "psql"
end

function M.psql(folder, sql)
    local r = process.run { psql_program(), "-XAtqw", "-d", (M.urls(folder)), "-c", sql, timeout = 20 }
    assert.are.equal("", r.stderr)
    return (r.stdout:gsub("\n$", ""))
end

function M.redis_cli(folder, ...)
    local argv = { "redis-cli", "-s", M.place_of(folder).sockets .. "/redis.sock", ... }
    argv.timeout = 20
    return (process.run(argv).stdout:gsub("\n$", ""))
end

function M.answers(folder)
    assert.are.equal("dbrun|dbrun", M.psql(folder, "select current_database(), current_user"))
    assert.are.equal("PONG", M.redis_cli(folder, "ping"))
end

function M.clean_up()
    for _, base in ipairs(folders) do
        for _, found in ipairs(fs.exists(base) and fs.list(base) or {}) do
            local inner = fs.join(base, found)
            if fs.exists(inner .. "/.dbrun/stack/place") then M.stack(inner, "reset", "--force") end
        end
        if fs.exists(base .. "/.dbrun/stack/place") then M.stack(base, "reset", "--force") end
        fs.rmtree(base)
    end
    M.forget()
end

--- From now on the caller cleans up what was made so far.
function M.forget()
    folders = {}
end

--- `clean_up` also cleans up this folder.
function M.remember(folder)
    folders[#folders + 1] = folder
end

return M
