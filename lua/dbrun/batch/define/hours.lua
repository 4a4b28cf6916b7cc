--- When a job may work: "22:00-06:00 Europe/Berlin", "mon-fri 22:00-06:00, sat, sun 00:00-24:00 UTC". The server's
--- clock and its time zones decide. A window that reaches over midnight belongs to the day on which it begins.
local catalog <const> = require "dbrun.db.catalog"
local errors <const> = require "dbrun.error"

local M = {}

M.EXPECTED = 'times and a time zone ("22:00-06:00 Europe/Berlin", "mon-fri 20:00-06:00, sat, sun 00:00-24:00 UTC")'

---@class dbrun.batch.Window
---@field from integer minutes since midnight
---@field to integer above 1440 when it ends on the next day
---@field days? table<integer, true> 1 is Monday; nil: each day

---@class dbrun.batch.Hours
---@field text string as it was given
---@field zone string
---@field windows dbrun.batch.Window[]

local DAYS <const> = { mon = 1, tue = 2, wed = 3, thu = 4, fri = 5, sat = 6, sun = 7 }
local DAY <const> = 1440

local function minutes(h, m)
    h, m = tonumber(h), tonumber(m)
    local sum <const> = h * 60 + m
    return m < 60 and sum <= DAY and sum or nil
end

---Adds "sat" or "mon-fri" to a set of days.
local function add_days(set, text)
    local first <const>, last <const> = text:match "^(%a+)%-?(%a*)$"
    local from <const> = DAYS[first]
    local to <const> = last == "" and from or DAYS[last]
    if not from or not to or text:find "%-$" then return false end
    local day = from
    set[day] = true
    while day ~= to do
        day = day % 7 + 1
        set[day] = true
    end
    return true
end

local function window_of(times, days)
    local h1 <const>, m1 <const>, h2 <const>, m2 <const> = times:match "^(%d%d?):(%d%d)%-(%d%d?):(%d%d)$"
    local from <const>, to = h1 and minutes(h1, m1), h1 and minutes(h2, m2)
    if not from or not to or from == to or from == DAY then return nil end
    if to < from then to = to + DAY end
    return { from = from, to = to, days = next(days) and days or nil }
end

---Reads the text.
---@param text string
---@return dbrun.batch.Hours? hours nil: not valid
function M.parse(text)
    local list <const>, zone <const> = text:match "^%s*(.-)%s+([%a_][%w_/+-]*)%s*$"
    if not list then return nil end
    local windows, days = {}, {}
    for part in (list .. ","):gmatch "%s*(.-)%s*," do
        local named <const>, times <const> = part:lower():match "^([%a-]*)%s*([%d:-]*)$"
        if not named or named .. times == "" or named ~= "" and not add_days(days, named) then return nil end
        if times ~= "" then
            windows[#windows + 1] = window_of(times, days)
            if not windows[#windows] then return nil end
            days = {}
        elseif named == "" then
            return nil
        end
    end
    if #windows == 0 or next(days) then return nil end
    return { text = text, zone = zone, windows = windows }
end

---Minutes until the next window begins; 0: it is open.
local function wait_of(hours, day, minute)
    local least = math.huge
    for _, window in ipairs(hours.windows) do
        for back = -1, 0 do -- yesterday's window may reach into today
            local on <const> = (day - 1 + back) % 7 + 1
            if not window.days or window.days[on] then
                local from <const>, to <const> = window.from + back * DAY, window.to + back * DAY
                if minute >= from and minute < to then return 0 end
            end
        end
        for ahead = 0, 7 do
            local on <const> = (day - 1 + ahead) % 7 + 1
            local from <const> = window.from + ahead * DAY
            if (not window.days or window.days[on]) and from > minute then least = math.min(least, from - minute) end
        end
    end
    return least
end

---Whether the job may work at a moment of the zone's clock.
---@param hours dbrun.batch.Hours
---@param day integer 1 is Monday
---@param second number since midnight
---@return string? text nil: it may; else why not, and until when
---@return number? seconds until it may
function M.at(hours, day, second)
    local wait <const> = wait_of(hours, day, second / 60)
    if wait == 0 then return nil end
    local shown <const> = math.ceil(wait)
    return ("outside of %s, which begins in %d:%02d h"):format(hours.text, shown // 60, shown % 60), wait * 60
end

local CLOCK <const> = catalog.sql [[select extract(isodow from t.at)::{int4} as day,
    extract(epoch from t.at {-} {date_trunc}('day', t.at))::{float8} as second
    from (select {timezone}($1::{text}, {clock_timestamp}()) as at) t]]

---Whether the job may work now, by the server's clock. One query.
---@param hours dbrun.batch.Hours|string
---@param conn table
---@return string? text nil: it may; else why not, and until when
---@return number? seconds until it may
---Raises an error of kind `usage` for a time zone that the server does not know.
function M.open(hours, conn)
    if type(hours) == "string" then hours = assert(M.parse(hours)) end
    local ok <const>, row <const> = pcall(conn.one, conn, CLOCK, hours.zone)
    if ok then return M.at(hours, row.day, row.second) end
    if errors.is(row) and row.sqlstate == "22023" then
        errors.fail("usage", ("hours: the server does not know the time zone '%s'"):format(hours.zone),
            "select name from pg_timezone_names lists those that it knows, for example Europe/Berlin or UTC")
    end
    error(row, 0)
end

return M
