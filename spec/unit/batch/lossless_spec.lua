-- Which types keep each value of another one, when a batch archives rows into a table.
local lossless = require "dbrun.batch.kinds.lossless"

local KEEP <const> = {
    { "integer", "integer" }, { "integer", "bigint" }, { "bigint", "smallint" }, { "bigint", "numeric" },
    { "bigint", "numeric(5,0)" }, { "numeric(10,2)", "numeric" }, { "numeric(10,2)", "numeric(8,3)" },
    { "character varying(20)", "text" }, { "mood", "text" }, { "text", "character varying(3)" },
    { "character varying(20)", "character varying(10)" }, { "timestamp(3) with time zone", "timestamp with time zone" },
    { "timestamp(3) with time zone", "timestamp(6) with time zone" }, { "date", "timestamp without time zone" },
    { "integer", "double precision" }, { "numeric(10,2)[]", "numeric[]" },
}
local LOSE <const> = {
    { "numeric", "numeric(10,2)" }, { "numeric(10,4)", "numeric(12,2)" }, { "numeric", "integer" },
    { "bigint", "double precision" }, { "bigint", "numeric(20,-2)" }, { "double precision", "real" },
    { "timestamp with time zone", "timestamp(3) with time zone" }, { "timestamp with time zone", "date" },
    { "timestamp with time zone", "timestamp without time zone" }, { "json", "jsonb" },
    { "numeric[]", "numeric(10,2)[]" }, { "text", "mood" },
}

describe("the type of an archive's column", function()
    it("keeps each value, or the server refuses the row", function()
        for _, pair in ipairs(KEEP) do assert.is_true(lossless.is(pair[1], pair[2]), table.concat(pair, " -> ")) end
    end)

    it("is refused when the server would round or cut", function()
        for _, pair in ipairs(LOSE) do assert.is_false(lossless.is(pair[1], pair[2]), table.concat(pair, " -> ")) end
    end)
end)
