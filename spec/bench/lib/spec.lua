-- Runs specs that measure: they print their figures in lines that begin with '#'.
local servers <const> = require "bench.lib.servers"
local shell <const> = require "bench.lib.shell"

local M = {}

local BUSTED <const> = "/usr/bin/busted"

--- The missing packages that specs need; nil when none.
---@return string|nil
function M.missing()
    local more <const> = servers.missing()
    if not shell.exists(BUSTED) then return "lua-busted" .. (more and " " .. more or "") end
    return more
end

--- Counts the tests of a TAP report. Raises when one has failed or is missing.
---@param text string
---@return integer passed
---@return string told the lines of figures
function M.read(text)
    local planned, passed, ended, told = nil, 0, 0, {}
    for line in text:gmatch "[^\n]+" do
        if line:find "^not ok " then error(text, 0) end
        if line:find "^ok " then ended = ended + 1 end
        if line:find "^ok " and not line:find "# SKIP" then passed = passed + 1 end
        planned = planned or math.tointeger(tonumber(line:match "^1%.%.(%d+)$"))
        told[#told + 1] = line:match "^# (.*)"
    end
    if passed == 0 or planned ~= ended then error("the spec ended before its last test:\n" .. text, 0) end
    return passed, table.concat(told, "\n")
end

--- Runs specs, with variables set for them. Raises when a test of them fails.
---@param ctx bench.Context
---@param env table<string, string|number>
---@param limit number seconds
---@param ... string files from the root of the project
---@return string told
---@return bench.Run
function M.run(ctx, env, limit, ...)
    local argv <const> = { "env", "-C", ctx.home .. "/../.." }
    for name, value in pairs(env) do argv[#argv + 1] = name .. "=" .. value end
    local words <const> = { ctx.dbrun, BUSTED, "--ignore-lua", "-o", "TAP", ... }
    table.move(words, 1, #words, #argv + 1, argv)
    local out <const>, runs <const> = ctx:measure(argv, { limit = limit })
    local _, told <const> = M.read(out)
    return told, runs[1]
end

return M
