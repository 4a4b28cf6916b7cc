--- A typed line cut into the words of a command, by the rules of redis-cli: blanks separate, "..." has the escapes
--- \n \r \t \b \a \xHH \" \\, '...' has only \'.
local args = require "dbrun.args"

local M = {}

local ESCAPES <const> = { n = "\n", r = "\r", t = "\t", b = "\b", a = "\a" }

---The word in double quotes whose first byte is at `at`; nil: they do not end.
local function double_quoted(line, at)
    local out = {}
    while true do
        local plain <const>, sign <const> = line:match('^([^"\\]*)(["\\])', at)
        if not plain then return nil end
        out[#out + 1], at = plain, at + #plain + 1
        if sign == '"' then return table.concat(out), at end
        local hex <const> = line:match("^x(%x%x)", at)
        local c <const> = line:sub(at, at)
        if c == "" then return nil end
        out[#out + 1] = hex and string.char(tonumber(hex, 16)) or ESCAPES[c] or c
        at = at + (hex and 3 or 1)
    end
end

---The same for single quotes.
local function single_quoted(line, at)
    local out = {}
    while true do
        local plain <const>, sign <const> = line:match("^([^'\\]*)(['\\])", at)
        if not plain then return nil end
        out[#out + 1], at = plain, at + #plain + 1
        if sign == "'" then return table.concat(out), at end
        local quote <const> = line:sub(at, at) == "'"
        out[#out + 1], at = quote and "'" or "\\", quote and at + 1 or at
    end
end

local QUOTED <const> = { ['"'] = double_quoted, ["'"] = single_quoted }

---Cuts a line into words.
---@param line string
---@return string[]? words nil: the line is wrong
---@return string? why
function M.split(line)
    args.check("words.split", "the line", line, "string")
    local words, at = {}, 1
    while true do
        at = line:find("[^%s\0]", at)
        if not at then return words end
        local parts = {}
        while at <= #line and not line:find("^[%s\0]", at) do
            local plain <const> = line:match("^[^%s\0\"']+", at)
            if plain then
                parts[#parts + 1], at = plain, at + #plain
            else
                local quote <const> = line:sub(at, at)
                local text <const>, behind <const> = QUOTED[quote](line, at + 1)
                if not text then return nil, ("the quote %s at column %d does not end"):format(quote, at) end
                if behind <= #line and not line:find("^[%s\0]", behind) then
                    return nil, ("a blank must follow the quote %s at column %d"):format(quote, behind - 1)
                end
                parts[#parts + 1], at = text, behind
            end
        end
        words[#words + 1] = table.concat(parts)
    end
end

return M
