--- SQL that several files of the state share, for dbrun.db.catalog.
local M = {}

---Columns of a range that a worker needs.
M.RANGE = "id, pass, first, position, next, last, state, owner, taken, chunks, rows, looked, size, note"

---Restricts a comparison of names to the job that a process works on, not a later one with the same name. Its parameter
---is the start of the store, or NULL.
M.THE_SAME = " and (%s::timestamp with time zone is null or started {=} %s)"

---Gives the rest of a short transaction its own time limit: the role's statement_timeout may be meant for web requests.
M.PATIENT = "{set_config}('statement_timeout', '60s', true) as patient"

---Whether a range may be taken: nobody owns it, or its owner is gone or has not moved it for 15 s. Only the lock on its
---row decides whether it is really free.
M.FREE = [[
(r.again is null or r.again {<=} {clock_timestamp}())
and (r.owner is null or r.owner {=} :me or r.moved {<} ({clock_timestamp}() {-} interval '15 seconds')
     or not exists (select from {pg_stat_get_activity}(coalesce(r.pid, 0)) a
                    where (a.backend_start is null or a.backend_start {=} r.backend_start)))]]

---The start time of this session's server process, which distinguishes it from a later one with the same pid. The
---function is cheaper to plan than the view, and needs no right.
M.BACKEND_START = "(select a.backend_start from {pg_stat_get_activity}({pg_backend_pid}()) a)"

---The sum of two columns of seconds (or lengths) by name.
---@param a string
---@param b string
---@param how string "sum" or "max"
---@return string
function M.by_name(a, b, how)
    return ([[(select {jsonb_object_agg}(key, total) from (
        select key, {%s}(value::double precision) as total from (
            select * from {jsonb_each_text}(coalesce(%s, '{}')) union all
            select * from {jsonb_each_text}(coalesce(%s, '{}'))) x(key, value) group by key) y)]]):format(how, a, b)
end

return M
