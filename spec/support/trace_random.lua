--- Random traces, in the format that runtime/trace/README.md describes; trace_numbers.lua computes the page's numbers.
local M = {}

local STATEMENTS <const> = {
    -- sql, place, rows, usual time in microseconds, weight
    { "select * from orders where id = $1", "orders.lua:12", 1, 300, 50 },
    { "select name, price\n  from items\n where order_id = $1\n order by position", "orders.lua:14", 4, 250, 30 },
    { "insert into audit_log (at, what) values (now(), $1)", "lib/audit.lua:7", 1, 900, 15 },
    { "update orders set state = 'paid' where id = any($1) and state = 'open'", "orders.lua:40", 500, 4000, 4 },
    { "select count(*) from orders o join customers c on c.id = o.customer_id", "report.lua:3", 1, 60000, .2 },
    { "select total from invoices where id = %d and kind = 'a''%s'", "invoices.lua:9", 1, 400, 2 },
    { "</script><img src=x onerror=alert(1)><script>alert(1)</script><!--", "x<b>.lua:1", 0, 500, .1 },
    { "select '\u{202e}gpj.exe', '\u{5e9}\u{5dc}\u{5d5}\u{5dd}' -- \1\27[31m\r\"\\ \u{2066}", "rtl.lua:9", 1, 500, .1 },
}

local function text(s)
    return '"' .. s:gsub('[%c"\\<]', function(c) return ("\\u%04x"):format(c:byte()) end) .. '"'
end

local ORDER <const> = { "sql", "place", "task", "conn", "rows", "kind", "sqlstate", "wait", "statements", "commands",
    "lane", "end" }

local function args_of(args)
    local list = {}
    for _, key in ipairs(ORDER) do
        local v = args[key]
        if v then list[#list + 1] = ('"%s":%s'):format(key, type(v) == "string" and text(v) or ("%d"):format(v)) end
    end
    return "{" .. table.concat(list, ",") .. "}"
end

---The lines of a trace, each with its line feed.
---@param options {calls?: integer, tasks?: integer, seed?: integer, ended?: boolean} ended=false: as after kill -9
---@return string[]
function M.lines(options)
    math.randomseed(options.seed or 1)
    local tasks <const>, out = options.tasks or 4, {}
    local function put(format, ...) out[#out + 1] = format:format(...) end
    local sums <const> = {}
    local function add(cat, dur) sums[cat] = (sums[cat] or 0) + dur end
    local function x(name, cat, ts, dur, lane, args)
        add(cat, args.wait or dur)
        put('{"name":%s,"cat":"%s","ph":"X","ts":%d,"dur":%d,"pid":1,"tid":%d,"args":%s},\n', text(name), cat, ts, dur,
            lane, args_of(args))
    end
    put "[\n"
    put('{"name":"dbrun_start","ph":"M","pid":1,"tid":0,"args":{"format":1,"version":"1.0","script":'
        .. '"scripts/orders.lua","started":"2026-03-01T02:00:03Z","limit":67108864}},\n')
    for pid, name in ipairs { "tasks", "connections", "Redis" } do
        put('{"name":"process_name","ph":"M","pid":%d,"args":{"name":"%s"}},\n', pid, name)
    end
    for i = 1, tasks do
        put('{"name":"thread_name","ph":"M","pid":1,"tid":%d,"args":{"name":"lane %d"}},\n', i, i)
    end
    local weights, at, id = 0, {}, 0
    for _, s in ipairs(STATEMENTS) do weights = weights + s[5] end
    for i = 1, tasks do at[i] = 1500 + 100 * i end

    local function statement()
        local pick = math.random() * weights
        for _, s in ipairs(STATEMENTS) do
            pick = pick - s[5]
            if pick <= 0 then
                return s[1]:find("%%d") and s[1]:format(math.random(1e6), ("x"):rep(math.random(9))) or s[1], s
            end
        end
        return STATEMENTS[1][1], STATEMENTS[1]
    end

    local function one(lane, now, depth)
        local sql, s = statement()
        local dur = math.floor(s[4] * (.5 + math.random() ^ 6 * 5))
        local chance = math.random()
        local args = { sql = sql, place = s[2], task = lane, conn = 4000 + lane, rows = s[3] }
        local name = sql:gsub("%c+", " "):sub(1, 40)
        if chance < .002 then
            args.rows, args.kind, args.sqlstate = nil, "query", "40001"
            put('{"name":"40001","cat":"error","ph":"i","s":"t","ts":%d,"pid":1,"tid":%d,"args":%s},\n', now + dur,
                lane, args_of { sql = sql, place = s[2], task = lane, kind = "query", sqlstate = "40001" })
        elseif chance < .1 then
            id, args.lane = id + 1, lane
            add("shared", dur)
            put('{"name":%s,"cat":"shared","ph":"b","id":%d,"ts":%d,"pid":2,"tid":4000,"args":%s},\n', text(name), id,
                now, args_of(args))
            put('{"name":%s,"cat":"shared","ph":"e","id":%d,"ts":%d,"pid":2,"tid":4000},\n', text(name), id, now + dur)
            return now + dur
        elseif chance < .12 and depth == 0 then
            local to = now + 20
            for _ = 1, math.random(1, 8) do to = one(lane, to + math.random(100), 1) end
            x("transaction", "transaction", now, to + 30 - now, lane,
                { place = "orders.lua:33", task = lane, conn = 4000 + lane, ["end"] = "COMMIT" })
            return to + 30
        elseif chance < .125 then
            x(name, "postgres", now, dur, lane, args)
            args.rows, args.wait = 2000, 700
            x(name, "rows", now + dur, 1900, lane, args)
            return now + dur + 1900
        elseif chance < .13 then
            x("pipeline", "pipeline", now, dur, lane,
                { statements = 20, rows = 20, place = "bulk.lua:5", task = lane, conn = 4000 + lane })
            return now + dur
        end
        x(name, "postgres", now, dur, lane, args)
        return now + dur
    end

    for _ = 1, options.calls or 100 do
        local lane = 1
        for i = 2, tasks do
            if at[i] < at[lane] then lane = i end
        end
        local now, chance = at[lane], math.random()
        local dur = math.random(20, 400)
        if chance < .12 then
            x(math.random() < .7 and "GET" or "SET", "redis", now, dur, lane,
                { place = "cache.lua:" .. math.random(3, 4), task = lane })
        elseif chance < .2 then
            x("wait for a connection", "pool", now, dur * 5, lane, { place = "orders.lua:12", task = lane })
            dur = dur * 5
        elseif chance < .201 then
            x("sleep", "sleep", now, dur * 50, lane, { place = "orders.lua:50", task = lane })
            dur = dur * 50
        elseif chance < .203 then
            x("tasks", "wait", now, dur * 9, lane, { place = "orders.lua:60", task = lane })
            dur = dur * 9
        else
            dur = one(lane, now, 0) - now
        end
        at[lane] = now + dur + math.random(20, 200)
    end
    if options.ended ~= false then
        local last = 0
        for i = 1, tasks do last = math.max(last, at[i]) end
        local times = {}
        for _, cat in ipairs { "postgres", "shared", "pipeline", "rows", "copy", "pool", "redis", "sleep", "wait" } do
            times[#times + 1] = ('"%s":%d'):format(cat, sums[cat] or 0)
        end
        put('{"name":"dbrun_totals","ph":"M","pid":1,"tid":0,"args":{"elapsed_us":%d,"status":0,"left_out":0,'
            .. '"least_us":0,"time_us":{%s,"lua":%d}}}\n]\n', last + 500, table.concat(times, ","), last // 10)
    end
    return out
end

return M
