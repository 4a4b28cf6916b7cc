--- SQL that several parts of the state share, to be given to dbrun.db.catalog.
local M = {}

---Columns of a range that a worker needs.
M.RANGE = "id, pass, first, position, next, last, state, owner, taken, chunks, rows, looked, size, note"

---The job that a process works on, and not one that was started under its name when it had been forgotten. It follows
---a comparison of names; its parameter is the start of the store, or NULL.
M.THE_SAME = " and (%s::timestamp with time zone is null or started {=} %s)"

---The rest of a short transaction of ours has its own time: the role's statement_timeout may be that of a web request.
M.PATIENT = "{set_config}('statement_timeout', '60s', true) as patient"

---A range may be taken: nobody has it, or its owner is gone, or has not moved it for 15 s. Whether it is really free is
---decided by the lock on its row alone.
M.FREE = [[
(r.again is null or r.again {<=} {clock_timestamp}())
and (r.owner is null or r.owner {=} :me or r.moved {<} ({clock_timestamp}() {-} interval '15 seconds')
     or not exists (select from {pg_stat_get_activity}(coalesce(r.pid, 0)) a
                    where (a.backend_start is null or a.backend_start {=} r.backend_start)))]]

---The start of the server's process of this session, which tells it from a later one with its number. The function
---costs a chunk less to plan than the view, and needs no right.
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
