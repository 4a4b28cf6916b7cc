-- Runs one workload: its contenders in alternating pairs; compares the results with its targets.
local metrics <const> = require "bench.lib.metrics"
local stats <const> = require "bench.lib.stats"
local targets <const> = require "bench.lib.targets"
local task <const> = require "dbrun.task"

local M = {}

---@class bench.Workload
---@field id string
---@field order integer           -- place in the table
---@field title string
---@field metric string           -- the main metric
---@field alone? boolean          -- needs no servers
---@field pairs? integer          -- the most pairs in the short form
---@field round? number           -- roughly the seconds that one run of all its contenders takes in the short form
---@field ours bench.Contender[]
---@field others bench.Contender[]
---@field targets bench.Target[]
---@field prepare? fun(ctx: bench.Context)   -- once, before the first run
---@field measure? table<string, fun(seconds: number): table>  -- what child.lua runs
---@field file string             -- its path; filled in by the loader

---@class bench.Row
---@field id string
---@field title string
---@field metric string
---@field ours string             -- the contender's name
---@field ours_value number
---@field other? string
---@field other_value? number
---@field verdict bench.Verdict
---@field target string           -- "" when there is none

---@class bench.Result
---@field id string
---@field title string
---@field metric string
---@field rows bench.Row[]
---@field samples table<string, bench.Sample[]>  -- by contender, in the order they were taken
---@field order string[]          -- the contenders' names as the picture shows them
---@field kinds table<string, string>
---@field pairs integer           -- the number of runs of each contender
---@field missing string[]        -- lines about peers that are not installed
---@field failure? string         -- why this run failed

---@class bench.Options
---@field pairs integer
---@field limit? number           -- seconds: no pair starts that would probably end later; 0: no pair starts
---@field now? fun(): number
---@field note fun(text: string)  -- progress

local function find(list, name)
    for _, c in ipairs(list) do
        if c.name == name then return c end
    end
    error("no contender is named " .. tostring(name))
end

--- Raises when the workload's declaration is invalid.
---@param w bench.Workload
function M.check(w)
    for _, key in ipairs { "id", "order", "title", "metric", "ours", "others", "targets" } do
        if w[key] == nil then error("workload " .. tostring(w.id) .. ": no " .. key) end
    end
    for _, t in ipairs(w.targets) do
        targets.check(t)
        if t.ours then find(w.ours, t.ours) end
        if t.against then find(w.others, t.against) end
    end
end

---@class bench.Duel
---@field ours bench.Contender
---@field other? bench.Contender
---@field targets bench.Target[]

--- The comparisons: one duel for each pair that a target names; one for each other peer, for information, with the
--- contender that its `of` names (default: our first); one without opponent for each limit that no other duel
--- measures, or when there is no other duel.
---@param w bench.Workload
---@return bench.Duel[]
function M.duels(w)
    local list <const>, by_key <const> = {}, {}
    local function duel(ours, other)
        local key <const> = ours.name .. "\0" .. (other and other.name or "")
        if not by_key[key] then
            by_key[key] = { ours = ours, other = other, targets = {} }
            list[#list + 1] = by_key[key]
        end
        return by_key[key]
    end
    local named <const> = {}
    for _, t in ipairs(w.targets) do
        if t.against then
            named[t.against] = true
            local d <const> = duel(t.ours and find(w.ours, t.ours) or w.ours[1], find(w.others, t.against))
            d.targets[#d.targets + 1] = t
        end
    end
    for _, other in ipairs(w.others) do
        if not named[other.name] then duel(other.of and find(w.ours, other.of) or w.ours[1], other) end
    end
    for _, t in ipairs(w.targets) do
        if t.limit then
            local ours <const> = t.ours and find(w.ours, t.ours) or w.ours[1]
            local d
            for _, x in ipairs(list) do
                if x.ours == ours then d = d or x end
            end
            d = d or duel(ours)
            d.targets[#d.targets + 1] = t
        end
    end
    if #list == 0 then duel(w.ours[1]) end
    return list
end

local function column(samples, metric)
    local out <const> = {}
    for i, s in ipairs(samples) do out[i] = s[metric] end
    return out
end

--- The rows of one duel: its main metric first (for information when no target names it), then the rest.
---@param w bench.Workload
---@param duel bench.Duel
---@param ours bench.Sample[]
---@param other bench.Sample[]  -- empty without opponent
---@return bench.Row[]
function M.rows(w, duel, ours, other)
    local rows <const> = {}
    local function add(t)
        local a <const>, b <const> = column(ours, t.metric), column(other, t.metric)
        local alone <const> = t.limit ~= nil or not duel.other
        if #a == 0 or (not alone and #b == 0) then return end
        rows[#rows + 1] = {
            id = w.id, title = w.title, metric = t.metric, ours = duel.ours.name, ours_value = stats.median(a),
            other = not alone and duel.other.name or nil, other_value = not alone and stats.median(b) or nil,
            verdict = targets.judge(t, a, b), target = targets.text(t),
        }
    end
    local main = false
    for _, t in ipairs(duel.targets) do main = main or (t.metric == w.metric and t.limit == nil) end
    if not main and (duel.other or #duel.targets == 0) then add { metric = w.metric } end
    for _, t in ipairs(duel.targets) do add(t) end
    return rows
end

--- The number of runs of peers that no target names, which are reported for information.
local MOST_FOR_INFORMATION <const> = 3

--- The contenders that run, and the most rounds of each.
local function entrants(duels, pairs)
    local list <const>, rounds <const> = {}, {}
    local function enter(contender, most)
        if not contender then return end
        if not rounds[contender] then list[#list + 1] = contender end
        rounds[contender] = math.max(rounds[contender] or 0, most)
    end
    for _, d in ipairs(duels) do
        enter(d.ours, pairs)
        enter(d.other, #d.targets > 0 and pairs or math.min(pairs, MOST_FOR_INFORMATION))
    end
    return list, rounds
end

--- Runs all contenders in turns: A B C A B C. A pair consists of two runs of the same round.
local function fight(result, ctx, w, duels, opts)
    local list <const>, rounds <const> = entrants(duels, opts.pairs)
    local now <const> = opts.now or task.now
    local began <const> = now()
    for i = 1, opts.pairs do
        for _, contender in ipairs(list) do
            if i <= rounds[contender] then
                opts.note(("%s %s, %d of %d"):format(w.id, contender.name, i, opts.pairs))
                local samples <const> = result.samples[contender.name] or {}
                result.samples[contender.name] = samples
                samples[i] = contender.run(ctx, w)
            end
        end
        result.pairs = i
        if opts.limit and (now() - began) / i * (i + 1) > opts.limit then break end
    end
    for _, d in ipairs(duels) do
        local other <const> = d.other and result.samples[d.other.name] or {}
        local ours <const> = result.samples[d.ours.name]
        local both <const> = d.other and table.move(ours, 1, #other, 1, {}) or ours
        for _, row in ipairs(M.rows(w, d, both, other)) do result.rows[#result.rows + 1] = row end
    end
end

--- The duel without its opponent, which is not installed: only the limits remain.
local function alone(duel)
    local limits <const> = {}
    for _, t in ipairs(duel.targets) do
        if t.limit then limits[#limits + 1] = t end
        if t.or_limit then limits[#limits + 1] = { metric = t.metric, ours = t.ours, limit = t.or_limit } end
    end
    return limits[1] and { ours = duel.ours, targets = limits }
end

--- Leaves out contenders that are not installed, and names the packages to install.
local function present(result, ctx, duels)
    local told <const>, list <const> = {}, {}
    local function lacks(who, what)
        local missing <const> = who and who.missing and who.missing(ctx)
        if missing and not told[who.name] then
            told[who.name] = true
            result.missing[#result.missing + 1] =
                ("%s: %s is not %s, it needs: apt-get install %s"):format(result.id, who.name, what, missing)
        end
        return missing
    end
    for _, d in ipairs(duels) do
        local ours <const>, other <const> = lacks(d.ours, "measured"), lacks(d.other, "compared")
        if not ours then list[#list + 1] = other and alone(d) or not other and d or nil end
    end
    return list
end

--- Moves the rows with the workload's own metric to the front; keeps the order otherwise.
---@param result bench.Result
function M.sort(result)
    local first <const>, rest <const> = {}, {}
    for _, row in ipairs(result.rows) do
        local list <const> = row.metric == result.metric and first or rest
        list[#list + 1] = row
    end
    result.rows = table.move(rest, 1, #rest, #first + 1, first)
end

--- Runs a workload. After a wrong answer or a failed program the result has `failure`, which says why.
---@param ctx bench.Context
---@param w bench.Workload
---@param opts bench.Options
---@return bench.Result
function M.run(ctx, w, opts)
    local result <const> = {
        id = w.id, title = w.title, metric = w.metric, rows = {}, samples = {}, order = {}, kinds = {}, pairs = 0,
        missing = {},
    }
    if opts.limit and opts.limit <= 0 then
        result.missing[1] = ("%s: not measured, the time was over; --only %s measures it"):format(w.id, w.id)
        return result
    end
    for _, list in ipairs { w.ours, w.others } do
        for _, c in ipairs(list) do
            result.order[#result.order + 1] = c.name
            result.kinds[c.name] = c.kind
        end
    end
    local ok <const>, why <const> = pcall(function()
        if w.prepare then w.prepare(ctx) end
        fight(result, ctx, w, present(result, ctx, M.duels(w)), opts)
    end)
    M.sort(result)
    if not ok then
        if type(why) == "table" and why.kind == "cancelled" then error(why, 0) end
        result.failure = tostring(why)
    end
    return result
end

--- The median of a contender's samples in a workload, for its bar in the picture.
---@param result bench.Result
---@param name string
---@return number|nil
function M.value(result, name)
    return stats.median(column(result.samples[name] or {}, result.metric))
end

--- Whether a longer bar is better.
---@param result bench.Result
---@return boolean
function M.longer_is_better(result)
    return metrics.list[result.metric].more
end

return M
