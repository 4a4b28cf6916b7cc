--- The numbers of a trace, computed in the simplest way: those of runtime/trace/viewer/numbers.js must be the same.
local json = require "dbrun.json"

local M = {}

local KINDS <const> = { "postgres", "redis", "pool", "sleep", "wait" }
local KIND_OF <const> = { postgres = "postgres", shared = "postgres", pipeline = "postgres", redis = "redis",
    pool = "pool", sleep = "sleep", wait = "wait", rows = "loop", copy = "loop" }
local CALLS <const> = { postgres = true, shared = true, pipeline = true, rows = true, copy = true, piped = true,
    redis = true }

---SQL without its values.
local function shape(sql)
    return (sql:gsub("'[^']*'", "?"):gsub("%?%?+", "?"):gsub("%f[%w_$.]%d+", "?"))
end

---The spans of a trace {cat, name, ts, dur, args}, whether the trace is complete, and its number of errors.
local function read(text)
    local spans, open, totals, failed = {}, {}, nil, 0
    for line in text:gmatch "[^\n]+" do
        local ok, e = pcall(json.decode, (line:gsub(",%s*$", "")))
        if ok and type(e) == "table" and e.ph then
            if e.ph == "X" then
                spans[#spans + 1] = e
            elseif e.ph == "b" then
                open[e.cat .. e.id] = e
            elseif e.ph == "e" then
                local b = open[e.cat .. e.id]
                b.dur = e.ts - b.ts
                spans[#spans + 1], open[e.cat .. e.id] = b, nil
            elseif e.ph == "i" and e.cat == "error" then
                failed = failed + 1
            elseif e.name == "dbrun_totals" then
                totals = e.args
            end
        end
    end
    local last = 0
    for _, e in ipairs(spans) do last = math.max(last, e.ts + e.dur) end
    for _, e in pairs(open) do last = math.max(last, e.ts) end
    local unfinished = 0
    for _, e in pairs(open) do
        e.dur, unfinished = last - e.ts, unfinished + 1
        spans[#spans + 1] = e
    end
    return spans, totals, failed, unfinished, totals and totals.elapsed_us or last
end

local function waited(e)
    return KIND_OF[e.cat] == "loop" and math.min(e.args.wait or 0, e.dur) or e.dur
end

local function p95(list)
    table.sort(list)
    return list[(#list * 95 + 99) // 100]
end

local function statements(spans)
    local found = {}
    for _, e in ipairs(spans) do
        if CALLS[e.cat] then
            local sql, place = e.args.sql or e.name, e.args.place or ""
            local key = table.concat({ e.cat, shape(sql), place }, "|")
            local s = found[key] or { calls = 0, total = 0, rows = 0, errors = 0, all = {}, tasks = {}, cat = e.cat }
            found[key] = s
            s.calls, s.total, s.rows = s.calls + 1, s.total + waited(e), s.rows + (e.args.rows or 0)
            s.errors = s.errors + (e.args.kind and 1 or 0)
            s.all[#s.all + 1] = waited(e)
            local t = s.tasks[e.args.task] or { calls = 0, total = 0, rows = 0 }
            s.tasks[e.args.task] = t
            t.calls, t.total, t.rows = t.calls + 1, t.total + waited(e), t.rows + (e.args.rows or 0)
        end
    end
    for _, s in pairs(found) do s.p95, s.max = p95(s.all), math.max(table.unpack(s.all)) end
    return found
end

---Time by kind of wait: each interval between two edges counts for the first kind that has a span there.
local function sweep(spans)
    local edges, shares, sums = {}, {}, {}
    for _, e in ipairs(spans) do
        if KIND_OF[e.cat] then edges[e.ts], edges[e.ts + e.dur] = true, true end
    end
    local sorted = {}
    for at in pairs(edges) do sorted[#sorted + 1] = at end
    table.sort(sorted)
    local order <const> = { "postgres", "redis", "pool", "sleep", "wait", "loop" }
    for i = 1, #sorted - 1 do
        local on = {}
        for _, e in ipairs(spans) do
            if KIND_OF[e.cat] and e.ts <= sorted[i] and e.ts + e.dur >= sorted[i + 1] then on[KIND_OF[e.cat]] = true end
        end
        for _, kind in ipairs(order) do
            if on[kind] then
                shares[kind] = (shares[kind] or 0) + sorted[i + 1] - sorted[i]
                break
            end
        end
    end
    local loops = 0
    for _, e in ipairs(spans) do
        local kind = KIND_OF[e.cat]
        if kind == "loop" then
            kind, loops = "postgres", loops + waited(e)
        end
        if kind then sums[kind] = (sums[kind] or 0) + waited(e) end
    end
    shares.postgres = (shares.postgres or 0) + math.min(loops, shares.loop or 0)
    return shares, sums
end

local function times(spans, totals, stop)
    local shares, sums = sweep(spans)
    local all, result = 0, {}
    for _, kind in ipairs(KINDS) do all = all + (shares[kind] or 0) end
    local lua, added = totals and totals.time_us.lua or stop - all, 0
    for _, kind in ipairs(KINDS) do added = added + (sums[kind] or 0) end
    local part = 1
    if totals and added > all * 1.001 then
        part = math.min(1, (stop - lua) / all)
    else
        lua = math.min(lua, stop - all)
    end
    for _, kind in ipairs(KINDS) do
        result[kind] = { share = (shares[kind] or 0) * part, sum = sums[kind] or 0 }
    end
    result.lua = { share = lua, sum = totals and totals.time_us.lua or 0 }
    return result
end

local function repeated(list, stop)
    local found = 0
    for _, s in pairs(list) do
        local most
        for _, t in pairs(s.tasks) do
            if t.calls >= 20 and t.rows <= 10 * t.calls and (not most or t.calls > most.calls) then most = t end
        end
        local alone = s.cat == "postgres" or s.cat == "redis"
        if most and alone and (most.total >= stop / 100 or most.calls >= 100) then found = found + 1 end
    end
    return found
end

---@param text string the lines of a trace
---@return table
function M.compute(text)
    local spans, totals, failed, unfinished, stop = read(text)
    local list = statements(spans)
    local durations = {}
    for _, e in ipairs(spans) do durations[#durations + 1] = e.dur end
    table.sort(durations, function(a, b) return a > b end)
    return { spans = #spans, failed = failed, unfinished = unfinished, stop = stop, statements = list,
        times = times(spans, totals, stop), repeated = repeated(list, stop), durations = durations }
end

M.shape = shape
return M
