--- The history of the input: in ~/.local/state/dbrun/history, or the file that DBRUN_HISTORY names; an empty
--- DBRUN_HISTORY switches it off. Lines with a secret are not kept.
local errors = require "dbrun.error"
local fs = require "dbrun.fs"

local M = {}

--- Entries that are kept.
local LIMIT <const> = 5000

---@return string|nil path nil: no history
local function path_of()
    local own <const> = os.getenv "DBRUN_HISTORY"
    if own then return own ~= "" and own or nil end
    local state <const>, home <const> = os.getenv "XDG_STATE_HOME", os.getenv "HOME"
    if state and state:sub(1, 1) == "/" then return fs.join(state, "dbrun/history") end
    return home and home ~= "" and fs.join(home, ".local/state/dbrun/history") or nil
end

--- An entry is a line of the file.
local function encode(text) return (text:gsub("\\", "\\\\"):gsub("\n", "\\n")) end
local function decode(line) return (line:gsub("\\(.)", function(c) return c == "n" and "\n" or c end)) end

---Whether a Redis command contains a password: AUTH, ACL SETUSER, CONFIG SET requirepass, MIGRATE ... AUTH2.
local function is_login(text)
    local command <const> = (text:match "^%s*\\redis%s+(.*)$" or ""):upper()
    return command:find("AUTH", 1, true) ~= nil or command:find("SETUSER", 1, true) ~= nil
        or command:find("PASS", 1, true) ~= nil
end

---Whether a message would mask a part of it.
local function has_secret(text)
    return is_login(text) or errors.new { kind = "usage", message = text }.message ~= text
end

--- The file, which is made if needed.
local function create(path)
    if fs.exists(path) then return end
    fs.mkdir_p(path:match "^(.*)/[^/]*$" or ".", tonumber("700", 8))
    fs.write(path, "", tonumber("600", 8))
end

---Reads the history.
---@param remember fun(text: string) for the arrow keys
---@return fun(text: string) add adds an entry, at once to the file, too
---@return string|nil message why nothing is kept
function M.open(remember)
    local path <const> = path_of()
    local last
    local lines <const>, message = {}, nil
    if path then
        local file <const> = pcall(create, path) and io.open(path, "r")
        if file then
            for line in file:lines() do lines[#lines + 1] = line end
            file:close()
        else
            message = ("no history is kept: %s cannot be written"):format(path)
        end
    end
    if #lines > LIMIT then
        table.move(lines, #lines - LIMIT + 1, #lines, 1)
        for i = #lines, LIMIT + 1, -1 do lines[i] = nil end
        local ok <const> = pcall(function()
            local file <const> = assert(io.open(path, "w"))
            file:write(table.concat(lines, "\n"), "\n")
            file:close()
        end)
        if not ok then message = ("the history cannot be cut to %d lines: %s"):format(LIMIT, path) end
    end
    for _, line in ipairs(lines) do
        last = decode(line)
        remember(last)
    end
    return function(text)
        if text == last or not text:find "%S" or has_secret(text) then return end
        last = text
        remember(text)
        local file <const> = path and not message and io.open(path, "a")
        if file then
            file:write(encode(text), "\n")
            file:close()
        end
    end, message
end

return M
