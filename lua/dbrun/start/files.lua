--- The files of a new project. Those with `sample` are an example of each kind: one table, its seed, its expectation, a
--- script and its test.

local MIGRATION <const> = [[
-- migrate:up
create table notes (
    id bigint generated always as identity primary key,
    text text not null unique,
    created_at timestamptz not null default now()
);

-- migrate:down
drop table notes;
]]

local TIDY <const> = [[
#!/usr/bin/env dbrun
-- Deletes old notes.  dbrun tidy --days 90
local cli, db = require "dbrun.cli", require "dbrun.db"

return cli.run {
    about = "Deletes old notes.",
    only_one = true,
    options = { { "days", "integer", default = 90, min = 1, help = "older than this" } },
    run = function(args)
        local r = db.async:query("delete from notes where created_at < now() - make_interval(days => :days)", args)
        print(("%d notes deleted"):format(r.affected))
    end,
}
]]

---@class dbrun.start.File
---@field [1] string path; <now> stands for the time
---@field [2] string text
---@field sample? boolean
---@field lines? boolean its lines are added to a file that is there
---@field mode? integer

---@type dbrun.start.File[]
return {
    { ".env.example", [[
# Copy to .env (never committed), or leave it and use --stack. Literal: no $VAR, no $(command).
DATABASE_URL=postgresql://app:secret@localhost:5432/app
REDIS_URL=redis://127.0.0.1:6379/0
# DBRUN_PROTECTED=*prod*
]] },
    { ".gitignore", "/.env\n/.dbrun/\n", lines = true },
    { ".luarc.json", [[
{
    "runtime.version": "Lua 5.4",
    "workspace.library": [".dbrun/stubs"],
    "diagnostics.globals": ["describe", "it", "before_each", "after_each"]
}
]] },
    { "scripts/migrations/<now>_create_notes.sql", MIGRATION, sample = true },
    { "scripts/seeds/010_notes.lua", [[
return {
    description = "two notes",
    run = function(ctx)
        return ctx.upsert("notes", { "text" }, { { text = "buy milk" }, { text = "call Ada" } })
    end,
}
]], sample = true },
    { "scripts/expect.lua", [[
-- What `dbrun verify` expects, one fact a line: dbrun help expect
return {
    {
        table = "notes",
        columns = { "id bigint not null", "text text not null" },
        indexes = { "unique (text)" },
    },
}
]], sample = true },
    { "scripts/tidy.lua", TIDY, sample = true, mode = tonumber("755", 8) },
    { "spec/tidy_spec.lua", [[
local testing = require "dbrun.testing"

describe("tidy", function()
    local t = testing.project()

    it("keeps what is young", function()
        assert.equal("0 notes deleted\n", t.run("tidy", "--days", "1").stdout)
    end)
end)
]], sample = true },
}
