-- What every contender needs to run: paths, servers, and a function that measures a process.
local json <const> = require "dbrun.json"
local shell <const> = require "bench.lib.shell"

---@class bench.Context
---@field dbrun string       -- the binary that is measured
---@field home string        -- the folder of run.lua
---@field build string       -- where floors are compiled to
---@field tmp string         -- scratch
---@field seconds number     -- how long one run lasts
---@field servers? bench.Servers
local Context = {}
Context.__index = Context

local M = {}

---@param fields table  -- dbrun, home, build, tmp, seconds
---@return bench.Context
function M.new(fields)
    return setmetatable(fields, Context)
end

--- The environment variables that name the servers; pool sizes are the documented defaults, whatever the
--- caller's environment says.
---@return table<string, string>
function Context:env()
    local env <const> = {
        DB_POOL_SIZE = "20", DB_MAX_OVERFLOW = "10", SYNC_POOL_SIZE = "5", REDIS_MAX_CONNECTIONS = "50",
    }
    if self.servers then
        env.DATABASE_URL, env.REDIS_URL = self.servers.database_url, self.servers.redis_url
    end
    return env
end

--- Compiles floor/NAME.c unless that is done already.
---@param name string
---@param link? string[]  -- words after the source
---@param as? string  -- the program's name, when one source is linked in several ways
---@return string program
function Context:compile(name, link, as)
    local source <const> = self.home .. "/floor/" .. name .. ".c"
    as = as or name
    local program <const> = self.build .. "/" .. as
    self.compiled = self.compiled or {}
    if not self.compiled[as] then
        local argv <const> = { "cc", "-O2", "-std=c11", "-D_GNU_SOURCE" }
        local include <const> = shell.first_line { "pg_config", "--includedir" }
        if include then argv[#argv + 1] = "-I" .. include end
        table.move({ "-o", program, source }, 1, 3, #argv + 1, argv)
        table.move(link or {}, 1, #(link or {}), #argv + 1, argv)
        shell.must(argv)
        self.compiled[as] = true
    end
    return program
end

---@class bench.Run
---@field wall number     -- seconds
---@field cpu number      -- seconds, user and system
---@field rss_kib number  -- the largest resident set
---@field status integer

--- Runs a program and measures it. When it fails, raises an error with its standard error.
---@param argv (string|number)[]
---@param opts? { runs?: integer, quiet?: boolean, limit?: number }  -- quiet: do not return its output
---@return string output
---@return bench.Run[]
function Context:measure(argv, opts)
    opts = opts or {}
    local costs <const>, complaints <const> = self.tmp .. "/costs", self.tmp .. "/said"
    local words <const> = {
        self:compile "measure", "-n", opts.runs or 1, "-t", opts.limit or self.seconds * 3 + 30, "-o", costs,
    }
    words[#words + 1] = "--"
    table.move(argv, 1, #argv, #words + 1, words)
    local sh <const> = { "sh", "-c", opts.quiet and 'exec "$@" >"$0" 2>&1' or 'exec "$@" 2>"$0"', complaints }
    table.move(words, 1, #words, #sh + 1, sh)
    local out <const>, status <const> = shell.run(sh, self:env())
    if status ~= 0 then
        local said <const> = (shell.read(complaints) or "") .. out
        local why <const> = status == 124 and "took too long and was killed" or "ended with status " .. status
        error(("%s %s\n%s"):format(table.concat(argv, " "), why, said), 0)
    end
    local runs <const> = {}
    for line in assert(shell.read(costs)):gmatch "[^\n]+" do runs[#runs + 1] = json.decode(line) end
    return out, runs
end

return M
