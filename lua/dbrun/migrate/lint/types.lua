--- Types of columns, and the type changes that do not rewrite the rows.
local M = {}

---@class dbrun.migrate.lint.Type
---@field name string without its schema: "varchar", "int4"
---@field mods integer[] the numbers in brackets after it
---@field array boolean
---@field collation? string

---@param node table? a TypeName
---@param collate? table the CollateClause of the column
---@return dbrun.migrate.lint.Type?
function M.of(node, collate)
    local names = node and node.names
    local last = names and names[#names].String
    if not last then return end
    local mods = {}
    for i, mod in ipairs(node.typmods or {}) do
        local const = mod.A_Const
        if not const then return end
        mods[i] = const.ival and (const.ival.ival or 0)
    end
    local collation = collate and collate.collname[#collate.collname].String
    return {
        name = last.sval, mods = mods, array = node.arrayBounds ~= nil, collation = collation and collation.sval,
    }
end

---Whether both types are the same, ignoring the collation.
---@param a dbrun.migrate.lint.Type
---@param b dbrun.migrate.lint.Type
---@return boolean
function M.same(a, b)
    return a.name == b.name and a.array == b.array and table.concat(a.mods, ",") == table.concat(b.mods, ",")
end

---The type as people write it.
---@param t dbrun.migrate.lint.Type
---@return string
function M.shown(t)
    local mods = t.mods
    if t.name == "interval" then mods = { t.mods[2] } end
    return t.name .. (#mods > 0 and "(" .. table.concat(mods, ",") .. ")" or "") .. (t.array and "[]" or "")
        .. (t.collation and (' collate "%s"'):format(t.collation) or "")
end

---For times: without a precision it is the greatest one.
local PRECISE <const> = { timestamp = true, timestamptz = true, time = true, timetz = true }
local MOST <const> = 6

---Whether there is no limit, or one that is not lower.
local function no_lower(old, new)
    return #new.mods == 0 or #old.mods > 0 and old.mods[1] <= new.mods[1]
end

---Whether the server changes this type without rewriting or scanning the rows. A collation matters only for indexes.
---@param old dbrun.migrate.lint.Type
---@param new dbrun.migrate.lint.Type
---@return boolean
function M.is_cheap(old, new)
    if old.array ~= new.array then return false end
    if old.name ~= new.name then
        return (old.name == "varchar" and new.name == "text" or old.name == "text" and new.name == "varchar"
            or old.name == "cidr" and new.name == "inet") and #new.mods == 0
    end
    if old.name == "varchar" or old.name == "varbit" then return no_lower(old, new) end
    if old.name == "numeric" then
        return #new.mods == 0
            or #old.mods > 0 and old.mods[1] <= new.mods[1] and (old.mods[2] or 0) == (new.mods[2] or 0)
    end
    if old.name == "interval" then
        return #new.mods == 0 or old.mods[1] == new.mods[1] and (old.mods[2] or MOST) <= (new.mods[2] or MOST)
    end
    if PRECISE[old.name] then return (old.mods[1] or MOST) <= (new.mods[1] or MOST) end
    return table.concat(old.mods, ",") == table.concat(new.mods, ",")
end

return M
