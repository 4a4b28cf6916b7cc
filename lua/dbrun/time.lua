--- Dates and times as text and as numbers. The numbers are whole microseconds since 1970-01-01T00:00:00Z: PostgreSQL's
--- own precision, so nothing is lost; `to_epoch` and `from_epoch` use seconds.
---
---     local time = require "dbrun.time"
---     local at = time.parse "2024-02-29T12:34:56.789+00:00"          -- 1709210096789000
---     print(time.format(time.add(at, { months = 1 })))                -- 2024-03-29T12:34:56.789+00:00
---     print(time.to_epoch "2024-02-29 13:34:56.789+01")               -- 1709210096.789   1709210096789000
---
--- A moment can be given as a text everywhere. A text without an offset is in UTC, like the texts of the engines.
--- Calendar arithmetic (months, days, weekdays) is done in UTC, or at the given offset.
---
--- Every function raises an error of kind `usage` that shows a value which is not a time.
---
--- Raises an error of kind `usage` that shows a value which is not a time.
local args = require "dbrun.args"
local core = require "dbrun.core"
local errors = require "dbrun.error"

local M = {}

local SECOND <const> = 1000000
local MINUTE <const>, HOUR <const>, DAY <const> = 60 * SECOND, 3600 * SECOND, 86400 * SECOND

---PostgreSQL's `infinity` and `-infinity` as microseconds.
M.INFINITY = math.maxinteger
M.MINUS_INFINITY = math.mininteger

---@alias dbrun.Moment integer|string microseconds since 1970, or a text
---@alias dbrun.TimeKind "timestamptz"|"timestamp"|"date"|"time"|"timetz"|"infinity"
---@alias dbrun.Offset integer|string seconds east of UTC, or a text: "+02:00", "-0330", "Z"

---@class dbrun.TimeParts
---@field year integer 0 is 1 BC, -1 is 2 BC
---@field month integer
---@field day integer
---@field hour integer
---@field min integer
---@field sec integer
---@field usec integer microseconds
---@field weekday integer 1 is Monday, 7 Sunday
---@field yearday integer
---@field offset integer seconds east of UTC

-- ---- errors ----

---A text for an error: shortened, on one line.
local function quoted(text)
    text = text:gsub("[%c]", "?")
    return #text > 60 and ("'%s...'"):format(text:sub(1, 57)) or ("'%s'"):format(text)
end

local function is_infinite(us)
    return us == math.maxinteger or us == math.mininteger
end

---a + b, or an error outside 64 bits of microseconds (years -290308 to 294247).
local function sum(where, a, b)
    local r <const> = a + b
    if (a ~ r) & (b ~ r) < 0 or is_infinite(r) then
        errors.usage("time." .. where, "the result is beyond what 64 bits of microseconds since 1970 hold")
    end
    return r
end

-- ---- the calendar ----

---Days since 1970-01-01 of a date in the proleptic Gregorian calendar: eras of 400 years whose years begin in March, so
---that the leap day comes last.
local function days_from_civil(year, month, day)
    if month <= 2 then year = year - 1 end
    local era <const> = year // 400
    local of_era <const> = year - era * 400
    local of_year <const> = (153 * (month > 2 and month - 3 or month + 9) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
end

local function civil_from_days(days)
    local z <const> = days + 719468
    local era <const> = z // 146097
    local doe <const> = z - era * 146097
    local yoe <const> = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    local doy <const> = doe - (365 * yoe + yoe // 4 - yoe // 100)
    local mp <const> = (5 * doy + 2) // 153
    local month <const> = mp < 10 and mp + 3 or mp - 9
    return yoe + era * 400 + (month <= 2 and 1 or 0), month, doy - (153 * mp + 2) // 5 + 1
end

local MONTH_DAYS <const> = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local function days_in(year, month)
    local leap <const> = month == 2 and year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
    return MONTH_DAYS[month] + (leap and 1 or 0)
end

-- ---- reading ----

local OFFSETS <const> = { "^([+-])(%d%d)$", "^([+-])(%d%d):?(%d%d)$", "^([+-])(%d%d):(%d%d):(%d%d)$" }

---Seconds east of UTC; nil when the text is not an offset.
local function parse_offset(text)
    if text == "Z" or text == "z" then return 0 end
    for _, pattern in ipairs(OFFSETS) do
        local sign <const>, h <const>, m <const>, s <const> = text:match(pattern)
        if sign then
            local hours <const>, minutes <const>, seconds <const> = tonumber(h), tonumber(m or 0), tonumber(s or 0)
            if hours > 15 or minutes > 59 or seconds > 59 then return nil end
            local east <const> = hours * 3600 + minutes * 60 + seconds
            return sign == "-" and -east or east
        end
    end
end

---Digits after the point as microseconds, rounded.
local function parse_fraction(digits)
    local us <const> = math.tointeger(tonumber((digits .. "000000"):sub(1, 6)))
    return us + ((digits:byte(7) or 0) >= 0x35 and 1 or 0)
end

---"12:34:56.789+02": microseconds since midnight, and the offset in seconds (nil when there is none); or nil and why.
local function parse_clock(text)
    local h, m, rest = text:match "^(%d%d):(%d%d)(.*)$"
    if not h then return nil, "expected a time as HH:MM:SS" end
    local s, us = 0, 0
    local digits <const>, behind <const> = rest:match "^:(%d%d)(.*)$"
    if digits then
        s, rest = tonumber(digits), behind
        local fraction <const>, after <const> = rest:match "^%.(%d+)(.*)$"
        if fraction then us, rest = parse_fraction(fraction), after end
    end
    h, m = tonumber(h), tonumber(m)
    local clock <const> = h * HOUR + m * MINUTE + s * SECOND + us
    if m > 59 or s > 60 or clock > DAY then return nil, "there is no such time of day" end
    if rest == "" then return clock end
    local offset <const> = parse_offset(rest)
    if not offset then return nil, ("'%s' is not an offset from UTC"):format(rest) end
    return clock, nil, offset
end

---"2024-02-29" and what follows: days since 1970 and the rest; or nil and why.
local function parse_date(text)
    local year, month, day, rest = text:match "^(%d%d%d%d%d*)%-(%d%d)%-(%d%d)(.*)$"
    if not year then return nil, "expected a date as YYYY-MM-DD, or a time as HH:MM:SS" end
    if #year > 7 then return nil, "there is no such year" end
    year, month, day = math.tointeger(tonumber(year)), tonumber(month), tonumber(day)
    local before <const>, era <const> = rest:match "^(.-) ([AB][DC])$"
    if before then rest = before end
    if year == 0 then return nil, "there is no year 0: 1 BC is 0001-MM-DD BC" end
    if era == "BC" then year = 1 - year end
    if month < 1 or month > 12 or day < 1 or day > days_in(year, month) then return nil, "there is no such day" end
    return days_from_civil(year, month, day), rest
end

---@return integer|nil us nil: `kind` says why
---@return string kind
---@return integer? offset
local function read(text)
    if text == "infinity" then return M.INFINITY, "infinity" end
    if text == "-infinity" then return M.MINUS_INFINITY, "infinity" end
    local days, kind, clock_part = 0, "time", text
    if not text:find "^%d%d:" then
        local rest
        days, rest = parse_date(text)
        if not days then return nil, rest end
        kind, clock_part = rest == "" and "date" or "timestamp", rest:sub(2)
        if rest ~= "" and not rest:find "^[Tt ]" then
            return nil, "expected 'T' or a blank between date and time"
        end
    end
    local clock, why, offset = 0, nil, nil
    if kind ~= "date" then clock, why, offset = parse_clock(clock_part) end
    if not clock then return nil, why end
    if days < -106751990 or days > 106751989 then return nil, "64 bits of microseconds do not reach that far" end
    return days * DAY + clock - (offset or 0) * SECOND, offset and kind .. "tz" or kind, offset
end

---Reads a date, a time or both: the texts of the engines (`2024-02-29T12:34:56.789+00:00`), PostgreSQL's own
---(`2024-02-29 12:34:56.789+02`), `0044-03-15 BC`, years of more than four digits, offsets as `Z`, `+02`, `-0330`,
---`+05:53:28`, `infinity` and `-infinity`. Without an offset it counts as UTC; digits beyond microseconds are rounded.
---@param text string
---@return integer us microseconds since 1970-01-01T00:00:00Z; for a time of day: since midnight
---@return dbrun.TimeKind kind
---@return integer? offset seconds east of UTC, where the text names one
---```lua
---print((time.parse "2024-01-31T12:34:56.789+00:00"))  --> 1706704496789000
---```
function M.parse(text)
    args.check("time.parse", "text", text, "string")
    local us <const>, kind <const>, offset <const> = read(text)
    if not us then errors.usage("time.parse", "%s is not a date or time: %s", quoted(text), kind) end
    return us, kind, offset
end

local MOMENT <const> = { function() return false end, "a text or whole microseconds" }

---A moment as microseconds.
local function moment(where, when)
    if math.type(when) == "integer" then return when end
    if type(when) == "string" then
        local us <const>, why <const> = read(when)
        return us or errors.usage("time." .. where, "%s is not a date or time: %s", quoted(when), why)
    end
    if math.type(when) == "float" then
        errors.usage("time." .. where, "expected a text or whole microseconds, got %g, which is not an integer "
            .. "(seconds: time.from_epoch)", when)
    end
    args.check("time." .. where, "the time", when, MOMENT)
end

local function finite(where, when)
    local us <const> = moment(where, when)
    if is_infinite(us) then errors.usage("time." .. where, "expected a finite time, got infinity") end
    return us
end

local OFFSET <const> = args.one_type_of("string", "number")

---An offset as microseconds.
local function shift_of(where, offset)
    if offset == nil then return 0 end
    args.check("time." .. where, "offset", offset, OFFSET)
    local seconds <const> = type(offset) == "string" and parse_offset(offset) or math.tointeger(offset)
    if not seconds or math.abs(seconds) >= 16 * 3600 then
        errors.usage("time." .. where, "%s is not an offset from UTC", quoted(tostring(offset)))
    end
    return seconds * SECOND
end

-- ---- writing ----

local function clock_text(us, digits)
    local whole <const>, fraction <const> = us // SECOND, us % SECOND
    local text <const> = ("%02d:%02d:%02d"):format(whole // 3600, whole // 60 % 60, whole % 60)
    if digits == 0 or not digits and fraction == 0 then return text end
    local behind <const> = ("%06d"):format(fraction)
    return text .. "." .. (digits and behind:sub(1, digits) or behind:gsub("0+$", ""))
end

local function offset_text(shift)
    local seconds <const> = math.abs(shift) // SECOND
    local text <const> = ("%s%02d:%02d"):format(shift < 0 and "-" or "+", seconds // 3600, seconds // 60 % 60)
    return seconds % 60 == 0 and text or text .. (":%02d"):format(seconds % 60)
end

local FORMAT_OPTIONS <const> = {
    kind = args.one_of("timestamptz", "timestamp", "date", "time", "timetz"), offset = OFFSET,
    digits = args.whole(0, 6),
}

---Writes a moment as the engines do: `2024-02-29T12:34:56.789+00:00`.
---@param when dbrun.Moment
---@param opts? { kind?: "timestamptz"|"timestamp"|"date"|"time"|"timetz", offset?: dbrun.Offset, digits?: integer }
---   kind: what is written, default `timestamptz`; offset: at which it is written, default UTC; digits after the point,
---   0 to 6, the rest are cut off (default: as many as needed)
---@return string
---```lua
---print(time.format((time.parse "2024-02-29T12:34:56Z")))  --> 2024-02-29T12:34:56+00:00
---```
function M.format(when, opts)
    opts = args.options("time.format", opts, FORMAT_OPTIONS)
    local us <const>, kind <const> = moment("format", when), opts.kind or "timestamptz"
    local digits <const> = opts.digits and math.tointeger(opts.digits)
    local shift <const> = shift_of("format", opts.offset)
    if is_infinite(us) then return us > 0 and "infinity" or "-infinity" end
    local at <const> = sum("format", us, shift)
    local zone <const> = kind:find "tz$" and offset_text(shift) or ""
    if kind:find "^timet?z?$" then
        return clock_text(at == DAY and DAY or at % DAY, digits) .. zone -- 24:00:00 differs from 00:00:00
    end
    local year <const>, month <const>, day <const> = civil_from_days(at // DAY)
    local text = ("%04d-%02d-%02d"):format(year > 0 and year or 1 - year, month, day)
    if kind ~= "date" then text = text .. "T" .. clock_text(at % DAY, digits) .. zone end
    return year > 0 and text or text .. " BC"
end

-- ---- seconds ----

---The time now, from the system clock (task.now is monotonic).
---@return integer us
---```lua
---print(math.abs(time.to_epoch(time.now()) - os.time()) <= 1)  --> true
---```
function M.now()
    return core.clock.now()
end

---Seconds since 1970.
---@param when dbrun.Moment
---@return number seconds since 1970 (infinity: math.huge)
---@return integer us the same, exact
---```lua
---print(time.to_epoch "2024-02-29T12:34:56.789Z")  --> 1709210096.789  1709210096789000
---```
function M.to_epoch(when)
    local us <const> = moment("to_epoch", when)
    if is_infinite(us) then return us > 0 and math.huge or -math.huge, us end
    return us / SECOND, us
end

---The moment of seconds since 1970.
---@param seconds number since 1970, rounded to microseconds; as an engine with `timestamps = "epoch"` returns it
---@return integer us
---```lua
---print(time.format(time.from_epoch(1709210096.789)))  --> 2024-02-29T12:34:56.789+00:00
---```
function M.from_epoch(seconds)
    args.check("time.from_epoch", "seconds", seconds, args.limit)
    if seconds == math.huge or seconds == -math.huge then
        return seconds > 0 and M.INFINITY or M.MINUS_INFINITY
    end
    local whole <const> = math.floor(seconds)
    local fraction <const> = seconds - whole
    if math.type(whole) ~= "integer" or whole < -9223372036854 or whole > 9223372036853 then
        errors.usage("time.from_epoch", "%g seconds are more than 64 bits of microseconds hold", seconds)
    end
    return whole * SECOND + math.floor(fraction * SECOND + 0.5)
end

-- ---- the parts of a moment ----

---Year, month, day and time of day of a moment.
---@param when dbrun.Moment
---@param offset? dbrun.Offset default UTC
---@return dbrun.TimeParts
---```lua
---local parts = time.parts "2024-02-29T12:34:56.789Z"
---print(parts.year, parts.month, parts.day, parts.hour)  --> 2024  2  29  12
---```
function M.parts(when, offset)
    local shift <const> = shift_of("parts", offset)
    local at <const> = sum("parts", finite("parts", when), shift)
    local days <const>, clock <const> = at // DAY, at % DAY
    local year <const>, month <const>, day <const> = civil_from_days(days)
    return {
        year = year, month = month, day = day, hour = clock // HOUR, min = clock // MINUTE % 60,
        sec = clock // SECOND % 60, usec = clock % SECOND, weekday = (days + 3) % 7 + 1,
        yearday = days - days_from_civil(year, 1, 1) + 1, offset = shift // SECOND,
    }
end

local PARTS <const> = {
    year = args.whole(-290307, 294246), month = args.whole(1, 12), day = args.whole(1, 31), hour = args.whole(0, 23),
    min = args.whole(0, 59), sec = args.whole(0, 59), usec = args.whole(0, 999999), offset = OFFSET,
    weekday = args.integer, yearday = args.integer, wday = args.integer, yday = args.integer, isdst = "boolean",
}

---Also what os.date "*t" gives. Ignored, because it follows from the rest: weekday, wday, yearday, yday, isdst.
---@class dbrun.TimePartsGiven
---@field year integer
---@field month? integer
---@field day? integer
---@field hour? integer
---@field min? integer
---@field sec? integer
---@field usec? integer
---@field offset? dbrun.Offset
---@field weekday? integer
---@field yearday? integer
---@field wday? integer
---@field yday? integer
---@field isdst? boolean

---The moment that `parts` describes; missing parts are 0 (month and day: 1).
---@param parts dbrun.TimePartsGiven
---@return integer us
---```lua
---print(time.format(time.from_parts { year = 2024, month = 2, day = 29 }))  --> 2024-02-29T00:00:00+00:00
---```
function M.from_parts(parts)
    args.check("time.from_parts", "parts", parts, "table")
    args.options("time.from_parts", parts, PARTS)
    args.check("time.from_parts", "year", parts.year, PARTS.year)
    local v <const> = { month = 1, day = 1, hour = 0, min = 0, sec = 0, usec = 0 }
    for name, value in pairs(parts) do
        if type(value) == "number" then v[name] = math.tointeger(value) end
    end
    if v.day > days_in(v.year, v.month) then
        errors.usage("time.from_parts", "there is no day %d in %d-%02d", v.day, v.year, v.month)
    end
    return days_from_civil(v.year, v.month, v.day) * DAY + v.hour * HOUR + v.min * MINUTE + v.sec * SECOND + v.usec
        - shift_of("from_parts", parts.offset)
end

---The day of the week of a moment.
---@param when dbrun.Moment
---@param offset? dbrun.Offset
---@return integer weekday 1 is Monday, 7 Sunday
---```lua
---print(time.weekday "2024-02-29") -- 1 is Monday  --> 4
---```
function M.weekday(when, offset)
    local at <const> = sum("weekday", finite("weekday", when), shift_of("weekday", offset))
    return (at // DAY + 3) % 7 + 1
end

-- ---- arithmetic ----

local UNITS <const> = {
    microseconds = 1, milliseconds = 1000, seconds = SECOND, minutes = MINUTE, hours = HOUR, days = DAY,
    weeks = 7 * DAY,
}
local MONTHS <const> = { months = 1, quarters = 3, years = 12 }

local DELTA <const> = {
    function(v) return type(v) == "table" end, "whole microseconds or a table such as {days = 1, hours = 2}",
}
local SPAN <const> = {}
for _, units in ipairs { UNITS, MONTHS } do
    for name in pairs(units) do SPAN[name] = "number" end
end

---A span in months and microseconds.
local function span_of(where, delta)
    if math.type(delta) == "integer" then return 0, delta end
    args.check("time." .. where, "delta", delta, DELTA)
    args.options("time." .. where, delta, SPAN)
    local months, us = 0, 0
    for unit, n in pairs(delta) do
        if MONTHS[unit] then
            if not math.tointeger(n) or math.abs(n) > 600000 * 12 then
                errors.usage("time." .. where, "%s: expected a whole number within range, got %g", unit, n)
            end
            months = months + math.tointeger(n) * MONTHS[unit]
        else
            local most <const> = math.maxinteger // UNITS[unit]
            if not (n >= -most and n <= most) then
                errors.usage("time." .. where, "%s = %g is too long a time", unit, n)
            end
            local part <const> = math.type(n) == "integer" and n * UNITS[unit] or math.floor(n * UNITS[unit] + 0.5)
            us = sum(where, us, math.tointeger(part) or errors.usage("time." .. where, "%s = %g is too long a time",
                unit, n))
        end
    end
    return months, us
end

---Adds an interval as PostgreSQL does: months first (a day that the month lacks becomes its last day), then the rest.
---@param when dbrun.Moment
---@param delta integer|table<string, number> microseconds, or any of years, quarters, months, weeks, days, hours,
---   minutes, seconds, milliseconds, microseconds
---@param offset? dbrun.Offset
---@return integer us infinity stays infinity
---```lua
---print(time.format(time.add("2024-01-31", { months = 1 }), { kind = "date" }))  --> 2024-02-29
---```
function M.add(when, delta, offset)
    local us <const> = moment("add", when)
    local months <const>, rest <const> = span_of("add", delta)
    local shift <const> = shift_of("add", offset)
    if is_infinite(us) then return us end
    if months == 0 then return sum("add", us, rest) end
    local at <const> = sum("add", us, shift)
    local year, month, day = civil_from_days(at // DAY)
    local count <const> = year * 12 + month - 1 + months
    year, month = count // 12, count % 12 + 1
    if year < -290307 or year > 294246 then
        errors.usage("time.add", "the result is beyond what 64 bits of microseconds hold")
    end
    day = math.min(day, days_in(year, month))
    return sum("add", days_from_civil(year, month, day) * DAY + at % DAY - shift, rest)
end

---The time between two moments, in microseconds.
---@param a dbrun.Moment
---@param b dbrun.Moment
---@return integer us from b to a: a - b
---```lua
---print(time.diff("2024-03-01", "2024-02-28") / 86400000000)  --> 2.0
---```
function M.diff(a, b)
    local x <const>, y <const> = finite("diff", a), finite("diff", b)
    return sum("diff", x, -y)
end

---The first day of a span without a fixed length.
local STARTS <const> = {
    month = function(year, month) return year, month end,
    quarter = function(year, month) return year, month - (month - 1) % 3 end,
    year = function(year) return year, 1 end,
    decade = function(year) return year // 10 * 10, 1 end,
}
local MONDAY <const> = -3 * DAY -- 1969-12-29
local WIDTHS <const> = {
    millisecond = 1000, second = SECOND, minute = MINUTE, hour = HOUR, day = DAY, week = 7 * DAY,
}

local UNIT <const> = {
    function(v) return WIDTHS[v] or STARTS[v] or math.type(v) == "integer" and v > 0 end,
    'a unit ("millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year", "decade") or whole '
        .. "microseconds above 0", shows = true,
}

---The beginning of the span that contains a moment: PostgreSQL's date_trunc, or a bucket of any width.
---@param when dbrun.Moment
---@param unit "millisecond"|"second"|"minute"|"hour"|"day"|"week"|"month"|"quarter"|"year"|"decade"|integer
---   a week begins on Monday; a number is a width in microseconds, counted from 1970
---@param offset? dbrun.Offset at which days and longer spans begin
---@return integer us infinity stays infinity
---```lua
---print(time.format(time.truncate("2024-02-29T12:34:56Z", "month")))  --> 2024-02-01T00:00:00+00:00
---```
function M.truncate(when, unit, offset)
    local us <const> = moment("truncate", when)
    args.check("time.truncate", "unit", unit, UNIT)
    local width <const> = WIDTHS[unit] or math.type(unit) == "integer" and unit
    local shift <const> = shift_of("truncate", offset)
    if is_infinite(us) then return us end
    local at <const> = sum("truncate", us, shift)
    if width then
        local from <const> = unit == "week" and MONDAY or 0
        return sum("truncate", at - shift, -((at % width - from % width) % width))
    end
    local year <const>, month <const> = STARTS[unit](civil_from_days(at // DAY))
    return days_from_civil(year, month, 1) * DAY - shift
end

return args.answer_for_names(M, "time", {
    strftime = "time.format(when), or os.date", strptime = "time.parse(text)", date = "time.format(when), or os.date",
    iso = "time.format(when)", isoformat = "time.format(when)", tostring = "time.format(when)",
    fromisoformat = "time.parse(text)", time = "time.now() (whole microseconds), or os.time() (seconds)",
    clock = "task.now() (monotonic seconds)", monotonic = "task.now() (monotonic seconds)",
    perf_counter = "task.now() (monotonic seconds)", gettime = "time.now() (whole microseconds)",
    sleep = "task.sleep(seconds)", trunc = "time.truncate(when, unit)", floor = "time.truncate(when, unit)",
    date_trunc = "time.truncate(when, unit)", sub = "time.diff(a, b), or time.add with a span below 0",
    epoch = "time.to_epoch(when)", timestamp = "time.to_epoch(when)",
})
