-- dbrun's own SQL names everything of pg_catalog in full.
local catalog = require "dbrun.db.catalog"

describe("names and operators in braces", function()
    for text, expected in pairs {
        ["select 1"] = "select 1",
        [""] = "",
        ["{now}()"] = "pg_catalog.now()",
        ["$1::{text} {||} '.'"] = "$1::pg_catalog.text operator(pg_catalog.||) '.'",
        ["{_pg_expandarray} {=} {<>}"] = "pg_catalog._pg_expandarray operator(pg_catalog.=) operator(pg_catalog.<>)",
        ["{a}{b}"] = "pg_catalog.apg_catalog.b",
        ["'{}' '{ a }' '{a b}' {c}"] = "'{}' '{ a }' '{a b}' pg_catalog.c",
        ["{{a} {"] = "{pg_catalog.a {",
        ["'{a}' {b} '{c}''{d}' 'it''s {e}"] = "'{a}' pg_catalog.b '{c}''{d}' 'it''s {e}",
        [ [["{a}".{b} "c'""{d}" {e} "{f}]] ] = [["{a}".pg_catalog.b "c'""{d}" pg_catalog.e "{f}]],
        ["{a\nb} {a\tb} {open"] = "{a\nb} {a\tb} {open",
        ["\0{a}\0"] = "\0pg_catalog.a\0",
    } do
        it(("of %q are those of pg_catalog"):format(text), function() assert.equal(expected, catalog.sql(text)) end)
    end

    it("of a text of any length", function()
        local n = 100000
        assert.equal(("pg_catalog.a operator(pg_catalog.=) "):rep(n), catalog.sql(("{a} {=} "):rep(n)))
    end)
end)
