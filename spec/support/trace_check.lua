--- Reads a trace (runtime/trace/trace.h describes its format) and checks that it is consistent.
local fs = require "dbrun.fs"
local json = require "dbrun.json"

local M = {}

---The events of a FILE.json or FILE.html, and whether the program has ended its file.
---@param path string
---@return table[] events
---@return boolean ended
function M.read(path)
    local text = fs.read(path)
    text = text:match '<script type="application/json" id="events">\n(.*)' or text
    local ended = text:find "\n%]\n" ~= nil
    if ended then return json.decode((text:match "^(.-\n%]\n)")), true end
    local events = {}
    assert(text:sub(1, 2) == "[\n", "it does not begin with [")
    for line, comma in text:sub(3):gmatch "([^\n]-)(,?)\n" do
        assert(comma == ",", "no comma behind " .. line)
        events[#events + 1] = json.decode(line)
    end
    return events, false
end

local function shown(e)
    return ("%s %s at %d for %d in lane %d"):format(e.cat, e.name, e.ts, e.dur, e.tid)
end

--- Two X events of a lane are nested, or do not overlap.
local function check_nesting(events)
    local lanes = {}
    for _, e in ipairs(events) do
        if e.ph == "X" then
            assert(e.pid == 1 and e.tid >= 1 and e.dur >= 0 and e.ts >= 0, shown(e))
            lanes[e.tid] = lanes[e.tid] or {}
            table.insert(lanes[e.tid], e)
        end
    end
    for _, lane in pairs(lanes) do
        table.sort(lane, function(a, b)
            if a.ts ~= b.ts then return a.ts < b.ts end
            return a.dur > b.dur
        end)
        local open = {}
        for _, e in ipairs(lane) do
            while #open > 0 and open[#open].ts + open[#open].dur <= e.ts do open[#open] = nil end
            local outer = open[#open]
            if outer and e.ts + e.dur > outer.ts + outer.dur then
                error(("%s does not nest in %s"):format(shown(e), shown(outer)), 0)
            end
            open[#open + 1] = e
        end
    end
end

--- Each b event is followed by its e event.
local function check_pairs(events)
    local open = {}
    for _, e in ipairs(events) do
        local key = e.ph == "b" and e.id or e.ph == "e" and e.id
        if e.ph == "b" then
            assert(not open[key], "two b of one id")
            open[key] = e
        elseif e.ph == "e" then
            local b = assert(open[key], "an e without its b")
            assert(b.cat == e.cat and b.name == e.name and b.pid == e.pid and b.tid == e.tid and b.ts <= e.ts)
            b.dur, open[key] = e.ts - b.ts, nil
        end
    end
    assert(next(open) == nil, "a b without its e")
end

local PHASES <const> = { X = true, b = true, e = true, i = true, M = true }

---Raises when the events are not consistent.
---@param events table[]
function M.check(events)
    for _, e in ipairs(events) do assert(PHASES[e.ph] and type(e.name) == "string" and math.type(e.pid)) end
    assert(events[1].name == "dbrun_start")
    check_nesting(events)
    check_pairs(events)
end

local STATEMENT <const> = { postgres = true, shared = true, piped = true, pipeline = true }

---How often each SQL text ran, from the events; without those that were cut short.
---@param events table[]
---@return table<string, integer>
function M.counts(events)
    local counts = {}
    for _, e in ipairs(events) do
        local sql = e.args and e.args.sql
        if sql and STATEMENT[e.cat] and (e.ph == "X" or e.ph == "b")
            and e.args.kind ~= "cancelled" and e.args.kind ~= "timeout" then
            counts[sql] = (counts[sql] or 0) + (e.args.statements or 1)
        end
    end
    return counts
end

---The same from the summary lines, which also count events that were left out, and statements that were cut short.
---@param events table[]
---@return table<string, integer>
function M.totals(events)
    local counts = {}
    for _, e in ipairs(events) do
        if e.name == "dbrun_statement" and STATEMENT[e.args.cat] then
            counts[e.args.sql] = (counts[e.args.sql] or 0) + e.args.calls
        end
    end
    return counts
end

---The events of a category.
---@param events table[]
---@param cat string
---@return table[]
function M.of(events, cat)
    local list = {}
    for _, e in ipairs(events) do
        if e.cat == cat and e.ph ~= "e" then list[#list + 1] = e end
    end
    return list
end

return M
