--- dbrun.time against the server's own calendar: the same texts, the same sums.

local db = require "dbrun.db"
local servers = require "spec.support.servers"
local time = require "dbrun.time"

describe("dbrun.time and the server agree", function()
    local engine, moments
    local seed <const> = math.tointeger(os.getenv "DBRUN_TEST_SEED") or os.time()

    setup(function()
        engine = db.engine { url = servers.database(), size = 1 }
        math.randomseed(seed)
        local first, last = time.parse "4713-01-01 BC", time.parse "290000-12-31"
        moments = {}
        for i = 1, 500 do
            moments[i] = time.format(i % 2 == 0 and math.random(first, last) or math.random(0, 4102444800000000))
        end
    end)

    teardown(function() engine:close() end)

    --- Runs `sql` for each moment (parameter $1, timestamptz) in time zone `zone`, and compares with fn(moment).
    local function compare(zone, sql, fn)
        engine:transaction(function(tx)
            tx:query("select set_config('TimeZone', $1, true)", zone)
            for _, text in ipairs(moments) do
                local told, ours = tx:value(sql, text), fn(text)
                assert(told == ours, ("seed %d, %s in %s: server %s, dbrun.time %s"):format(seed, text, zone,
                    tostring(told), tostring(ours)))
            end
        end)
    end

    it("on texts in both directions", function()
        compare("UTC", "select $1::timestamptz", function(text) return time.format(text) end)
        compare("<+05:53>-05:53", "select $1::timestamptz::text", function(text)
            local shown = time.format(text, { offset = "+05:53" })
            return (shown:gsub("T", " "))
        end)
    end)

    it("on seconds", function()
        compare("UTC", "select extract(epoch from date_trunc('second', $1::timestamptz))::int8 * 1000000"
            .. " + to_char($1::timestamptz, 'US')::int8", function(text)
            return (select(2, time.to_epoch(text)))
        end)
    end)

    it("on the beginnings of days, weeks, months, quarters and years", function()
        local units = { "millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year" }
        for _, unit in ipairs(units) do
            compare("UTC", ("select date_trunc('%s', $1::timestamptz)"):format(unit), function(text)
                return time.format(time.truncate(text, unit))
            end)
        end
    end)

    it("on months and days added", function()
        for _, n in ipairs { 1, -1, 25, -13 } do
            compare("UTC", ("select $1::timestamptz + interval '%d months %d days'"):format(n, n), function(text)
                return time.format(time.add(text, { months = n, days = n }))
            end)
        end
    end)

    it("on weekdays and days of the year", function()
        compare("UTC", "select extract(isodow from $1::timestamptz)::int8", time.weekday)
        compare("UTC", "select extract(doy from $1::timestamptz)::int8", function(text)
            return time.parts(text).yearday
        end)
    end)
end)
