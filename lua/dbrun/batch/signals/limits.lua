--- The limits of signals: their allowed values in a job's file and in the text of `dbrun batch set`, and how they are
--- shown.
local cli_types <const> = require "dbrun.cli.types"
local words <const> = require "dbrun.batch.signals.words"

local M = {}

local types <const> = cli_types.types

---@class dbrun.batch.LimitKind
---@field words string what a limit must be
---@field read fun(value: any): any the limit; nil: not valid
---@field show fun(limit: any): string

local function at_least_zero(v)
    return type(v) == "number" and v >= 0 and v < math.huge and v or nil
end

local function plain(limit) return ("%.12g"):format(limit) end

local function text_or_number(of_text)
    return function(v)
        if type(v) == "string" then v = of_text(v) end
        return at_least_zero(v)
    end
end

---"2x" as 2.
---@param v any
---@return number?
function M.times(v)
    return type(v) == "string" and tonumber((v:match "^(%d*%.?%d*)x$")) or nil
end

---@type table<string, dbrun.batch.LimitKind>
M.KINDS = {
    seconds = {
        words = 'a number of seconds, or a text such as "5s"',
        read = text_or_number(function(v) return (types.seconds.parse(v)) end), show = plain,
    },
    bytes = {
        words = 'a number of bytes, or a text such as "10GiB"',
        read = text_or_number(function(v) return (types.bytes.parse(v)) end), show = words.bytes,
    },
    share = {
        words = 'a share from 0 to 1, or a text such as "20%"',
        read = function(v)
            if type(v) == "string" then
                local percent <const> = tonumber((v:match "^(%d*%.?%d*)%%$"))
                v = percent and percent / 100 or tonumber(v)
            end
            v = at_least_zero(v)
            return v and v <= 1 and v or nil
        end,
        show = function(limit) return ("%.3g %%"):format(limit * 100) end,
    },
    count = {
        words = "a whole number of at least 0",
        read = function(v)
            if type(v) == "string" then v = tonumber(v) end
            return at_least_zero(v) and math.tointeger(v)
        end,
        show = plain,
    },
    times = {
        words = 'a number above 1, or a text such as "10x"',
        read = function(v)
            if type(v) == "string" then v = M.times(v) or tonumber(v) end
            v = at_least_zero(v)
            return v and v > 1 and v or nil
        end,
        show = function(limit) return plain(limit) .. "x" end,
    },
    sessions = {
        words = 'a number of sessions, or a text such as "2x"',
        read = function(v)
            local times <const> = M.times(v)
            if times then return times > 0 and v or nil end
            if type(v) == "string" then v = tonumber(v) end
            return at_least_zero(v)
        end,
        show = function(limit) return type(limit) == "number" and plain(limit) or limit end,
    },
    switch = {
        words = "true or false",
        read = function(v)
            if type(v) == "string" then v = cli_types.switch(v) end
            return v == true or nil
        end,
        show = tostring,
    },
}

return M
