--- Standbys that the primary does not show (`replicas =`): each is asked what it has replayed.
local errors <const> = require "dbrun.error"
local catalog <const> = require "dbrun.db.catalog"
local task <const> = require "dbrun.task"
local words <const> = require "dbrun.batch.signals.words"

local M = {}

local GONE <const> = 60 -- seconds for which an unreachable standby still counts
local AGAIN <const> = 30 -- seconds after which an ignored standby is asked again
local PATIENCE <const> = 0.5 -- seconds for an answer

local REPLAYED <const> = catalog.sql [[
select case when {pg_is_in_recovery}()
            then {pg_wal_lsn_diff}({pg_last_wal_replay_lsn}(), '0/0')::{int8} end]]

---@class dbrun.batch.Replica
---@field name string
---@field engine table
---@field replayed? integer
---@field problem? string why it did not answer
---@field silent? number since when
---@field out? boolean it is left out
---@field asked? number

---@class dbrun.batch.Replicas
---@field list dbrun.batch.Replica[]
local Replicas = {}
local meta <const> = { __index = Replicas, __name = "dbrun.batch.Replicas" }

---@param engines? table a list of engines, or engines by name
---@return dbrun.batch.Replicas
function M.new(engines)
    local list <const> = {}
    for name, engine in pairs(engines or {}) do
        list[#list + 1] = { name = words.name(tostring(name)), engine = engine }
    end
    table.sort(list, function(a, b) return a.name < b.name end)
    return setmetatable({ list = list }, meta)
end

local function reason(e)
    if not errors.is(e) then return tostring(e) end
    return errors.is(e, "timeout") and ("no answer within %g s"):format(PATIENCE) or e.message
end

local function ask(replica)
    local ok <const>, found <const> = pcall(task.timeout, PATIENCE, replica.engine.value, replica.engine, REPLAYED)
    if not ok and not (errors.is(found) and found.kind ~= "cancelled") then error(found, 0) end
    if ok and found then
        replica.replayed, replica.problem = found, nil
    else
        replica.problem = ok and "it is no standby" or reason(found)
    end
end

---The functions that ask each of them, to be run concurrently.
---@param now number monotonic
---@return function[]
function Replicas:questions(now)
    local list <const> = {}
    for _, replica in ipairs(self.list) do
        if not replica.out or now - replica.asked >= AGAIN then
            replica.asked = now
            list[#list + 1] = function() ask(replica) end
        end
    end
    return list
end

---A standby that cannot be read, after the first look.
---@return string? text
function Replicas:problem()
    for _, replica in ipairs(self.list) do
        if replica.problem then return ("replica %s: %s"):format(replica.name, words.text(replica.problem)) end
    end
    return nil
end

---@param wal dbrun.batch.Wal
---@param now number monotonic
---@param say fun(text: string)
---@return number seconds
---@return string? text
function Replicas:worst(wal, now, say)
    local most, text = 0, nil
    for _, replica in ipairs(self.list) do
        if not replica.problem then
            if replica.out then say(("replica %s answers again"):format(replica.name)) end
            replica.silent, replica.out = nil, nil
        else
            replica.silent = replica.silent or now
            if not replica.out and (now - replica.silent >= GONE or not replica.replayed) then
                replica.out = true
                say(("replica %s cannot be asked (%s): replication_lag goes on without it"):format(replica.name,
                    words.text(replica.problem)))
            end
        end
        local behind <const> = not replica.out and wal:behind(replica.replayed) or 0
        if behind > most then
            most, text = behind, ("replica %s is %s behind%s"):format(replica.name, words.seconds(behind),
                replica.problem and (" (%s)"):format(words.text(replica.problem)) or "")
        end
    end
    return most, text
end

return M
