--- Twenty tasks that write and read, while the primary they use is killed, frozen or replaced. For specs and for the
--- benchmark of failovers.
---
---     local result = failover.run { client = r, probe = direct, key = "{tag}", act = function() ... end }
local errors <const> = require "dbrun.error"
local task <const> = require "dbrun.task"

local M = {}

local TASKS <const> = 20
local PAUSE <const> = 0.002 -- between two operations of a task

---@class spec.FailoverRun
---@field client dbrun.redis.Client
---@field probe dbrun.redis.Client goes straight to the server that becomes the primary
---@field key string the prefix of all keys
---@field act fun() what happens to the primary
---@field back? fun() brings the old primary back, a second after the probe's first acknowledged write
---@field patience? number seconds to wait for the failover (20)
---@field wait? {replicas: integer, timeout: number} writes wait for the acknowledgement of this many replicas

---@class spec.FailoverResult
---@field operations integer
---@field ok integer
---@field unknown integer
---@field not_sent integer
---@field failed integer
---@field few integer writes that too few replicas acknowledged in time; also counted as unknown
---@field acknowledged integer writes
---@field lost integer of the acknowledged ones
---@field lost_late integer of those acknowledged after the primary was gone
---@field foreign integer reads of another write's value
---@field outage number the longest time without any acknowledged operation
---@field behind number from the probe's first acknowledged write until each task had one
---@field longest number the longest call
---@field failover number from the act to the probe's first acknowledged write
---@field codes table<string, integer> number of errors by code or message

local function count_error(result, e)
    if not errors.is(e) or e.kind == "cancelled" then
        error(e, 0)
    end
    local outcome <const> = e.outcome
    local name <const> = (outcome == "unknown" or outcome == "not_sent") and outcome or "failed"
    result[name] = result[name] + 1
    local what <const> = e.code or e.kind
    result.codes[what] = (result.codes[what] or 0) + 1
    if e.code == "WAIT" and e.acknowledged then
        assert(e.acknowledged < e.asked, e)
        result.few = result.few + 1
    end
end

--- One task: writes its own unique values, and reads each back.
local function work(run, state, number)
    local result <const>, n = state.result, 0
    local writer <const> = run.wait and run.client:with { wait = run.wait } or run.client
    local function call(client, name, ...)
        local begun <const> = task.now()
        local ok <const>, reply <const> = pcall(client[name], client, ...)
        local now <const> = task.now()
        result.operations = result.operations + 1
        result.longest = math.max(result.longest, now - begun)
        if not ok then
            count_error(result, reply)
        end
        if state.probed and (ok or reply.code == "WAIT") then -- the primary has answered
            state.first[number] = state.first[number] or now
        end
        if not ok then
            return false, reply
        end
        result.ok = result.ok + 1
        result.outage = math.max(result.outage, now - state.last)
        state.last = now
        return true, reply
    end
    while not state.stop do
        n = n + 1
        local key <const>, nonce <const> = ("%s:%d:%d"):format(run.key, number, n), ("%d-%d"):format(number, n)
        local ok, value = call(writer, "set", key, nonce)
        if ok then
            result.acknowledged = result.acknowledged + 1
            state.written[#state.written + 1] = { key, nonce, task.now() }
        end
        if ok or value.code == "WAIT" then -- it was written
            ok, value = call(run.client, "get", key)
            if ok and value ~= nil and value ~= nonce then
                result.foreign = result.foreign + 1
            end
        end
        task.sleep(PAUSE)
    end
end

--- Counts lost writes, with a new client.
local function count_lost(run, state)
    local result <const>, written <const> = state.result, state.written
    for from = 1, #written, 500 do
        local to <const> = math.min(from + 499, #written)
        local replies <const> = run.client:pipeline(function(p)
            for i = from, to do p:get(written[i][1]) end
        end)
        for i = from, to do
            local value <const>, one <const> = replies[i - from + 1], written[i]
            if errors.is(value) then
                error(value, 0)
            elseif value == nil then
                result.lost = result.lost + 1
                result.lost_late = result.lost_late + (one[3] > state.acted and 1 or 0)
            elseif value ~= one[2] then
                result.foreign = result.foreign + 1
            end
        end
    end
end

---@param run spec.FailoverRun
---@return spec.FailoverResult
function M.run(run)
    local result <const> = {
        operations = 0, ok = 0, unknown = 0, few = 0, not_sent = 0, failed = 0, acknowledged = 0, lost = 0,
        lost_late = 0, foreign = 0, outage = 0, longest = 0, behind = 0, codes = {},
    }
    local state <const> = { result = result, written = {}, first = {}, last = task.now(), stop = false }
    local g <close> = task.group()
    for i = 1, TASKS do
        g:spawn(work, run, state, i)
    end
    task.sleep(0.3)
    state.acted = task.now()
    run.act()
    local give_up <const> = task.now() + (run.patience or 20)
    while not pcall(run.probe.set, run.probe, run.key .. ":probe", 1) do
        assert(task.now() < give_up, "no failover")
        task.sleep(0.005)
    end
    state.probed = task.now()
    result.failover = state.probed - state.acted
    task.sleep(1)
    if run.back then
        run.back()
    end
    local function all_had_one()
        for i = 1, TASKS do
            if not state.first[i] then return false end
        end
        return true
    end
    repeat
        task.sleep(0.01)
    until (all_had_one() and task.now() > state.probed + 1.5) or task.now() > give_up
    state.stop = true
    g:wait()
    for i = 1, TASKS do
        result.behind = math.max(result.behind, (state.first[i] or math.huge) - state.probed)
    end
    count_lost(run, state)
    return result
end

---@param result spec.FailoverResult
---@return string
function M.text(result)
    local codes <const> = {}
    for what, n in pairs(result.codes) do codes[#codes + 1] = ("%s %d"):format(what, n) end
    table.sort(codes)
    return ("%d operations, %d unknown, %d not sent, %d failed (%s), %d acknowledged, %d lost (%d late), %d foreign, "
        .. "failover %.2f s, outage %.2f s, behind %.2f s, longest call %.2f s"):format(
        result.operations, result.unknown, result.not_sent, result.failed, table.concat(codes, ", "),
        result.acknowledged, result.lost, result.lost_late, result.foreign, result.failover, result.outage,
        result.behind, result.longest)
end

--- A tag whose keys are in the first third of the hash slots: on the first node of a new cluster.
function M.tag()
    local core <const> = require "dbrun.core"
    local i = 0
    repeat
        i = i + 1
    until core.redis.slot("f" .. i) < 5461
    return "{f" .. i .. "}"
end

return M
