--- Completion: the candidates at the cursor of a line, `|` in these.
local complete = require "dbrun.prompt.complete"
local pattern = require "dbrun.prompt.pattern"

local function relation(schema, name, kind, visible, columns)
    return { schema = schema, name = name, kind = kind, visible = visible, columns = columns }
end

local NOTES = relation("public", "notes", "r", true, { "id", "Text", "order" })
local HIDDEN = relation("private", "keys", "r", false, { "secret" })
local NAMES = {
    relations = { NOTES, relation("public", "Odd Name", "r", true, { "a" }), HIDDEN,
        relation("public", "notes_view", "v", true, { "id" }), relation("public", "notes_pkey", "i", true) },
    by_name = { notes = { NOTES }, keys = { HIDDEN } },
    functions = { { schema = "pg_catalog", name = "to_char", visible = true } },
    schemas = { "private", "public" }, settings = { "work_mem" }, roles = { "app" },
}

local function at(line, more)
    local point = assert(line:find("|", 1, true)) - 1
    local context = { names = NAMES }
    for key, value in pairs(more or {}) do context[key] = value end
    local start, list = complete.candidates(line:sub(1, point) .. line:sub(point + 2), point, context)
    return table.concat(list, " "), start
end

describe("completion of SQL", function()
    for line, expected in pairs {
        ["sel|"] = "select", ["SEL|"] = "SELECT",
        ["select * from |"] = '"Odd Name" notes notes_view private. public.',
        ["select * from no|"] = "notes notes_view",
        ["select * from private.|"] = "keys",
        ["select k.s| from private.keys k"] = "secret",
        ["select | from notes"] = '"Text" "order" id',
        ['select "T| from notes'] = '"Text"',
        ["select * from notes n where n.i|"] = "id",
        ["update notes set |"] = '"Text" "order" id',
        ["insert into notes (|"] = '"Text" "order" id',
        ["drop table no|"] = "notes",
        ["drop index |"] = "notes_pkey private. public.",
        ["set work|"] = "work_mem",
        ["grant select on no| to app"] = "notes notes_view",
        ["grant select on notes to |"] = "app",
        ["select to_c|"] = "to_char",
        ["explain analyze sel|"] = "select",
        ["with recent as (select 1) select * from rec|"] = "recent",
        ["select 'no|"] = "", ["select 1 -- no|"] = "", ["select 1|"] = "",
        ["copy notes to |"] = "",
    } do
        it(line, function() assert.equal(expected, (at(line, { language = "sql" }))) end)
    end

    it("reads the earlier lines, and counts from the line's start", function()
        local list, start = at("from notes where i|", { before = "select *\n", language = "sql" })
        assert.truthy((" " .. list .. " "):find " id ")
        assert.equal(18, start)
    end)

    it("offers Lua variables as parameters", function()
        assert.equal("days", (at("select :da|", { globals = { days = 3 } })))
    end)
end)

describe("completion of Lua", function()
    it("offers fields, and calls no __index function", function()
        local called = false
        local base = { inherited = print, number = 1 }
        local lazy = setmetatable({ own = 1 }, { __index = function() called = true end, __pairs = error })
        local globals = { t = setmetatable({ a = {} }, { __index = base }), lazy = lazy }
        assert.equal("a inherited number", (at("t.|", { globals = globals })))
        assert.equal("inherited", (at("t:|", { globals = globals })))
        assert.equal("own", (at("print(lazy.|", { globals = globals })))
        assert.equal("", (at("lazy.other.|", { globals = globals })))
        assert.is_false(called)
    end)

    it("handles a loop of __index", function()
        local a = { x = 1 }
        setmetatable(a, { __index = a })
        assert.equal("x", (at("a.|", { globals = { a = a } })))
    end)

    it("knows the prompt's names before they exist", function()
        local names = { db = function() return require "dbrun.db" end, r = "redis client" }
        assert.truthy(at("db.|", { prompt_names = names }):find "async")
        assert.truthy(at("db.async:q|", { prompt_names = names }):find "query")
        assert.equal("", (at("db.async:cod|", { prompt_names = names })))
        assert.equal("", (at("r:__|", { prompt_names = names })))
        assert.equal("mine.codecs", "mine." .. at("mine.cod|", { globals = { mine = { codecs = 1 } } }))
        assert.equal("hget hgetall", (at("r:hge|", { prompt_names = names })))
    end)

    it("knows modules, strings and comments", function()
        assert.equal("dbrun.redis", (at('require "dbrun.red|')))
        assert.equal("notes notes_view", (at('db.async:query("select * from no|')))
        assert.equal("", (at('x = "pri|')))
        assert.equal("", (at("-- pri|")))
    end)
end)

describe("completion of commands", function()
    it("offers their names and arguments", function()
        assert.equal("\\dT \\df", (at("\\d|", { commands = { df = true, dT = true, x = true } })))
        assert.equal("notes notes_pkey notes_view", (at("\\d no|")))
        assert.equal("notes_pkey", (at("\\di no|")))
        assert.equal("get getbit getdel getex getrange getset", (at("\\redis get|")))
        assert.equal("spec/unit/", (at("\\o spec/un|")))
    end)
end)

describe("a pattern", function()
    it("is read as psql does", function()
        for text, expected in pairs { Notes = "^(notes)$", ['"Notes"'] = "^(Notes)$", ["no*"] = "^(no.*)$",
            ['"a.b"'] = "^(a\\.b)$", ['"a""b"'] = '^(a"b)$', ["a$"] = "^(a\\$)$", ["n?"] = "^(n.)$" } do
            assert.equal(expected, pattern.read(text).name)
        end
        local wanted = pattern.read 'public.*'
        assert.is_nil(wanted.name)
        assert.equal("^(public)$", wanted.schema)
        assert.equal("shop", pattern.read("shop.public.notes").database)
        assert.has_error(function() pattern.read '"open' end)
        assert.has_error(function() pattern.read "a.b.c.d" end)
        assert.same({ '"My Table"', "b" }, pattern.split ' "My Table"  b; ')
    end)
end)
