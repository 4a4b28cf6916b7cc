--- The order of tables in a dump of a database with TimescaleDB. pg_dump sorts by name, but puts objects before those
--- that depend on them: chunks, which the dump leaves out, move their hypertables before other tables, so that two
--- dumps of one schema differ with the data. Here tables, views and sequences, and the entries between them, are sorted
--- by name again, each after the objects that its text names. If that is not certain, the order stays.
local split = require "dbrun.migrate.read.split"

local scan <const> = require "dbrun.core".sql.scan

local M = {}

---@class dbrun.migrate.DumpEntry
---@field from integer byte where its header begins
---@field name string
---@field type string
---@field schema string
---@field statements dbrun.migrate.Statement[]
---@field text string
---@field makes? string the quoted name of what it makes
---@field needs table<integer, true> numbers of the entries before it

---Entries that can be moved, because their text names all that they depend on.
local KNOWN <const> = {
    TABLE = true, VIEW = true, SEQUENCE = true, ["SEQUENCE OWNED BY"] = true, DEFAULT = true, FUNCTION = true,
    ["MATERIALIZED VIEW"] = true, ["TABLE ATTACH"] = true, COMMENT = true,
}

---The entries of a dump. Their headers are comments between statements.
local function entries_of(text)
    local list, from = {}, 1
    local function headers(to)
        local gap <const>, at = text:sub(from, to), 1
        while true do
            local first <const>, last <const>, line = gap:find("%-%-\n%-%- Name: ([^\n]*)\n%-%-\n", at)
            if not first then break end
            local name, kind, schema = line:match "^(.*); Type: ([%u ]+); Schema: (.*); Owner: "
            list[#list + 1] = {
                from = from + first - 1, name = name or line, type = kind or "?", schema = schema or "",
                statements = {}, needs = {},
            }
            at = last + 1
        end
    end
    for _, statement in ipairs((split.split(text))) do
        headers(statement.first - 1)
        if #list > 0 then table.insert(list[#list].statements, statement) end
        from = statement.first + #statement.sql
    end
    headers(#text)
    for i, entry in ipairs(list) do entry.text = text:sub(entry.from, list[i + 1] and list[i + 1].from - 1 or #text) end
    return list
end

---Calls fn(name) for each qualified name in a statement, as it is quoted there, and for each string.
local function each_name(sql, fn)
    local before, dot
    for behind, kind, at in scan, sql, 1 do
        local piece <const> = sql:sub(at, behind - 1)
        if kind == "word" or kind == "quoted" then
            if dot then fn(before .. "." .. piece) end
            before, dot = piece, false
        elseif piece == "." and before then
            dot = true
        else
            if kind == "string" then fn((piece:sub(2, -2):gsub("''", "'"))) end
            before, dot = nil, false
        end
    end
end

local MAKING <const> = { TABLE = true, VIEW = true, SEQUENCE = true, FUNCTION = true, ["MATERIALIZED VIEW"] = true }
local RELATION <const> = { TABLE = true, VIEW = true, SEQUENCE = true, ["MATERIALIZED VIEW"] = true }

---Takes the settings for new tables, which precede the first table, out of the entry before it.
---@return string? settings nil: there is another one
local function without_settings(entry, settings)
    for i = #entry.statements, 1, -1 do
        local statement <const> = entry.statements[i]
        local name <const> = statement.sql:match "^SET ([%w_]+) = "
        if name then
            if name ~= "default_tablespace" and name ~= "default_table_access_method"
                or settings:find(name .. " ", 1, true) then return nil end
            local from <const> = statement.first - entry.from + 1
            local behind <const> = select(2, entry.text:find("^;\n*", from + #statement.sql)) + 1
            settings = entry.text:sub(from, behind - 1) .. settings
            entry.text = entry.text:sub(1, from - 1) .. entry.text:sub(behind)
            table.remove(entry.statements, i)
        end
    end
    return settings
end

---The entries from the first relation to the last one, each with its comments; nil: the order must stay.
---@return dbrun.migrate.DumpEntry[]? parts
---@return integer from
---@return integer? behind
---@return string settings that go before them
local function region(list)
    local first, last
    for i, entry in ipairs(list) do
        if RELATION[entry.type] then first, last = first or i, i end
    end
    if not first then return nil, 0, nil, "" end
    while list[last + 1] and list[last + 1].type == "COMMENT" do last = last + 1 end
    local parts, settings = {}, ""
    for i = first, last do
        local entry <const> = list[i]
        settings = KNOWN[entry.type] and without_settings(entry, settings)
        if not settings then return nil, 0, nil, "" end
        if entry.type == "COMMENT" then
            parts[#parts].text = parts[#parts].text .. entry.text
        else
            parts[#parts + 1] = entry
        end
    end
    return parts, list[first].from, list[last + 1] and list[last + 1].from, settings
end

local function find_needs(parts)
    local made = {}
    for i, entry in ipairs(parts) do
        if MAKING[entry.type] and entry.statements[1] and entry.statements[1].sql:find "^CREATE " then
            each_name(entry.statements[1].sql, function(name) entry.makes = entry.makes or name end)
            if entry.makes then made[entry.makes] = made[entry.makes] or i end
        end
    end
    for i, entry in ipairs(parts) do
        for _, statement in ipairs(entry.statements) do
            each_name(statement.sql, function(name)
                if made[name] and made[name] ~= i then entry.needs[made[name]] = true end
            end)
        end
    end
end

local function less(a, b)
    if a.schema ~= b.schema then return a.schema < b.schema end
    if a.name ~= b.name then return a.name < b.name end
    return a.type < b.type
end

---The entries by name, each after those that it needs; nil: two need each other.
local function sorted(parts)
    local state, out, by_name = {}, {}, table.move(parts, 1, #parts, 1, {})
    table.sort(by_name, less)
    local function visit(entry)
        if state[entry] then return state[entry] == "done" end
        state[entry] = "open"
        local needs = {}
        for i in pairs(entry.needs) do needs[#needs + 1] = parts[i] end
        table.sort(needs, less)
        for _, other in ipairs(needs) do
            if not visit(other) then return false end
        end
        state[entry], out[#out + 1] = "done", entry.text
        return true
    end
    for _, entry in ipairs(by_name) do
        if not visit(entry) then return nil end
    end
    return out
end

---Entries that must come last: a publication of all tables forbids making hypertables later, and an event trigger would
---fire for each of the statements that make them.
local LAST <const> = {
    PUBLICATION = true, ["PUBLICATION TABLE"] = true, ["PUBLICATION TABLES IN SCHEMA"] = true, SUBSCRIPTION = true,
    ["EVENT TRIGGER"] = true,
}

---Takes the entries that must come last out of a text.
---@param text string what pg_dump writes of the section post-data
---@return string text
---@return string last
function M.take_last(text)
    local list <const> = entries_of(text)
    local kept, last, of_last = { text:sub(1, list[1] and list[1].from - 1 or #text) }, {}, false
    for _, entry in ipairs(list) do
        of_last = LAST[entry.type] or of_last and entry.type == "COMMENT"
        local into <const> = of_last and last or kept
        into[#into + 1] = entry.text
    end
    return table.concat(kept), table.concat(last)
end

---@param text string what pg_dump writes of the section pre-data
---@return string
function M.by_name(text)
    local parts <const>, from <const>, behind <const>, settings <const> = region(entries_of(text))
    if not parts then return text end
    find_needs(parts)
    local list <const> = sorted(parts)
    if not list then return text end
    return text:sub(1, from - 1) .. settings .. table.concat(list) .. (behind and text:sub(behind) or "")
end

return M
