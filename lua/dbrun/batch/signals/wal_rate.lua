--- Bytes of WAL that the server writes per second, by all sessions: the average of five seconds.
local words <const> = require "dbrun.batch.signals.words"

local Rate = { name = "wal_rate", kind = "bytes", critical = true, parts = {}, needs_wal = true }
Rate.__index = Rate

local OVER <const> = 5 -- seconds

function Rate.new() return setmetatable({}, Rate) end

---@param look dbrun.batch.Look
---@return dbrun.batch.Reading
function Rate.read(_, _, look)
    local rate <const> = look.wal:rate(OVER)
    return { value = rate, text = rate and ("the server writes %s of WAL a second"):format(words.bytes(rate)) }
end

return Rate
