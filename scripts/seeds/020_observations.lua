-- 5,000 values for each of the twenty series, one every five minutes from the first of January 2025: a wave of a day
-- with some noise, the same in every run. They go through COPY into a temporary table and from there to where they are
-- missing, so a second run adds nothing. --force takes them out first and loads them again.
local BEGIN <const> = 1735689600 -- 2025-01-01T00:00:00Z
local STEP <const> = 300
local PER_SERIES <const> = 5000
local DAY <const> = 86400

local function at(n)
    return os.date("!%Y-%m-%dT%H:%M:%SZ", BEGIN + n * STEP)
end

---Rows {series_id, observed_at, value, quality} for COPY, one a call.
local function values(series, random, progress)
    local s, n, level, swing = 1, -1, random:float(10, 60), random:float(1, 8)
    return function()
        n = n + 1
        if n == PER_SERIES then
            progress:add(PER_SERIES)
            s, n, level, swing = s + 1, 0, random:float(10, 60), random:float(1, 8)
        end
        if not series[s] then return nil end
        local wave = math.sin(2 * math.pi * (n * STEP % DAY) / DAY)
        local value = level + swing * wave + random:normal(0, swing / 10)
        local quality = random(1000) == 1 and 1 or 0
        return { series[s].id, at(n), math.floor(value * 1000 + 0.5) / 1000, quality }
    end
end

local SERIES <const> = [[
    select id from series
     where source_id in (select id from sources where name in ('roof-north', 'roof-south', 'cellar', 'workshop',
                         'greenhouse', 'api', 'search', 'mail', 'power', 'gas'))
     order by id]]

local THERE <const> = [[
    select count(*) from observations
     where observed_at between $1 and $2 and series_id in (]] .. SERIES .. ")"

local FORGET <const> = [[
    delete from observations
     where observed_at between $1 and $2 and series_id in (]] .. SERIES .. ")"

return {
    description = "100,000 observations, loaded through COPY",
    run = function(ctx)
        local first, last = at(0), at(PER_SERIES - 1)
        ctx.db:value("select observations_prepare($1, $2)", first, last)
        if ctx.force then ctx.db:query(FORGET, first, last) end
        local series = ctx.db:query(SERIES)
        local expected = #series * PER_SERIES
        if ctx.db:value(THERE, first, last) == expected then return "all there already" end

        ctx.db:exec "create temporary table new_observations (like observations) on commit drop"
        local progress <close> = ctx.progress("observations", expected, "rows")
        ctx.db:copy_in("new_observations", { "series_id", "observed_at", "value", "quality" },
            values(series, ctx.random, progress))
        local count = ctx.db:query([[
            insert into observations (series_id, observed_at, value, quality)
            select series_id, observed_at, value, quality from new_observations
            on conflict (series_id, observed_at) do nothing]]).affected
        ctx.db:exec "analyze observations" -- now, and not when autovacuum gets to it
        return count
    end,
}
