--- The connected standbys, and those that were connected at the start and are gone.
local words <const> = require "dbrun.batch.signals.words"

local M = {}

local GONE <const> = 60 -- seconds for which a standby that is gone still counts

---@class dbrun.batch.Standby
---@field key string identifies it when it comes back: its name and address
---@field pid integer of its WAL sender
---@field name string
---@field replayed? integer
---@field from_start boolean
---@field gone? number since when

---@class dbrun.batch.Standbys
---@field list dbrun.batch.Standby[]
---@field started boolean
local Standbys = {}
local meta <const> = { __index = Standbys, __name = "dbrun.batch.Standbys" }

---@return dbrun.batch.Standbys
function M.new()
    return setmetatable({ list = {}, started = false }, meta)
end

local function key_of(row)
    return ("%s\0%s"):format(row.name or "", row.address or "")
end

--- "b"; its address if it has no name.
local function name_of(row)
    local name <const>, address <const> = row.name or "", row.address
    if name ~= "" and name ~= "walreceiver" then return words.name(name) end
    return address and ("at " .. words.name(address)) or ("of WAL sender %d"):format(row.pid)
end

--- Matches rows to known standbys: by the same WAL sender, else by name and address.
local function match(list, rows)
    local row_of <const>, taken <const> = {}, {}
    for _, same_sender in ipairs { true, false } do
        for _, standby in ipairs(list) do
            for i, row in ipairs(rows) do
                if not row_of[standby] and not taken[i] and key_of(row) == standby.key
                    and (row.pid == standby.pid or not same_sender) then
                    row_of[standby], taken[i] = row, true
                end
            end
        end
    end
    return row_of, taken
end

---@param rows { pid: integer, name?: string, address?: string, replayed?: integer }[]
---@param now number monotonic
---@param say fun(text: string)
function Standbys:look(rows, now, say)
    local row_of <const>, taken <const> = match(self.list, rows)
    local list <const> = {}
    for _, standby in ipairs(self.list) do
        local row <const> = row_of[standby]
        if row then
            standby.pid, standby.replayed, standby.gone = row.pid, row.replayed or standby.replayed, nil
        elseif standby.from_start then
            standby.gone = standby.gone or now
        end
        local left_out <const> = standby.gone and now - standby.gone >= GONE
        if left_out then
            say(("standby %s has been gone for %d s: replication_lag goes on without it"):format(standby.name, GONE))
        end
        if (row or standby.gone) and not left_out then list[#list + 1] = standby end
    end
    for i, row in ipairs(rows) do
        if not taken[i] then
            list[#list + 1] = { key = key_of(row), pid = row.pid, name = name_of(row), replayed = row.replayed,
                from_start = not self.started }
        end
    end
    self.list, self.started = list, true
end

---After a failover the standbys are those of the new primary.
function Standbys:restart()
    self.list, self.started = {}, false
end

---The one that is most behind.
---@param wal dbrun.batch.Wal
---@param now number monotonic
---@return number seconds
---@return string? text "standby b is 12 s behind"
function Standbys:worst(wal, now)
    local most, text = 0, nil
    for _, standby in ipairs(self.list) do
        local behind, at_least = 0, false
        if standby.replayed then behind, at_least = wal:behind(standby.replayed) end
        if behind > most then
            most = behind
            text = ("standby %s is %s%s behind%s"):format(standby.name, at_least and "at least " or "",
                words.seconds(behind), standby.gone and (", and gone for %s"):format(words.seconds(now - standby.gone))
                or "")
        end
    end
    return most, text
end

return M
