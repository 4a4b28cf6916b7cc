--- Texts of signals for people: spans of time, sizes, sessions. Short, and on one line.
local shown <const> = require "dbrun.dry.shown"
local sizes <const> = require "dbrun.prompt.describe.sizes"

local M = {}

local LONGEST <const>, LONGEST_TEXT <const> = 60, 200 -- bytes of a name and of a text from outside

---A name from outside (application_name, a slot, a gid): control characters escaped, cut when it is long.
---@param text string
---@return string
function M.name(text) return shown.cut(text, LONGEST) end

---A text from outside (a message, or the text of a job's own signal), treated like name().
---@param text string
---@return string
function M.text(text) return shown.cut(text, LONGEST_TEXT) end

---"0.4 s", "12 s", "5 min", "3 h 20 min".
---@param n number
---@return string
function M.seconds(n)
    if n < 9.95 then return (("%.1f"):format(n):gsub("%.0$", "")) .. " s" end
    if n < 119.5 then return ("%.0f s"):format(n) end
    local minutes <const> = math.floor(n / 60 + 0.5)
    if minutes < 120 then return ("%d min"):format(minutes) end
    if minutes < 48 * 60 then return ("%d h %02d min"):format(minutes // 60, minutes % 60) end
    return ("%d days"):format(minutes // 1440)
end

---"8192 bytes", "16 kB", "12 GB", as the server writes them.
---@param n number
---@return string
function M.bytes(n) return sizes.pretty(math.floor(n)) end

---A session: "pid 812 (crm)"; with its role if it has no application_name.
---@param pid integer
---@param application? string
---@param role? string
---@return string
function M.session(pid, application, role)
    if application and application ~= "" then return ("pid %d (%s)"):format(pid, M.name(application)) end
    if role then return ("pid %d (role %s)"):format(pid, M.name(role)) end
    return ("pid %d"):format(pid)
end

return M
