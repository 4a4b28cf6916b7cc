--- A list of keys as the source of a job.
local args <const> = require "dbrun.args"
local columns <const> = require "dbrun.batch.kinds.columns"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local json <const> = require "dbrun.json"
local keys <const> = require "dbrun.batch.kinds.keys"
local params <const> = require "dbrun.db.params"

local M = {}

local FN <const> = "batch.list"
local TYPES <const> = { integer = "bigint", float = "double precision", string = "text" }

local function type_of(value)
    return TYPES[math.type(value) or type(value)]
end

---The names of the columns of rows: all have the same.
local function names_of(rows)
    local names <const> = {}
    for name in pairs(rows[1]) do
        if type(name) ~= "string" then
            errors.fail("usage", FN .. ": a row has keys that are no names of columns", "{ id = 7 }, or 7")
        end
        names[#names + 1] = name
    end
    table.sort(names)
    return names
end

---The rows as lists, each key once, and the columns' types.
local function rows_of(list, names, types)
    local rows <const>, seen <const>, found <const> = {}, {}, {}
    for i, value in ipairs(list) do
        local row <const>, texts <const> = {}, {}
        for c, name in ipairs(names) do
            local v = value
            if type(value) == "table" then v = value[name] end
            local kind <const> = type_of(v)
            if not kind then
                errors.usage(FN, "element %d: '%s' must be a number or a string, got %s", i, core.text.cell(name, 60),
                    v == nil and "nil" or "a " .. type(v))
            elseif kind == "text" and (not utf8.len(v) or v:find("\0", 1, true)) then
                errors.usage(FN, "element %d: '%s' %s", i, core.text.cell(name, 60),
                    utf8.len(v) and "has a NUL byte" or "is not valid UTF-8")
            elseif found[c] and found[c] ~= kind then
                errors.usage(FN, "element %d: '%s' is %s, and that of the first is %s", i, core.text.cell(name, 60),
                    kind, found[c])
            end
            found[c], row[c] = kind, v
            texts[c] = ("%d:%s"):format(#tostring(v), v)
        end
        if type(value) == "table" then
            for name in pairs(value) do
                if list[1][name] == nil then
                    errors.usage(FN, "element %d has '%s', which the first has not", i, tostring(name))
                end
            end
        end
        local text <const> = table.concat(texts)
        if not seen[text] then
            seen[text], rows[#rows + 1] = true, row
        end
    end
    for c, name in ipairs(names) do found[c] = types[name] or found[c] end
    return rows, found
end

local OPTIONS <const> = { key = "string", types = "table" }

---@param list any[]
---@param opts? table as for batch.list
---@return dbrun.batch.KeysSource
function M.source(list, opts)
    args.check(FN, "its argument", list, "table")
    opts = args.options(FN, opts, OPTIONS)
    args.no_holes(FN, "element", list)
    if #list == 0 then errors.usage(FN, "the list is empty") end
    local names <const> = type(list[1]) == "table" and names_of(list) or { opts.key or "id" }
    for i, value in ipairs(list) do
        if (type(value) == "table") ~= (type(list[1]) == "table") then
            errors.usage(FN, "element %d is a %s, and the first is a %s", i, type(value), type(list[1]))
        end
    end
    local types <const> = opts.types or {}
    local is_name <const> = {}
    for _, name in ipairs(names) do is_name[name] = true end
    for name, text in pairs(types) do
        args.check(FN, "types." .. tostring(name), text, "string")
        if not is_name[name] then
            errors.fail("usage", ("%s: types: there is no column '%s'"):format(FN, tostring(name)),
                "the columns are " .. table.concat(names, ", "))
        end
    end
    local rows <const>, kinds <const> = rows_of(list, names, types)
    return keys.source {
        kind = "list", text = ("a list of %d"):format(#rows), names = names,
        hash = core.digest("sha256", json.encode { names = json.array(names), types = json.array(kinds),
            rows = json.array(rows) }),
        fill = function(tx, relation)
            local declared <const>, places <const> = { "n bigint" }, { "$1" }
            for c, name in ipairs(names) do
                places[c + 1] = "$" .. c + 1
                declared[#declared + 1] = ("%s %s"):format(params.ident { name }, kinds[c])
            end
            tx:exec(("create table %s (%s)"):format(relation, table.concat(declared, ", ")))
            local staged <const> = {}
            for i, row in ipairs(rows) do staged[i] = { i, table.unpack(row) } end
            tx:execute_many(("insert into %s (n, %s) values (%s)"):format(relation, columns.list(names),
                table.concat(places, ", ")), staged)
        end,
    }
end

return M
