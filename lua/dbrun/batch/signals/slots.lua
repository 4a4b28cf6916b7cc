--- WAL that replication slots hold, for slots that hold more than at the start. A slot whose WAL is removed, or about
--- to be, is critical: its standby would have to be rebuilt.
local ask <const> = require "dbrun.batch.signals.ask"
local words <const> = require "dbrun.batch.signals.words"

local Slots = { name = "slots", kind = "bytes", critical = true }
Slots.__index = Slots

Slots.parts = { {
    name = "slots",
    sql = ask.rows [[
        select slot_name::{text} as name, wal_status as status, {pg_wal_lsn_diff}(restart_lsn, '0/0')::{int8} as place
          from {pg_get_replication_slots}() where restart_lsn is not null or wal_status {=} 'lost']],
} }

local GOOD <const> = { reserved = true, extended = true }
local MEANS <const> = { unreserved = "its WAL is about to be removed", lost = "its WAL is lost" }

function Slots.new()
    return setmetatable({ kept = {}, bad = {}, started = false }, Slots)
end

function Slots:restart() self.kept, self.bad, self.started = {}, {}, false end

---@param answer dbrun.batch.Answer
---@param look dbrun.batch.Look
---@return dbrun.batch.Reading
function Slots:read(answer, look)
    local most, text, critical = 0, nil, nil
    for _, slot in ipairs(answer.slots) do
        local name <const>, good <const> = words.name(slot.name), slot.status == nil or GOOD[slot.status]
        local kept <const> = slot.place and math.max(0, answer.wal - slot.place) or 0
        self.kept[slot.name] = self.kept[slot.name] or kept
        if good then
            self.bad[slot.name] = nil
        elseif not self.started then
            self.bad[slot.name] = true
            look.say(("slots: the slot %s is %s already: it is left out"):format(name, slot.status))
        elseif not self.bad[slot.name] then
            critical = ("slot %s is %s: %s"):format(name, slot.status, MEANS[slot.status] or "its WAL goes")
        end
        if good and kept > self.kept[slot.name] and kept > most then
            most, text = kept, ("slot %s keeps %s of WAL"):format(name, words.bytes(kept))
        end
    end
    self.started = true
    return { value = most, text = text, wait = critical, critical = critical }
end

return Slots
