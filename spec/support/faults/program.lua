--- A separate program under a fault: starts it, and checks how it ends.

local core <const> = require "dbrun.core"
local process <const> = require "dbrun.process"

local M <const> = {}

--- The code that every such program begins with. The program prints a line for each piece of work.
M.PRELUDE = [[
io.stdout:setvbuf "line"
local db, task, process = require "dbrun.db", require "dbrun.task", require "dbrun.process"
local errors, fs = require "dbrun.error", require "dbrun.fs"
local url, kind = os.getenv "URL", os.getenv "KIND"
math.randomseed(tonumber(os.getenv "SEED"))
local function open(opts)
    local all = { url = url, mode = kind == "sync" and "sync" or "async", application_name = "under test",
        timeout = 5, connect_timeout = 5, command_timeout = 20 }
    if kind ~= "sync" then all.overflow = 0 end
    if kind == "shared" then all.pipeline = 8 end
    for key, value in pairs(opts or {}) do all[key] = value end
    return db.engine(all)
end
]]

--- Starts the program, with the words (`env`, `sh -c ...`) in front of its command line.
---@param source string
---@param opts {url: string, kind: string, words: string[]?, env: table?}
---@return dbrun.process.Child closable
function M.start(source, opts)
    local spec <const> = { table.unpack(opts.words or {}) }
    table.move({ core.options.program, "--no-env", "-" }, 1, 3, #spec + 1, spec)
    spec.stdin, spec.stdout, spec.stderr, spec.pdeathsig = M.PRELUDE .. source, "capture", "capture", "KILL"
    spec.env = { URL = opts.url, KIND = opts.kind, SEED = math.random(1 << 31) }
    for key, value in pairs(opts.env or {}) do spec.env[key] = value end
    return process.start(spec)
end

--- Waits for its end, and checks its exit status.
---@param child dbrun.process.Child
---@param code? integer its exit status, default 0
---@return string said
function M.ended(child, code)
    local result = child:wait(60)
    if not result then
        child:kill "KILL"
        result = child:wait(10)
        error(("it does not end: %s%s"):format(result.stdout, result.stderr), 0)
    end
    if result.code ~= (code or 0) then
        error(("exit status %d instead of %d: %s%s"):format(result.code, code or 0, result.stdout, result.stderr), 0)
    end
    return result.stdout, result.stderr
end

return M
