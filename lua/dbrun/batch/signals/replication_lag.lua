--- How far the standbys are behind: the recorded WAL positions (wal.lua) compared with what each has replayed.
local ask <const> = require "dbrun.batch.signals.ask"
local replicas <const> = require "dbrun.batch.signals.replicas"
local standbys <const> = require "dbrun.batch.signals.standbys"

local Lag = { name = "replication_lag", kind = "seconds", default = 5, critical = true }
Lag.__index = Lag

--- A base backup, and a receiver that does not replay WAL (pg_receivewal), are not standbys. A role without the right
--- sees the state as NULL.
Lag.parts = { {
    name = "senders",
    sql = ask.rows [[
        select s.pid, s.state, a.application_name as name,
               coalesce({host}(a.client_addr), a.client_hostname) as address,
               {pg_wal_lsn_diff}(s.replay_lsn, '0/0')::{int8} as replayed
          from {pg_stat_get_wal_senders}() s left join lateral {pg_stat_get_activity}(s.pid) a on true
         where s.state is null or s.state {<>} 'backup']],
} }

---@param health dbrun.batch.Health
function Lag.new(health)
    return setmetatable({ standbys = standbys.new(), replicas = replicas.new(health.replicas), started = false }, Lag)
end

function Lag:questions(now) return self.replicas:questions(now) end

function Lag:restart() self.standbys:restart() end

--- The standbys that the role may see, and the number of the others.
local function seen(senders)
    local rows <const>, hidden = {}, 0
    for _, row in ipairs(senders) do
        if row.state then rows[#rows + 1] = row else hidden = hidden + 1 end
    end
    return rows, hidden
end

local function quiet() end

---@param answer dbrun.batch.Answer
---@param look dbrun.batch.Look
---@return dbrun.batch.Reading
function Lag:read(answer, look)
    local rows <const>, hidden <const> = seen(answer.senders)
    self.standbys:look(rows, look.now, look.say)
    local most, text = self.standbys:worst(look.wal, look.now)
    local first <const> = not self.started
    self.started = true
    local problem <const> = first and self.replicas:problem()
    local unread = problem and { text = problem, remedy = "check the address of that replica" } or nil
    local theirs <const>, their_text <const> = self.replicas:worst(look.wal, look.now, first and quiet or look.say)
    if theirs > most then most, text = theirs, their_text end
    if hidden > 0 and #self.replicas.list == 0 then
        unread = { text = ("pg_stat_replication hides %d standby%s from the role %s"):format(hidden,
            hidden == 1 and "" or "s", look.role) }
    end
    return { value = most, text = text, unread = unread }
end

return Lag
