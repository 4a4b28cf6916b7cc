--- standard_conforming_strings in a text: while it is off, plain strings have escapes like E'...', which changes where
--- statements end. psql asks the server after each statement; here a text is read before it runs, so the statements
--- that switch the setting are interpreted. The run checks the result (dbrun.migrate.run.steps).
local scan <const> = require "dbrun.core".sql.scan

local M = {}

local NAME <const> = "standard_conforming_strings"

---Whether a statement of the text may switch the setting.
---@param sql string
---@return boolean
function M.may_switch(sql)
    return sql:lower():find(NAME, 1, true) ~= nil
end

---The words, signs and strings (without their quotes) of a statement, in lower case.
local function pieces_of(sql, escapes)
    local list, at = {}, 1
    while true do
        local behind, kind = scan(sql, at, escapes)
        if not behind then return list end
        if kind ~= "blank" and kind ~= "comment" then
            local text = sql:sub(at, behind - 1):lower()
            if kind == "string" then text = text:match "^e?'(.*)'$" or text end
            if kind == "quoted" then text = text:match '^"(.*)"$' or text end
            list[#list + 1] = text
        end
        at = behind
    end
end

local OFF <const> = { off = true, ["false"] = true, ["0"] = true, no = true, f = true, n = true, of = true, fa = true,
    fal = true, fals = true }

---The effect of a statement on the setting: nil = none, else "off", "on" or "default", and whether it is local.
local function switched(pieces)
    local first, at = pieces[1], 2
    if first == "reset" then return (pieces[2] == NAME or pieces[2] == "all") and "default" or nil end
    if first == "discard" then return pieces[2] == "all" and "default" or nil end
    if first == "set" then
        local is_local <const> = pieces[2] == "local"
        if is_local or pieces[2] == "session" then at = 3 end
        if pieces[at] ~= NAME then return nil end
        local value <const> = pieces[at + 2]
        return value == "default" and "default" or OFF[value] and "off" or "on", is_local
    end
    for i, piece in ipairs(pieces) do
        if piece == "set_config" and pieces[i + 2] == NAME then
            return OFF[pieces[i + 4]] and "off" or "on", pieces[i + 6] == "true"
        end
    end
end

---@class dbrun.migrate.StringMode
---@field escapes boolean the setting is off
---@field statement fun(self, sql: string) applies the effect of the next statement of the text

local Mode = {}
Mode.__index = Mode

function Mode:statement(sql)
    local pieces <const> = pieces_of(sql, self.escapes)
    local first <const> = pieces[1]
    if first == "begin" or first == "start" then
        self.before = self.before or { session = self.session }
    elseif first == "commit" or first == "end" then
        self.escapes, self.before = self.session, nil
    elseif (first == "rollback" or first == "abort") and pieces[2] ~= "to" and pieces[3] ~= "to" then
        if self.before then self.session, self.escapes, self.before = self.before.session, self.before.session, nil end
    else
        local value, is_local = switched(pieces)
        if not value or is_local and not self.before then return end
        local escapes <const> = value == "off" or value == "default" and self.default
        self.escapes = escapes
        if not is_local then self.session = escapes end
    end
end

---Follows the setting through the statements of a text.
---@param escapes? boolean it is off at the beginning
---@return dbrun.migrate.StringMode
function M.track(escapes)
    local off <const> = escapes or false
    return setmetatable({ escapes = off, session = off, default = off }, Mode)
end

---The statement with an E before each plain string, for a parser that assumes the setting to be on.
---@param sql string
---@return string
function M.for_parser(sql)
    local out, at = {}, 1
    while true do
        local behind, kind = scan(sql, at, true)
        if not behind then return table.concat(out) end
        local text <const> = sql:sub(at, behind - 1)
        local before <const> = sql:sub(math.max(1, at - 2), at - 1):lower()
        local prefixed <const> = before:find "^.?[bxn]$" or before == "u&"
        out[#out + 1] = kind == "string" and text:sub(1, 1) == "'" and not prefixed and " E" .. text or text
        at = behind
    end
end

return M
