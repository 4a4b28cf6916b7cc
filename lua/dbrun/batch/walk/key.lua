--- Chooses the index by which a table is walked. An unsuitable key is refused with the remedy. A deferrable constraint
--- counts as unique, because a step sees only committed rows.
local errors <const> = require "dbrun.error"
local nearest <const> = require "dbrun.nearest"

local M = {}

local DESCENDING <const>, NULLS_FIRST <const> = 1, 2 -- bits of pg_index.indoption

local function fail(definition, hint, fmt, ...)
    errors.fail("usage", ("%s: %s"):format(definition.fn, fmt:format(...)), hint)
end

---Names as people write them in SQL.
---@param names string[]
---@param sign? string between them
---@return string sql
function M.written(names, sign)
    local out = {}
    for i, name in ipairs(names) do
        out[i] = name:find "^[%l_][%l%d_]*$" and name or '"' .. name:gsub('"', '""') .. '"'
    end
    return table.concat(out, sign or ", ")
end

local function names_of(index, by_number, count)
    local names = {}
    for i = 1, count or #index.columns do
        local column <const> = by_number[index.columns[i].number]
        names[i] = column and column.name or "(an expression)"
    end
    return names
end

---Whether the index's column has the default operator class of its type, so that the type's operators have its order.
local function is_usual(entry, column)
    return entry.is_default and (entry.input == column.base or not column.has_class)
end

---Why an index does not have an order that can be walked; nil when it does.
---@param index table
---@param by_number table<integer, table>
---@param count integer columns of the key
local function fault_of(index, by_number, count)
    if index.method ~= "btree" then return ("is a %s index"):format(index.method) end
    if index.is_partial then return "is partial: it has only some of the rows" end
    if not index.is_ready then
        return "is not valid: CREATE INDEX CONCURRENTLY failed or is still under way"
    end
    for i = 1, count do
        local entry <const>, column = index.columns[i], by_number[index.columns[i].number]
        if not column then return "has an expression" end
        if entry.collation_oid ~= column.collation_oid then
            return ("orders %s by another collation than the column's"):format(column.name)
        elseif not is_usual(entry, column) then
            return ("orders %s by another operator class than the type's own"):format(column.name)
        elseif not entry.gt or not entry.le then
            return ("orders %s by operators that cannot be found"):format(column.name)
        elseif (entry.option ~ index.columns[1].option) & DESCENDING ~= 0 then
            return "has ascending and descending columns"
        end
    end
    return nil
end

---Whether a valid unique index exists whose columns are all in the key.
local function is_unique_by(indexes, by_number, key)
    local among = {}
    for _, name in ipairs(key) do among[name] = true end
    for _, index in ipairs(indexes) do
        local all = index.is_unique and index.is_ready and not index.is_partial
        for _, entry in ipairs(index.columns) do
            local column <const> = by_number[entry.number]
            all = all and column and among[column.name] and is_usual(entry, column)
                and entry.collation_oid == column.collation_oid
        end
        if all then return true end
    end
    return false
end

local function starts_with(list, key)
    for i, name in ipairs(key) do
        if list[i] ~= name then return false end
    end
    return true
end

---The unique indexes by which the table can be walked, for a hint.
local function suitable(indexes, by_number)
    local list = {}
    for _, index in ipairs(indexes) do
        if index.is_unique and not fault_of(index, by_number, #index.columns) then
            local names <const> = names_of(index, by_number)
            for i, name in ipairs(names) do names[i] = ("%q"):format(name) end
            list[#list + 1] = #names == 1 and "key = " .. names[1] or ("key = { %s }"):format(table.concat(names, ", "))
        end
    end
    return list
end

---@return string hint the statement that makes the index
local function create(relation, key, unique)
    local on <const> = ("%s (%s)"):format(relation.written, key and M.written(key) or "...")
    if relation.kind == "p" then
        return ("create %sindex concurrently on each partition, then the same without concurrently on %s, which takes "
            .. "those%s; or make a job for each partition, which is walked by its own indexes"):format(
            unique and "unique " or "", on, unique and " (a unique one needs the partition key in it)" or "")
    elseif relation.hypertable then
        return unique and ("create unique index on %s, with its time column in it; it locks the table"):format(on)
            or ("create index on %s with (timescaledb.transaction_per_chunk)"):format(on)
    end
    return ("create %sindex concurrently on %s"):format(unique and "unique " or "", on)
end

local function primary_of(definition, relation, indexes, by_number)
    for _, index in ipairs(indexes) do
        if index.is_primary then
            local fault <const> = fault_of(index, by_number, #index.columns)
            if not fault then return { index = index, key = names_of(index, by_number) } end
            fail(definition, 'say another: key = "column"', "the primary key %s of %s %s", index.name, relation.shown,
                fault)
        end
    end
    local list <const> = suitable(indexes, by_number)
    fail(definition, #list > 0 and "it can be walked by: " .. table.concat(list, ", or ")
        or "add one, or a unique index on columns that are not null: " .. create(relation, nil, true),
        "%s has no primary key, and no key is given", relation.shown)
end

local function primary_key(indexes, by_number)
    for _, index in ipairs(indexes) do
        if index.is_primary then return names_of(index, by_number) end
    end
    return {}
end

local function refuse_ambiguous(definition, relation, indexes, by_number, key, index)
    local longer, had = table.move(key, 1, #key, 1, {}), {}
    for _, name in ipairs(key) do had[name] = true end
    for _, name in ipairs(primary_key(indexes, by_number)) do
        if not had[name] then longer[#longer + 1] = name end
    end
    local hint = "or say ties = true: rows with the same value are then one chunk, however many"
    if #longer > #key then
        hint = ("add the primary key as the last column: key = { %s }, with %s; %s"):format(
            '"' .. table.concat(longer, '", "') .. '"', create(relation, longer), hint)
    end
    fail(definition, hint, "the key (%s) of %s is not unique: %s may have several rows of the same value, and a chunk "
        .. "that ends among them would leave some out", M.written(key), relation.shown, index.name)
end

local function check_columns(definition, relation, columns, key)
    local known, names = {}, {}
    for i, column in ipairs(columns) do known[column.name], names[i] = true, column.name end
    for _, name in ipairs(key) do
        if not known[name] then
            local near <const> = nearest.find(name, names)
            fail(definition, near and ("did you mean '%s'?"):format(near) or "its columns are " .. M.written(names),
                "%s has no column '%s' for its key", relation.shown, name)
        end
    end
end

local function given(definition, relation, columns, indexes, by_number)
    local key <const> = definition.key
    check_columns(definition, relation, columns, key)
    local unique <const> = is_unique_by(indexes, by_number, key)
    local found, fault, faulty
    for _, index in ipairs(indexes) do
        if starts_with(names_of(index, by_number), key) then
            local why <const> = fault_of(index, by_number, #key)
            if why then
                fault, faulty = fault or why, faulty or index
            elseif not found or (index.is_unique and #index.columns == #key and not found.is_unique) then
                found = index
            end
        end
    end
    if not found then
        local hint <const> = create(relation, key, not unique and not definition.ties)
        if fault then fail(definition, hint, "the index %s of %s cannot be walked: it %s", faulty.name, relation.shown,
            fault) end
        fail(definition, hint, "%s has no index on (%s), in this order", relation.shown, M.written(key))
    end
    if not unique and not definition.ties then
        refuse_ambiguous(definition, relation, indexes, by_number, key, found)
    end
    return { index = found, key = key }
end

local function check_nulls(definition, relation, entries)
    for _, entry in ipairs(entries) do
        if not entry.column.filled and definition.nulls ~= "skip" then
            fail(definition, ('nulls = "skip" leaves such rows out and counts them; or alter table %s alter column %s '
                .. "set not null"):format(relation.written, M.written { entry.column.name }),
                "the key column %s of %s may be null: such rows would never be reached", entry.column.name,
                relation.shown)
        end
    end
end

---The columns of the key, in its order, with the index's facts about each.
---@param definition dbrun.batch.Definition
---@param relation table `shown` is its name as given, `written` the name with its schema
---@param columns table[]
---@param indexes table[]
---@return table[] entries each has `column`, `entry` and `nulls_first`, for ascending order
---@return table index
---Raises an error of kind `usage`.
function M.of(definition, relation, columns, indexes)
    local by_number = {}
    for _, column in ipairs(columns) do by_number[column.number] = column end
    local found <const> = definition.key and given(definition, relation, columns, indexes, by_number)
        or primary_of(definition, relation, indexes, by_number)
    local entries = {}
    for i = 1, #found.key do
        local entry <const> = found.index.columns[i]
        local first <const>, down = entry.option & NULLS_FIRST ~= 0, entry.option & DESCENDING ~= 0
        entries[i] = { column = by_number[entry.number], entry = entry, nulls_first = first ~= down }
    end
    check_nulls(definition, relation, entries)
    return entries, found.index
end

return M
