--- Lines of facts after labels, for people. Text from a server or a file stays on its line.
local cli <const> = require "dbrun.command_line"

local M = {}

local LABEL <const> = 12

---@class dbrun.batch.Lines
---@field list string[]
local Lines = {}
Lines.__index = Lines

---@return dbrun.batch.Lines
function M.new() return setmetatable({ list = {} }, Lines) end

---Adds a line, or several, after a label.
---@param label string
---@param ... string
function Lines:add(label, ...)
    for i, text in ipairs { ... } do
        local name <const> = i == 1 and label or ""
        self.list[#self.list + 1] = "  " .. name .. (" "):rep(LABEL - #name) .. cli.one_line(text)
    end
end

---Adds a text, of one line or more, by itself.
---@param text string
function Lines:say(text)
    for line in (text .. "\n"):gmatch "([^\n]*)\n" do self.list[#self.list + 1] = cli.one_line(line) end
end

---A number of something: "~1,200 rows" when it is estimated.
---@param n integer
---@param one string
---@param estimated? boolean
---@return string
function M.number(n, one, estimated)
    return (estimated and "~" or "") .. cli.plural(math.floor(n + 0.5), one)
end

---A span of time to expect, never less than a second.
---@param seconds number
---@return string
function M.span(seconds)
    if seconds < 59.5 then return ("%d s"):format(math.max(1, math.ceil(seconds))) end
    return cli.duration(math.floor(seconds))
end

local UNITS <const> = { "bytes", "kB", "MB", "GB", "TB" }

---@param bytes integer
---@return string "640 kB"
function M.bytes(bytes)
    local n, unit = bytes, 1
    while n >= 1024 and unit < #UNITS do n, unit = n / 1024, unit + 1 end
    if unit == 1 then return cli.plural(bytes, "byte") end
    return (n < 10 and "%.1f %s" or "%.0f %s"):format(n, UNITS[unit])
end

---A share for people, which is never rounded to all or nothing.
---@param share number
---@return string
function M.share(share)
    local percent <const> = 100 * share
    if percent <= 0 or percent >= 100 then return percent <= 0 and "none" or "all" end
    if percent < 0.1 then return "<0.1 %" end
    if percent < 1 or percent > 99 then return ("%.1f %%"):format(math.min(99.9, percent)) end
    return ("%.0f %%"):format(percent)
end

return M
