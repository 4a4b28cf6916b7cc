--- Settings that a statement changes without naming them in its text: the server reports their new values.

local pg = require "spec.support.pg"

pg.on_both(describe, function(_, open)
    local sql = "select extract(hour from timestamptz '2024-01-01 12:00' at time zone 'UTC')::int"

    --- A connection in UTC, and a function that moves it to Tokyo.
    local function in_utc(e)
        e:exec [[create or replace function to_tokyo() returns text language sql as
            $$ select set_config('TimeZone', 'Asia/Tokyo', false) $$]]
        local c = e:acquire()
        c:exec "set timezone = 'UTC'"
        return c
    end

    local function hour(c)
        local value
        for _ = 1, 3 do
            value = c:value(sql)
        end
        return value
    end

    for finish, after in pairs { rollback = 12, commit = 3, ["rollback to savepoint a; commit"] = 12 } do
        it("is known after " .. finish .. " when a function has set it", function()
            local e <close> = open { size = 1, statement_cache_age = 0 }
            local c <close> = in_utc(e)
            assert.equal(12, hour(c))
            c:exec "begin; savepoint a"
            c:query "select to_tokyo()"
            assert.equal(3, hour(c))
            c:exec(finish)
            assert.equal(after, hour(c))
        end)
    end

    for _, run in ipairs { "execute tokyo", "explain analyze select to_tokyo()",
        "copy (select to_tokyo()) to '/dev/null'",
        "begin; declare q cursor for select to_tokyo(); fetch q; commit", "values (to_tokyo())" } do
        it("is known after: " .. run, function()
            local e <close> = open { size = 1, statement_cache_age = 0 }
            local c <close> = in_utc(e)
            c:exec "prepare tokyo as select to_tokyo()"
            assert.equal(12, hour(c))
            c:exec(run)
            assert.equal(3, hour(c))
        end)
    end
end)
