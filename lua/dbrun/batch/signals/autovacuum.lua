--- Autovacuum on the walked table. Both would read all of it, and the vacuum does not remove rows that chunks leave
--- behind it. The limit is the longest wait for a vacuum; the job never waits for one against wraparound, which can
--- take hours.
local ask <const> = require "dbrun.batch.signals.ask"
local words <const> = require "dbrun.batch.signals.words"

local Autovacuum = { name = "autovacuum", kind = "seconds", sees_sessions = true }
Autovacuum.__index = Autovacuum

--- For a vacuum of a partition, the walked table is an ancestor.
Autovacuum.parts = { {
    name = "vacuums",
    sql = ask.rows [[
        select v.pid, a.query {~~} '%(to prevent wraparound)%' as wraparound
          from {pg_stat_get_progress_info}('VACUUM') v cross join lateral {pg_stat_get_activity}(v.pid) a
         where v.datid {=} (select oid from {pg_database} where datname {=} {current_database}())
           and a.backend_type {=} 'autovacuum worker'
           and :oid::{oid} {=} any (array(
               with recursive up (id) as (
                    select v.relid
                    union all
                    select i.inhparent from {pg_inherits} i join up on i.inhrelid {=} up.id)
               select id from up))]],
} }

---@param health dbrun.batch.Health
function Autovacuum.new(health)
    return setmetatable({ since = {}, table = words.name(health.table or "the table") }, Autovacuum)
end

---@param answer dbrun.batch.Answer
---@param look dbrun.batch.Look
---@param limit number?
---@return dbrun.batch.Reading
function Autovacuum:read(answer, look, limit)
    local since <const>, longest = {}, nil
    for _, vacuum in ipairs(answer.vacuums) do
        if not vacuum.wraparound then
            since[vacuum.pid] = self.since[vacuum.pid] or look.now
            local waited <const> = look.now - since[vacuum.pid]
            if limit and waited < limit then longest = math.max(longest or 0, waited) end
        end
    end
    self.since = since
    return { wait = longest and ("autovacuum works on %s, waiting %s for it, at most %s"):format(self.table,
        words.seconds(longest), words.seconds(limit)) }
end

return Autovacuum
