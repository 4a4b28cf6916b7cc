--- The age of the oldest snapshot or prepared transaction in the database that is not the job's: while it lasts, dead
--- rows of chunks cannot be removed.
local holders <const> = require "dbrun.batch.signals.holders"
local words <const> = require "dbrun.batch.signals.words"

local Oldest = {
    name = "oldest_transaction", kind = "seconds", critical = true, sees_sessions = true, parts = { holders.PART },
}
Oldest.__index = Oldest

function Oldest.new() return setmetatable({ holders = holders.new() }, Oldest) end

---@param answer dbrun.batch.Answer
---@param look dbrun.batch.Look
---@return dbrun.batch.Reading
function Oldest:read(answer, look)
    local seconds <const>, text <const> = self.holders:oldest(answer.holders, look.now)
    return { value = seconds, text = text and ("%s is open for %s"):format(text, words.seconds(seconds)) }
end

return Oldest
