--- Checkpoints of the last five minutes that were requested, by the volume of WAL (max_wal_size) or by hand: after each
--- one, changed pages are written to WAL in full.
local Checkpoints = { name = "checkpoints", kind = "count", critical = true }
Checkpoints.__index = Checkpoints

local OVER <const> = 300 -- seconds

local OLD <const> = { { name = "checkpoints", sql = "{pg_stat_get_bgwriter_requested_checkpoints}()" } }
local NEW <const> = { { name = "checkpoints", sql = "{pg_stat_get_checkpointer_num_requested}()" } }

---@param server dbrun.batch.Server
function Checkpoints.parts(server) return server.version >= 170000 and NEW or OLD end

function Checkpoints.new() return setmetatable({ last = nil, at = {} }, Checkpoints) end

function Checkpoints:restart() self.last = nil end

---@param answer dbrun.batch.Answer
---@param look dbrun.batch.Look
---@return dbrun.batch.Reading
function Checkpoints:read(answer, look)
    local at <const> = self.at
    for _ = 1, math.min(answer.checkpoints - (self.last or answer.checkpoints), 1000) do at[#at + 1] = look.now end
    self.last = answer.checkpoints
    while at[1] and look.now - at[1] > OVER do table.remove(at, 1) end
    return { value = #at, text = ("%d checkpoint%s asked for in 5 min"):format(#at, #at == 1 and " was" or "s were") }
end

return Checkpoints
