--- The SQL of a walk: conditions on the key, the next bound, the last key, where to cut a range. It works with any
--- search_path. Bounds are texts, `:after` and `:upto`, and each is read as the type of its column.
local M = {}

-- ---- pieces ----

local function map(list, fn)
    local out = {}
    for i, item in ipairs(list) do out[i] = fn(item, i) end
    return out
end

local function join(list) return table.concat(list, ", ") end

---One value, or a row of them: rows are compared column by column, by the index.
local function row_of(list) return #list == 1 and list[1] or "(" .. join(list) .. ")" end

local function columns(walk)
    return map(walk.key, function(k) return walk.alias .. "." .. k.ident end)
end

---The values of a bound that is a parameter.
local function bound(walk, name)
    return map(walk.key, function(k, i)
        return ("cast((cast(:%s as pg_catalog.text[]))[%d] as %s)"):format(name, i, k.cast)
    end)
end

---The values of the row of a WITH query. Each is a separate subquery, which runs once, so that an index scan can use
---it.
local function of(walk, query)
    return map(walk.key, function(_, i) return ("(select k%d from %s)"):format(i, query) end)
end

local function beyond(walk, list) return ("%s %s %s"):format(row_of(columns(walk)), walk.gt, row_of(list)) end
local function within(walk, list) return ("%s %s %s"):format(row_of(columns(walk)), walk.le, row_of(list)) end

---Rows whose key has a NULL are in no range.
local function filled(walk)
    local parts = {}
    for i, k in ipairs(walk.key) do
        if k.nullable then parts[#parts + 1] = ("%s is not null"):format(columns(walk)[i]) end
    end
    return parts
end

--- The planner prunes leaves only by conditions on their partition key, and only if these are constants: not by
--- comparing rows, and not by a text that is cast to a time, because that depends on a setting.
local function prune(walk, parts, open)
    if not walk.ordered then return end
    local column <const>, cast <const> = columns(walk)[1], walk.key[1].cast
    if not open then parts[#parts + 1] = ("%s %s cast(:_after as %s)"):format(column, walk.ge, cast) end
    parts[#parts + 1] = ("%s %s cast(:_upto as %s)"):format(column, walk.le, cast)
end

---All conditions on a range.
local function range(walk, lower, open)
    local parts <const> = filled(walk)
    table.insert(parts, 1, within(walk, bound(walk, "upto")))
    if lower then table.insert(parts, 1, beyond(walk, lower)) end
    prune(walk, parts, open)
    return table.concat(parts, " and ")
end

local function lower_of(walk, open) return not open and bound(walk, "after") or nil end

local function from(walk) return ("from %s as %s"):format(walk.relation, walk.alias) end

---ORDER BY; ascending unless `down`.
local function order(walk, down)
    return "order by " .. join(map(columns(walk), function(sql, i)
        local first <const> = walk.key[i].nulls_first ~= (down or false)
        return sql .. (down and " desc" or "") .. (first and " nulls first" or " nulls last")
    end))
end

---The order of the walk.
---@param walk dbrun.batch.Walk
---@return string sql
function M.order(walk) return order(walk) end

local function select_key(walk)
    return "select " .. join(map(columns(walk), function(sql, i) return ("%s as k%d"):format(sql, i) end))
end

---A key of a WITH query, or of the table, as a list of texts.
local function text_of(walk, prefix)
    return ("array[%s]"):format(join(map(walk.key, function(k, i)
        return k.text(prefix and ("%s.k%d"):format(prefix, i) or columns(walk)[i])
    end)))
end

-- ---- queries of the walk ----

---The condition of a chunk.
---@param walk dbrun.batch.Walk
---@param open boolean there is no lower bound
---@return string sql
function M.condition(walk, open)
    return range(walk, lower_of(walk, open), open)
end

---The condition that the key, or its first column, is among those that a step has found.
---@param walk dbrun.batch.Walk
---@return string sql
function M.found(walk)
    return ("%s %s any (cast(cast(:_keys as pg_catalog.text[]) as %s[]))"):format(columns(walk)[1], walk.eq,
        walk.key[1].cast)
end

---The last key.
---@param walk dbrun.batch.Walk
---@return string sql
function M.last(walk)
    local where <const> = table.concat(filled(walk), " and ")
    return ("select %s as bound %s %s %s limit 1"):format(text_of(walk), from(walk),
        where ~= "" and "where " .. where or "", order(walk, true))
end

---The number of rows that the walk leaves out because their key has a NULL.
---@param walk dbrun.batch.Walk
---@return string? sql nil: none can
function M.nulls(walk)
    local parts = {}
    for i, k in ipairs(walk.key) do
        if k.nullable then parts[#parts + 1] = columns(walk)[i] .. " is null" end
    end
    if #parts == 0 then return nil end
    return ("select pg_catalog.count(*) as rows %s where %s"):format(from(walk), table.concat(parts, " or "))
end

--- The end of a step: the row of `hit`, or, when the range ended before, the row of `$other`. The query for a further
--- key is ordered by the key, because a plain EXISTS may be planned as a scan of the table.
local STEP <const> = [[
with $hit,
rest as materialized (select coalesce((select true $from where $behind $order limit 1), false) as more)
select s.bound, s.fits, s.looked, s.final from (
    select case when (select more from rest) then $text else cast(:upto as pg_catalog.text[]) end as bound,
        $fits as fits, $looked as looked, not (select more from rest) as final
    from hit
    union all
    select cast(:upto as pg_catalog.text[]), $other
) s limit 1]]

local WANTED <const> = "cast(least(cast(:size as pg_catalog.int8), cast(:look as pg_catalog.int8)) as pg_catalog.int8)"

local function fill(template, values)
    return (template:gsub("%$([%l_]+)", values))
end

local function finish(walk, open, template, values)
    values.from, values.text, values.order = from(walk), text_of(walk, "hit"), order(walk)
    values.key, values.wanted = select_key(walk), WANTED
    values.range = range(walk, lower_of(walk, open), open)
    values.behind = range(walk, of(walk, "hit"), open)
    for _, name in ipairs { "hit", "other", "fits", "looked" } do values[name] = fill(values[name], values) end
    return fill(template, values)
end

--- The same with one mention of the table, whose keys are kept: for a few keys, where planning more mentions would take
--- longer, and for a table with leaves or on several nodes, where each mention plans all of them.
local KEYS_ONCE <const> = [[
with e as materialized ($key $from where $range $order limit $wanted operator(pg_catalog.+) 1),
hit as materialized (select e.* from e offset $wanted operator(pg_catalog.-) 1 limit 1),
total as materialized (select pg_catalog.count(*) as n from e)
select case when total.n operator(pg_catalog.>) $wanted then (select $text from hit)
    else cast(:upto as pg_catalog.text[]) end as bound, least(total.n, $wanted) as fits,
    least(total.n, $wanted) as looked, total.n operator(pg_catalog.<=) $wanted as final
from total where total.n operator(pg_catalog.>) 0]]

---Counting keys only.
local function by_keys(walk, open, few)
    return finish(walk, open, (walk.once or few) and KEYS_ONCE or STEP, {
        hit = "hit as materialized ($key $from where $range $order offset $wanted operator(pg_catalog.-) 1 limit 1)",
        fits = WANTED, looked = WANTED,
        other = "c.n, c.n, true from (select pg_catalog.count(*) as n from "
            .. "($key $from where $range $order limit $wanted) r) c\n"
            .. "    where c.n operator(pg_catalog.>) 0 and not exists (select 1 from hit)",
    })
end

--- Most keys do not match, and numbering them would cost more than reading them. So the step samples keys that do not
--- match, on average 512 of the most that it may read, and ends with the 410th (the chance that it has read more keys
--- than allowed is below one in a million). Up to 512 keys, all are taken. The next step finds out whether a key
--- follows the last matching one. CASE ... <> 0: the planner assumes that it is true, and so expects to read few keys,
--- which is correct. `keys`: if few match, they are returned, so that the chunk does not have to read all the others
--- again.
local SAMPLE <const>, ENOUGH <const> = 512, 410
local MOST_FOUND <const> = 10000

---If one key in this number or fewer matches, a step by `where` returns the matching keys.
M.SPARSE = 50

local BY_WHERE <const> = [[
with e as ($key, ($where) is true as m $from where $range and ($where
    or case when pg_catalog.random() operator(pg_catalog.<) $share then 1 else 0 end operator(pg_catalog.<>) 0)
    $order limit $wanted operator(pg_catalog.+) $sample
),
n as materialized (select e.*, pg_catalog.count(*) filter (where e.m) over w as f,
    pg_catalog.count(*) filter (where not e.m) over w as marks from e window w as (rows unbounded preceding)),
hit as materialized (select * from n where n.f operator(pg_catalog.>=) $wanted
    or case when cast(:look as pg_catalog.int8) operator(pg_catalog.>) $sample
        then n.marks operator(pg_catalog.>=) $enough
        else n.marks operator(pg_catalog.+) n.f operator(pg_catalog.>=) cast(:look as pg_catalog.int8) end limit 1)
select s.bound, s.fits, s.looked, s.final, $found as keys from (
    select $text as bound, hit.f as fits, $looked_hit as looked, false as final,
        hit.f operator(pg_catalog.+) hit.marks as taken from hit
    union all
    select cast(:upto as pg_catalog.text[]), coalesce(pg_catalog.max(n.f), 0), $looked_all, true, null from n
) s limit 1]]

--- `n` is not read further than before.
local FOUND <const> = [[
case when s.fits operator(pg_catalog.>) 0 and s.fits operator(pg_catalog.*) $sparse operator(pg_catalog.<=) s.looked
    and s.fits operator(pg_catalog.<=) $most_found then (
    select cast(pg_catalog.array_agg($first) as pg_catalog.text)
      from (select n.* from n limit s.taken) x where x.m) end]]

local SHARE <const> = ("(%d.0::pg_catalog.float8 operator(pg_catalog./) cast(cast(:look as pg_catalog.int8)"
    .. " as pg_catalog.float8))"):format(SAMPLE)

---The number of keys read, estimated from the sample.
local function looked(fits, marks)
    return ("cast(%s operator(pg_catalog.+) (cast(%s as pg_catalog.float8) operator(pg_catalog./) least(%s, 1)) "
        .. "as pg_catalog.int8)"):format(fits, marks, SHARE)
end

local function by_where(walk, open, where)
    local first <const> = walk.key[1].text "x.k1"
    local few <const> = { sparse = tostring(M.SPARSE), most_found = tostring(MOST_FOUND), first = first }
    return fill(BY_WHERE, {
        key = select_key(walk), where = "(" .. where .. "\n)", from = from(walk),
        range = range(walk, lower_of(walk, open), open), share = SHARE, order = order(walk), wanted = WANTED,
        sample = tostring(SAMPLE), enough = tostring(ENOUGH), text = text_of(walk, "hit"),
        looked_hit = looked("hit.f", "hit.marks"),
        looked_all = looked("coalesce(pg_catalog.max(n.f), 0)", "coalesce(pg_catalog.max(n.marks), 0)"),
        found = walk.eq and fill(FOUND, few) or "cast(null as pg_catalog.text)",
    })
end

---The next bound.
---@param walk dbrun.batch.Walk
---@param open boolean
---@param where? string nil: by keys alone
---@param few? boolean only a few keys are wanted; used only when counting keys
---@return string sql
function M.step(walk, open, where, few)
    return where and by_where(walk, open, where) or by_keys(walk, open, few)
end

---Whether `:middle` is strictly between `:after` and `:upto`.
---@param walk dbrun.batch.Walk
---@return string sql
function M.between(walk)
    local middle <const> = row_of(bound(walk, "middle"))
    return ("select (%s %s %s) and not (%s %s %s) as inside"):format(middle, walk.gt, row_of(bound(walk, "after")),
        row_of(bound(walk, "upto")), walk.le, middle)
end

local CUT <const> = [[
with mid as materialized ($key $from where $range $order offset $half operator(pg_catalog.-) 1 limit 1),
far as materialized ($key $from where $behind $order offset $keys operator(pg_catalog.-) $half
    operator(pg_catalog.-) 1 limit 1),
total as materialized (select case when exists (select 1 from far) then $keys
    when exists (select 1 from mid) then $half operator(pg_catalog.+)
        (select pg_catalog.count(*) from ($key $from where $behind $order limit $keys) r)
    else (select pg_catalog.count(*) from ($key $from where $range $order limit $keys) r) end as n),
cut as (select total.n as keys,
    case when exists (select 1 from far) then (select $far_text from far)
        else (select $text $from where $range $down limit 1) end as bound,
    case when exists (select 1 from far) then (select $mid_text from mid)
        else (select $text $from where $range $order
            offset greatest(total.n operator(pg_catalog./) 2 operator(pg_catalog.-) 1, 0) limit 1) end as middle
    from total)
select cut.bound, cut.middle, cut.keys from cut
where cut.keys operator(pg_catalog.>) 1 and cut.middle operator(pg_catalog.<>) cut.bound]]

--- The same for a table that is mentioned once; it reads at most this number of keys.
local CUT_ONCE <const>, MOST_KEYS <const> = [[
with e as materialized ($key $from where $range $order limit least($keys, $most)),
n as materialized (select e.*, pg_catalog.row_number() over () as i, pg_catalog.count(*) over () as n from e)
select s.bound, s.middle, s.keys from (select $far_text as bound, $mid_text as middle, far.n as keys
    from n as far cross join n as mid
    where far.i operator(pg_catalog.=) far.n and mid.i operator(pg_catalog.=) (far.n operator(pg_catalog./) 2)) s
where s.keys operator(pg_catalog.>) 1 and s.middle operator(pg_catalog.<>) s.bound]], 100000

---Where a range is cut.
---@param walk dbrun.batch.Walk
---@param open boolean
---@return string sql
function M.cut(walk, open)
    local keys <const> = "greatest(cast(:keys as pg_catalog.int8), 2)"
    return fill(walk.once and CUT_ONCE or CUT, {
        most = tostring(MOST_KEYS),
        key = select_key(walk), from = from(walk), range = range(walk, lower_of(walk, open), open),
        order = order(walk), down = order(walk, true), behind = range(walk, of(walk, "mid"), open), keys = keys,
        half = "(" .. keys .. " operator(pg_catalog./) 2)", text = text_of(walk), far_text = text_of(walk, "far"),
        mid_text = text_of(walk, "mid"),
    })
end

---The last keys of leaves, in the order of the key and within a range: cutting there makes parts that are in few
---leaves.
---@param walk dbrun.batch.Walk
---@param leaves string[] quoted, with their schemas
---@param open boolean
---@return string sql
function M.cuts(walk, leaves, open)
    local where <const> = table.concat(filled(walk), " and ")
    local parts <const> = map(leaves, function(leaf)
        return ("(%s from %s as %s %s %s limit 1)"):format(select_key(walk), leaf, walk.alias,
            where ~= "" and "where " .. where or "", order(walk, true))
    end)
    local own <const> = map(walk.key, function(_, i) return "c.k" .. i end)
    local kept <const> = { ("%s %s %s"):format(row_of(own), walk.le, row_of(bound(walk, "upto"))) }
    if not open then
        kept[2] = ("%s %s %s"):format(row_of(own), walk.gt, row_of(bound(walk, "after")))
    end
    return ("select %s as bound from (%s) c where %s order by %s"):format(text_of(walk, "c"),
        table.concat(parts, " union all "), table.concat(kept, " and "), join(own))
end

return M
