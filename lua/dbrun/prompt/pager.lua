--- What the prompt prints: to the terminal, through a pager when it is higher than the screen, or to a file.
local core = require "dbrun.core"
local process = require "dbrun.process"
local tty = require "dbrun.tty"

local M = {}

local function height()
    local lines <const> = core.tty.height and core.tty.height(1)
    return lines or math.tointeger(tonumber(os.getenv "LINES")) or nil
end

local function is_higher(text)
    local rows <const> = height()
    if not rows or rows < 1 or tty.dumb(1) or not tty.isatty(0) then return false end
    local _, n = text:gsub("\n", "")
    return n >= rows
end

--- The pager, as a shell command; nil: none.
local function pager()
    local own <const> = os.getenv "PAGER"
    if own then return own:find "%S" and own or nil end
    return "less -FRSX"
end

---Shows a text, with its end of line.
---@param text string
function M.show(text)
    local command <const> = is_higher(text) and pager()
    if command then
        local ok <const>, result <const> = pcall(process.run, {
            "sh", "-c", command, stdin = text, stdout = "inherit", stderr = "inherit", check = false,
        })
        if ok and result.code ~= 127 and result.code ~= 126 then return end
    end
    io.stdout:write(text)
    io.stdout:flush()
end

return M
