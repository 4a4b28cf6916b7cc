--- Completion of SQL by position: relations after FROM, columns of the statement's relations in expressions, and so on.
local pattern <const> = require "dbrun.prompt.pattern"
local scope <const> = require "dbrun.prompt.complete.scope"
local words <const> = require "dbrun.prompt.complete.words"

local M = {}

---@class dbrun.prompt.Typed
---@field start integer where what is replaced begins
---@field prefix string without quotes
---@field quoted boolean a double quote was typed
---@field qualifiers string[] names before it: { "public", "notes" } for public.notes.

--- The text at the cursor; nil where nothing can be completed: in a string, a comment, a number.
local function typed(tokens, count, point)
    local last <const> = tokens[count]
    local result <const> = { start = point, prefix = "", quoted = false, qualifiers = {} }
    local i = count
    if last and last.behind >= point and last.text ~= "." then
        if last.kind == "word" or last.kind == "quoted" and last.open then
            result.start, result.quoted = last.at, last.kind == "quoted"
            result.prefix = result.quoted and last.low or last.text
            i = count - 1
        elseif last.kind ~= "sign" then
            return nil
        end
    end
    local behind = result.start
    while tokens[i] and tokens[i].text == "." and tokens[i].behind == behind and tokens[i - 1]
        and (tokens[i - 1].kind == "word" or tokens[i - 1].kind == "quoted") and tokens[i - 1].behind == tokens[i].at do
        table.insert(result.qualifiers, 1, tokens[i - 1].low)
        behind, i = tokens[i - 1].at, i - 2
    end
    return result, i
end

--- Adds a name, quoted where SQL needs it, if it begins as typed.
local function add_name(out, name, word)
    local prefix <const> = word.prefix
    if word.quoted then
        if name:sub(1, #prefix) == prefix then out[#out + 1] = '"' .. name:gsub('"', '""') .. '"' end
    elseif name:sub(1, #prefix):lower() == prefix:lower() then
        out[#out + 1] = pattern.quote(name, words.RESERVED)
    end
end

local TABLES <const> = {
    table = "rp", view = "v", materialized = "m", index = "iI", sequence = "S", relation = "rpvmf",
}

--- Relations of these kinds: those that the search_path finds, or all of a schema if one is named.
local function add_relations(out, names, word, kinds, schema)
    for _, relation in ipairs(names.relations or {}) do
        if kinds:find(relation.kind, 1, true) then
            if schema then
                if relation.schema == schema then add_name(out, relation.name, word) end
            elseif relation.visible and (relation.schema ~= "pg_catalog" or word.prefix ~= "") then
                add_name(out, relation.name, word)
            end
        end
    end
end

local function add_all(out, list, word)
    for _, name in ipairs(list or {}) do add_name(out, name, word) end
end

--- Schemas, with the dot that follows.
local function add_schemas(out, names, word)
    for _, name in ipairs(names.schemas or {}) do
        if word.prefix ~= "" or not name:find "^pg_" and name ~= "information_schema" then
            local found <const> = {}
            add_name(found, name, word)
            if found[1] then out[#out + 1] = found[1] .. "." end
        end
    end
end

local function add_functions(out, names, word, schema)
    for _, entry in ipairs(names.functions or {}) do
        if schema and entry.schema == schema or not schema and entry.visible then add_name(out, entry.name, word) end
    end
end

--- The relation that a name in the statement means.
local function resolve(names, named)
    for _, relation in ipairs(names.by_name and names.by_name[named.name] or {}) do
        if named.schema and relation.schema == named.schema or not named.schema and relation.visible then
            return relation
        end
    end
    return nil
end

local function add_columns_of(out, names, word, named)
    local relation <const> = resolve(names, named)
    add_all(out, relation and relation.columns, word)
end

--- After `a.` and `a.b.`: columns of the alias or relation, relations and functions of the schema.
local function add_qualified(out, names, word, relations, expected)
    local q <const> = word.qualifiers
    if #q == 2 then
        add_columns_of(out, names, word, { schema = q[1], name = q[2] })
        return
    end
    local name <const> = q[1]
    for _, named in ipairs(relations) do
        if named.alias == name or not named.alias and named.name == name then
            add_columns_of(out, names, word, named)
        end
    end
    if #out == 0 and not TABLES[expected] then add_columns_of(out, names, word, { name = name }) end
    add_relations(out, names, word, TABLES[expected] or TABLES.relation, name)
    if not TABLES[expected] then add_functions(out, names, word, name) end
end

local ADD <const> = {}

function ADD.start(out, _, word)
    words.add(words.STATEMENTS, word.prefix, out)
end

function ADD.relation(out, names, word, _, with)
    add_relations(out, names, word, TABLES.relation)
    add_schemas(out, names, word)
    add_all(out, with, word)
    if word.prefix ~= "" then words.add({ "lateral", "only", "select", "table" }, word.prefix, out) end
end

function ADD.expression(out, names, word, relations, with)
    for _, named in ipairs(relations) do
        add_columns_of(out, names, word, named)
        if word.prefix ~= "" then add_name(out, named.alias or named.name, word) end
    end
    if word.prefix == "" then return end
    if not word.quoted then words.add(words.SQL, word.prefix, out) end
    add_functions(out, names, word)
    add_schemas(out, names, word)
    add_all(out, with, word)
end

function ADD.other(out, names, word, relations)
    if word.prefix == "" then return end
    if not word.quoted then words.add(words.SQL, word.prefix, out) end
    for _, named in ipairs(relations) do add_columns_of(out, names, word, named) end
end

function ADD.type(out, names, word)
    words.add(words.TYPES, word.prefix, out)
    add_all(out, names.types, word)
end

function ADD.setting(out, names, word)
    words.add({ "local", "session", "role", "transaction", "constraints", "time", "all" }, word.prefix, out)
    add_all(out, names.settings, word)
end

function ADD.schema(out, names, word) add_all(out, names.schemas, word) end

function ADD.extension(out, names, word) add_all(out, names.extensions, word) end

function ADD.database(out, names, word) add_all(out, names.databases, word) end

function ADD.role(out, names, word) add_all(out, names.roles, word) end

ADD["function"] = function(out, names, word)
    add_functions(out, names, word)
    add_schemas(out, names, word)
end

local function add_objects(out, names, word, kind)
    add_relations(out, names, word, TABLES[kind])
    add_schemas(out, names, word)
    if word.prefix ~= "" and not word.quoted then
        words.add({ "if", "exists", "only", "concurrently", "all" }, word.prefix, out)
    end
end

---Adds what fits at the end of `before`.
---@param before string SQL up to the point, with the lines before
---@param after string the rest of the line: it may name relations
---@param context dbrun.prompt.CompleteContext
---@param out string[]
---@return integer start where what is replaced begins in `before`
function M.add(before, after, context, out)
    local point <const> = #before + 1
    local here <const>, count <const> = scope.tokens(before, point)
    local word <const>, rest <const> = typed(here, count, point)
    if not word then return point end
    local sign <const> = here[rest]
    local parameter <const> = sign and sign.text == ":" and sign.behind == word.start
    if parameter and not (here[rest - 1] and here[rest - 1].text == ":") then
        local globals <const> = context.globals or _G
        for name in next, globals do -- a parameter is the Lua variable of that name
            if type(name) == "string" and name:sub(1, #word.prefix) == word.prefix and name:find "^[%a_][%w_]*$"
                and type(rawget(globals, name)) ~= "function" and package.loaded[name] ~= rawget(globals, name) then
                out[#out + 1] = name
            end
        end
        return word.start
    end
    local names <const> = context.names or {}
    -- Relations of the whole statement, without the word that is being typed.
    local all <const> = scope.tokens(before:sub(1, word.start - 1) .. " " .. after:gsub("^[%w_$]*\"?", ""), word.start)
    local relations <const>, with <const> = scope.relations(all)
    local expected <const> = scope.expected(here, rest)
    if #word.qualifiers > 0 then
        add_qualified(out, names, word, relations, expected)
    elseif ADD[expected] then
        ADD[expected](out, names, word, relations, with)
    else
        add_objects(out, names, word, expected)
    end
    return word.start
end

---The names of relations and other objects that a `\` command takes.
---@param text string what is typed of the name
---@param kind string "relation", "table", ...: as dbrun.prompt.complete.scope calls what is expected
---@param names table
---@param out string[]
---@return integer start in `text`
function M.add_argument(text, kind, names, out)
    local tokens <const>, count <const> = scope.tokens(text, #text + 1)
    local word <const> = typed(tokens, count, #text + 1)
    if not word then return #text + 1 end
    if #word.qualifiers > 0 then
        add_relations(out, names, word, kind == "relation" and "rpvmfSiI" or TABLES[kind] or "", word.qualifiers[1])
        if kind == "function" then add_functions(out, names, word, word.qualifiers[1]) end
    elseif kind == "relation" then
        add_relations(out, names, word, word.prefix == "" and "rpvmfS" or "rpvmfSiI")
        add_schemas(out, names, word)
    elseif ADD[kind] then
        ADD[kind](out, names, word, {}, {})
    elseif TABLES[kind] then
        add_relations(out, names, word, TABLES[kind])
        add_schemas(out, names, word)
    end
    return word.start
end

return M
