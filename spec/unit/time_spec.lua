--- Dates and times as text and as numbers.

local errors = require "dbrun.error"
local time = require "dbrun.time"

local DAY <const> = 86400 * 1000000

local function refused(fn, ...)
    local ok, e = pcall(fn, ...)
    assert.is_false(ok)
    assert.is_true(errors.is(e, "usage"), tostring(e))
    return e.message
end

describe("dbrun.time", function()
    describe("parse", function()
        it("reads the engines' text", function()
            local us, kind, offset = time.parse "2024-02-29T12:34:56.789+00:00"
            assert.same({ 1709210096789000, "timestamptz", 0 }, { us, kind, offset })
            assert.same({ 1709210096789000, "timestamp" }, { time.parse "2024-02-29T12:34:56.789" })
            assert.same({ 1709164800000000, "date" }, { time.parse "2024-02-29" })
            assert.same({ 45296500000, "time" }, { time.parse "12:34:56.5" })
            assert.same({ 36000000000, "timetz", 7200 }, { time.parse "12:00:00+02" })
            assert.same({ DAY, "time" }, { time.parse "24:00:00" })
        end)

        it("reads PostgreSQL's own text, with any offset it prints", function()
            local at = time.parse "2024-02-29T12:34:56.789Z"
            for _, text in ipairs {
                "2024-02-29 12:34:56.789", "2024-02-29 13:34:56.789+01", "2024-02-29 09:04:56.789-03:30",
                "2024-02-29 09:04:56.789-0330", "2024-02-29 18:28:24.789+05:53:28", "2024-02-29t12:34:56.789z",
            } do
                assert.equal(at, (time.parse(text)), text)
            end
        end)

        it("reads years before the first and after 9999", function()
            assert.equal(-63517824000000000, (time.parse "0044-03-15 BC"))
            assert.equal(-63517780800000000, (time.parse "0044-03-15T12:00:00 BC"))
            assert.equal(-63517780800000000, (time.parse "0044-03-15 13:00:00+01 BC"))
            assert.equal(time.parse "0001-01-01" - DAY, (time.parse "0001-12-31 BC"))
            assert.equal(253402300800000000, (time.parse "10000-01-01"))
            assert.equal(9223371244799999999, (time.parse "294246-12-31T23:59:59.999999"))
        end)

        it("reads infinity as the ends of the integers", function()
            assert.same({ math.maxinteger, "infinity" }, { time.parse "infinity" })
            assert.same({ math.mininteger, "infinity" }, { time.parse "-infinity" })
        end)

        it("rounds fractions below microseconds, and reads a leap second as the next minute", function()
            assert.equal(time.parse "2024-01-01T00:00:00.000002", (time.parse "2024-01-01T00:00:00.0000015"))
            assert.equal(time.parse "2024-01-01T00:00:00.000001", (time.parse "2024-01-01T00:00:00.00000149999"))
            assert.equal(time.parse "2024-01-01T00:00:01", (time.parse "2024-01-01T00:00:00.9999999"))
            assert.equal(time.parse "2017-01-01T00:00:00Z", (time.parse "2016-12-31T23:59:60Z"))
        end)

        it("refuses texts that are not times, and names them", function()
            for text, why in pairs {
                ["2023-02-29"] = "no such day", ["2024-13-01"] = "no such day", ["2024-00-01"] = "no such day",
                ["2024-04-31T00:00:00"] = "no such day", ["1900-02-29"] = "no such day",
                ["0000-01-01"] = "no year 0", ["2024-01-01T24:00:01"] = "no such time", ["12:60:00"] = "no such time",
                ["2024-01-01T12:00:61"] = "no such time", ["2024-01-01T12"] = "HH:MM:SS",
                ["2024-01-01x12:00"] = "'T' or a blank", ["2024-01-01T12:00+16:00"] = "not an offset",
                ["2024-01-01T12:00+02:60"] = "not an offset", ["2024-01-01T12:00+02:00:5"] = "not an offset",
                ["2024-01-01T12:00 CET"] = "not an offset", ["2024-1-1"] = "YYYY%-MM%-DD", [""] = "YYYY%-MM%-DD",
                ["tomorrow"] = "YYYY%-MM%-DD", ["294277-01-01"] = "64 bits", ["12345678-01-01"] = "no such year",
                [" 2024-01-01"] = "YYYY%-MM%-DD", ["2024-01-01 "] = "HH:MM:SS", ["-0044-01-01"] = "YYYY%-MM%-DD",
            } do
                local message = refused(time.parse, text)
                assert.matches(why, message)
                assert.is_truthy(message:find(("'%s'"):format(text), 1, true), message)
            end
            assert.matches("text must be a string, got nil", refused(time.parse))
            assert.matches("text must be a string, got 1", refused(time.parse, 1))
        end)

        it("shows only a part of a long or hostile text, on one line", function()
            local message = refused(time.parse, ("x\n\27[2J"):rep(1000))
            assert.is_true(#message < 200)
            assert.is_nil(message:find "%c")
        end)
    end)

    describe("format", function()
        local at <const> = time.parse "2024-02-29T12:34:56.789"

        it("writes the engines' text, by default with an offset", function()
            assert.equal("2024-02-29T12:34:56.789+00:00", time.format(at))
            assert.equal("2024-02-29T12:34:56.789", time.format(at, { kind = "timestamp" }))
            assert.equal("2024-02-29", time.format(at, { kind = "date" }))
            assert.equal("12:34:56.789", time.format(at, { kind = "time" }))
            assert.equal("12:34:56.789+00:00", time.format(at, { kind = "timetz" }))
            assert.equal("1969-12-31T23:59:59.999999+00:00", time.format(-1))
            assert.equal("infinity", time.format(time.INFINITY))
            assert.equal("-infinity", time.format(time.MINUS_INFINITY, { kind = "date" }))
        end)

        it("writes at another offset, and with as many digits as wanted", function()
            assert.equal("2024-02-29T18:28:24.789+05:53:28", time.format(at, { offset = "+05:53:28" }))
            assert.equal("2024-02-29T09:04:56.789-03:30", time.format(at, { offset = -12600 }))
            assert.equal("2024-02-29T12:34:56+00:00", time.format(at, { digits = 0 }))
            assert.equal("2024-02-29T12:34:56.789000+00:00", time.format(at, { digits = 6 }))
            assert.equal("2024-02-29T12:34:56.7+00:00", time.format(at, { digits = 1 }))
        end)

        it("refuses invalid options", function()
            assert.matches('kind must be .*, got "instant"', refused(time.format, at, { kind = "instant" }))
            assert.matches("0 to 6", refused(time.format, at, { digits = 7 }))
            assert.matches("not an offset", refused(time.format, at, { offset = "CET" }))
            assert.matches("not an offset", refused(time.format, at, { offset = 57600 }))
        end)
    end)

    describe("seconds", function()
        it("come with the exact microseconds", function()
            assert.same({ 1709210096.789, 1709210096789000 }, { time.to_epoch "2024-02-29 13:34:56.789+01" })
            assert.same({ math.huge, math.maxinteger }, { time.to_epoch "infinity" })
        end)

        it("become microseconds again, also before 1970", function()
            for _, text in ipairs {
                "2024-02-29T12:34:56.123457", "1969-12-31T23:59:59.999999", "1901-01-01T00:00:00.5",
            } do
                assert.equal(time.parse(text), time.from_epoch((time.to_epoch(text))))
            end
            assert.equal(time.INFINITY, time.from_epoch(math.huge))
            assert.equal(1500000, time.from_epoch(1.5))
            assert.equal(2000000, time.from_epoch(2))
        end)

        it("refuse values that are not a number of seconds", function()
            assert.matches("NaN", refused(time.from_epoch, 0 / 0))
            assert.matches("64 bits", refused(time.from_epoch, 1e13))
            assert.matches("64 bits", refused(time.from_epoch, 1e300))
            assert.matches("a string", refused(time.from_epoch, "1"))
            assert.matches("time.from_epoch", refused(time.format, 1709210096.789))
        end)

        it("now is the time of the system's clock", function()
            local before, now, after = os.time(), time.now(), os.time()
            assert.equal("integer", math.type(now))
            assert.is_true(now // 1000000 >= before and now // 1000000 <= after)
        end)
    end)

    describe("add and diff", function()
        local function added(text, delta, offset)
            return time.format(time.add(text, delta, offset), { kind = "timestamp" })
        end

        it("add units and microseconds", function()
            assert.equal("2024-03-01T00:00:00", added("2024-02-28", { days = 2 }))
            assert.equal("2024-03-07T01:01:01.001001", added("2024-02-29",
                { weeks = 1, hours = 1, minutes = 1, seconds = 1, milliseconds = 1, microseconds = 1 }))
            assert.equal("2024-02-29T00:00:00.25", added("2024-02-29", { seconds = 0.25 }))
            assert.equal("2024-02-28T23:59:59.999999", added("2024-02-29", -1))
        end)

        it("add months by the calendar, clipped to the month's last day", function()
            assert.equal("2024-02-29T00:00:00", added("2024-01-31", { months = 1 }))
            assert.equal("2023-02-28T00:00:00", added("2024-02-29", { years = -1 }))
            assert.equal("2023-11-30T00:00:00", added("2024-02-29T00:00:00", { quarters = -1, days = 1 }))
            assert.equal("2024-03-30T04:00:00", added("2024-03-01T04:00:00", { months = 1 }, "-05:00"))
        end)

        it("give the time between two moments", function()
            assert.equal(366 * DAY, time.diff("2025-01-01", "2024-01-01"))
            assert.equal(-3600 * 1000000, time.diff("2024-01-01T00:00:00+01:00", "2024-01-01T00:00:00Z"))
        end)

        it("keep infinity, and do not subtract it", function()
            assert.equal(time.INFINITY, time.add("infinity", { days = -1 }))
            assert.matches("infinity", refused(time.diff, "infinity", "2024-01-01"))
        end)

        it("refuse results out of 64 bits, and invalid spans", function()
            assert.matches("64 bits", refused(time.add, "294246-12-31", { years = 1 }))
            assert.matches("64 bits", refused(time.add, math.maxinteger - 1, 1))
            assert.matches("64 bits", refused(time.diff, "290000-01-01", "200000-01-01 BC"))
            assert.matches("'fortnights'", refused(time.add, 0, { fortnights = 1 }))
            assert.matches("months: expected a whole number", refused(time.add, 0, { months = 0.5 }))
            assert.matches("too long", refused(time.add, 0, { weeks = math.mininteger }))
            assert.matches("too long", refused(time.add, 0, { days = 0 / 0 }))
            assert.matches("got a string", refused(time.add, 0, "1 day"))
        end)
    end)

    describe("truncate", function()
        local function cut(text, unit, offset)
            return time.format(time.truncate(text, unit, offset), { kind = "timestamp" })
        end

        it("finds the beginning of the unit", function()
            local text <const> = "2024-08-29T12:34:56.789123"
            for unit, expected in pairs {
                millisecond = "2024-08-29T12:34:56.789", second = "2024-08-29T12:34:56", minute = "2024-08-29T12:34:00",
                hour = "2024-08-29T12:00:00", day = "2024-08-29T00:00:00", week = "2024-08-26T00:00:00",
                month = "2024-08-01T00:00:00", quarter = "2024-07-01T00:00:00", year = "2024-01-01T00:00:00",
                decade = "2020-01-01T00:00:00",
            } do
                assert.equal(expected, cut(text, unit), unit)
            end
        end)

        it("counts buckets of any width, also before 1970", function()
            assert.equal("2024-08-29T12:30:00", cut("2024-08-29T12:34:56", 15 * 60 * 1000000))
            assert.equal("1969-12-31T23:45:00", cut("1969-12-31T23:59:59", 15 * 60 * 1000000))
        end)

        it("uses the days of an offset", function()
            assert.equal("2024-02-29T05:00:00", cut("2024-02-29T23:00-05", "day", "-05"))
            assert.equal("2024-02-26T05:00:00", cut("2024-02-29T23:00-05", "week", "-05"))
        end)

        it("refuses an unknown unit", function()
            assert.matches('unit must be .*, got "fortnight"', refused(time.truncate, 0, "fortnight"))
            assert.matches("unit must be .*, got 0", refused(time.truncate, 0, 0))
            assert.matches("unit must be .*, got 1.5", refused(time.truncate, 0, 1.5))
            assert.equal(time.INFINITY, time.truncate("infinity", "day"))
        end)
    end)

    describe("parts", function()
        it("are those of the moment, in UTC or at an offset", function()
            assert.same({
                year = 2024, month = 2, day = 29, hour = 12, min = 34, sec = 56, usec = 789000, weekday = 4,
                yearday = 60, offset = 0,
            }, time.parts "2024-02-29T12:34:56.789")
            local there = time.parts("2024-02-29T23:34:56.789Z", "+01:00")
            assert.same({ 1, 3, 0, 5, 61, 3600 }, {
                there.day, there.month, there.hour, there.weekday, there.yearday, there.offset,
            })
            assert.equal(-43, time.parts "0044-03-15 BC".year)
        end)

        it("include the weekday, 1 for Monday", function()
            assert.equal(1, time.weekday "2024-02-26")
            assert.equal(7, time.weekday "2024-03-03T23:59:59.999999")
            assert.equal(1, time.weekday("2024-03-03T23:59:59", "+01"))
            assert.equal(4, time.weekday(0))
        end)

        it("make a moment, and are checked", function()
            assert.equal(time.parse "2024-02-29", time.from_parts { year = 2024, month = 2, day = 29 })
            assert.equal(time.parse "2024-01-01T00:00:00.000001+02",
                time.from_parts { year = 2024, usec = 1, offset = "+02:00" })
            assert.matches("no day 29 in 2023%-02", refused(time.from_parts, { year = 2023, month = 2, day = 29 }))
            assert.matches("hour must be a whole number from 0 to 23, got 24",
                refused(time.from_parts, { year = 2023, hour = 24 }))
            assert.matches("year must be a whole number", refused(time.from_parts, { month = 1 }))
            assert.matches("infinity", refused(time.parts, "infinity"))
        end)
    end)

    it("keeps every moment through text, parts and seconds", function()
        local seed = math.tointeger(os.getenv "DBRUN_TEST_SEED") or os.time()
        math.randomseed(seed)
        local first, last = time.parse "4713-01-01 BC", time.parse "294246-12-31T23:59:59.999999"
        for i = 1, 20000 do
            -- as many near now as anywhere
            local us = i % 2 == 0 and math.random(first, last) or math.random(0, 4102444800000000)
            local offset = math.random(-57599, 57599)
            local note = ("seed %d, moment %d, offset %d"):format(seed, us, offset)
            local text = time.format(us, { offset = offset })
            local back, kind, told = time.parse(text)
            assert(back == us and kind == "timestamptz" and told == offset, note .. ": " .. text)
            local sql = text:gsub("T", " ")
            assert(time.parse(sql) == us, note .. ": " .. sql)
            assert(time.from_parts(time.parts(us, offset)) == us, note)
            local day = time.truncate(us, "day", offset)
            assert(day <= us and us < day + DAY and time.parts(day, offset).hour == 0, note)
            assert(time.weekday(us, offset) == time.parts(us, offset).weekday, note)
            local seconds = time.to_epoch(us)
            assert(i % 2 == 0 or time.from_epoch(seconds) == us, note)
        end
    end)
end)
