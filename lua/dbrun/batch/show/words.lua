--- Texts that the commands share: shares, spans of time, moments, a job's name in a command.
local bounds <const> = require "dbrun.batch.walk.bound"
local cli = require "dbrun.command_line"

local M = {}

---A share, never rounded up to the whole, and down to nothing: "41 %", "<0.1 %", "99.9 %"; "-" where none is known.
---@param share? number 0 to 1
---@return string
function M.share(share)
    if not share then return "-" end
    if share >= 1 then return "100 %" end
    local percent <const> = share * 100
    if percent > 0 and percent < 0.1 then return "<0.1 %" end
    if percent > 0 and percent < 1 or percent > 99 then return ("%.1f %%"):format(math.floor(percent * 10) / 10) end
    return ("%d %%"):format(math.floor(percent))
end

---A rate of rows: "9,120 rows/s", "0.4 rows/s".
---@param rate number
---@return string
function M.rate(rate)
    if rate >= 10 then return cli.count(math.floor(rate + 0.5)) .. " rows/s" end
    return ("%.1f rows/s"):format(rate)
end

---A span of time to the second: "0 s", "25 s", "3 min 05 s".
---@param seconds number
---@return string
function M.span(seconds)
    if seconds < 59.5 then return ("%d s"):format(math.floor(math.max(0, seconds) + 0.5)) end
    return cli.duration(seconds)
end

---A moment on the clock of this machine.
---@param epoch number seconds since 1970
---@return string
function M.moment(epoch)
    return os.date("%Y-%m-%d %H:%M:%S", math.floor(epoch)) --[[@as string]]
end

---A text from JSON; nil for null.
---@param value any
---@return string?
function M.text(value)
    if type(value) == "string" or type(value) == "number" then return cli.one_line(tostring(value)) end
    return nil
end

---A key or a bound: "42", "(2024-01-01, 7)".
---@param bound? string[]|string|number
---@return string
function M.key(bound)
    if bound == nil then return "the start" end
    return cli.one_line(bounds.text(bound))
end

---A name as a word of a shell's command line.
---@param name string
---@return string
function M.quoted(name)
    if name:find "^[%w_./:@%%+=-]+$" and name:sub(1, 1) ~= "-" then return name end
    return ("'%s'"):format(cli.one_line(name):gsub("'", "'\\''"))
end

---A command followed by a job's name.
---@param command string "resume"
---@param name string
---@return string
function M.command(command, name)
    return ("dbrun batch %s %s"):format(command, M.quoted(name))
end

return M
