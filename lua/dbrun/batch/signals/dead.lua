--- The share of dead rows in the table, by the server's statistics, and why they are not removed. With `vacuum = true`
--- the job vacuums between two chunks.
local ask <const> = require "dbrun.batch.signals.ask"
local holders <const> = require "dbrun.batch.signals.holders"
local words <const> = require "dbrun.batch.signals.words"

local Dead = { name = "dead", kind = "share", critical = true }
Dead.__index = Dead

local OLD <const> = 60 -- seconds: a transaction that is open for longer is named as the cause
local FEW <const> = 1000 -- dead rows that are ignored
local APART <const> = 60 -- seconds between two vacuums of ours

Dead.parts = { {
    name = "dead",
    sql = ask.rows [[
        with recursive t (id) as (
             select :oid::{oid}
             union all
             select i.inhrelid from {pg_inherits} i join t on i.inhparent {=} t.id)
        select {sum}({pg_stat_get_dead_tuples}(c.oid))::{int8} as dead,
               {sum}({pg_stat_get_live_tuples}(c.oid))::{int8} as live,
               {current_setting}('autovacuum') {=} 'on' as cleaned,
               {bool_or}(coalesce((select not option_value::bool from {pg_options_to_table}(c.reloptions)
                                   where option_name {=} 'autovacuum_enabled'), false)) as disabled
          from t join {pg_class} c on c.oid {=} t.id
         where c.relkind {=} 'r' or c.relkind {=} 'm']],
}, holders.PART }

---@param health dbrun.batch.Health
function Dead.new(health)
    return setmetatable({ holders = holders.new(), table = words.name(health.table or "the table"), over = false },
        Dead)
end

local function why(row, oldest, holder)
    if oldest >= OLD and holder then
        return (", held back by %s (%s)"):format(holder, words.seconds(oldest))
    elseif row.disabled then
        return ", autovacuum is off for the table"
    end
    return row.cleaned and "" or ", autovacuum is off"
end

---@param answer dbrun.batch.Answer
---@param look dbrun.batch.Look
---@param limit number?
---@return dbrun.batch.Reading
function Dead:read(answer, look, limit)
    local row <const> = answer.dead[1] or {}
    local dead <const>, live <const> = row.dead or 0, row.live or 0
    local oldest <const>, holder <const> = self.holders:oldest(answer.holders or {}, look.now)
    local share <const> = dead > FEW and dead / (dead + live) or 0
    self.over = limit and share > limit and oldest < OLD
    return { value = share, text = ("%.3g %% of the rows of %s are dead%s"):format(share * 100, self.table,
        why(row, oldest, holder)) }
end

---True at most once a minute, for the first worker that asks, which then vacuums. Not while an old snapshot would keep
---the rows.
---@param now number monotonic
---@return boolean
function Dead:wants_vacuum(now)
    if not self.over or self.vacuumed and now - self.vacuumed < APART then return false end
    self.vacuumed = now
    return true
end

return Dead
