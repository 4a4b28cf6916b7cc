-- S3: `migrate up` of 300 small files, each in its own transaction with its record, compared with psql, which runs the
-- text of all of them in one transaction. Both begin with an empty database, which is checked afterwards.
local shell <const> = require "bench.lib.shell"

local FILES <const> = 300
local DATABASE <const> = "bench_files"

local UP <const> = [[
create table t%d (id bigint primary key, note text not null, made timestamptz not null default now());
create index t%d_note on t%d (note);
]]

local ALL <const> = "migrate.sql"

--- Writes the files, and the text of all their up sections.
local function write(dir)
    shell.must { "mkdir", "-p", dir .. "/files" }
    local all <const> = {}
    for i = 1, FILES do
        all[i] = UP:format(i, i, i)
        shell.write(("%s/files/%014d_table.sql"):format(dir, 20250101000000 + i),
            "-- migrate:up\n" .. all[i] .. "\n-- migrate:down\ndrop table t" .. i .. ";\n")
    end
    shell.write(dir .. "/" .. ALL, table.concat(all))
end

local function psql(ctx, database, ...)
    local bin <const>, dir <const> = ctx.servers.bin, ctx.servers.dir
    return { bin .. "/psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", dir, "-U", "postgres", database, ... }
end

local COUNT <const> = "select count(*) from pg_class where relname ~ '^t[0-9]+(_pkey|_note)?$'"

--- Runs a process on an empty database, and checks that all tables and indexes exist afterwards.
local function filling(name, kind, argv, recorded)
    return {
        name = name, kind = kind,
        run = function(ctx)
            for _, sql in ipairs { "drop database if exists %s", "create database %s", "checkpoint" } do
                shell.must(psql(ctx, "postgres", "-c", sql:format(DATABASE)))
            end
            local _, runs <const> = ctx:measure(argv(ctx), { quiet = true, limit = 120 })
            local made <const> = shell.must(psql(ctx, DATABASE, "-c", COUNT))
            if tonumber(made) ~= 3 * FILES then error(("%s made %s tables and indexes"):format(name, made), 0) end
            local rows <const> = recorded and shell.must(psql(ctx, DATABASE, "-c", recorded)) or FILES
            if tonumber(rows) ~= FILES then error(("%s recorded %s files"):format(name, rows), 0) end
            local r <const> = runs[1]
            return { time = r.wall, cpu = r.cpu, memory = r.rss_kib * 1024 }
        end,
    }
end

local RECORDED <const> = "select count(*) from schema_migrations join schema_migrations_dbrun d using (version) "
    .. "where d.direction is null and d.applied_at is not null"

return {
    id = "S3", order = 23, title = "migrate up of 300 small files", metric = "time", round = 6,
    prepare = function(ctx) write(ctx.tmp) end,
    ours = {
        filling("dbrun", "ours", function(ctx)
            local url <const> = ctx.servers.database_url:gsub("/bench%?", "/" .. DATABASE .. "?")
            return { "env", "DATABASE_URL=" .. url, ctx.dbrun, "--no-env", ctx.home .. "/../../scripts/migrate.lua",
                "up", "--dir", ctx.tmp .. "/files" }
        end, RECORDED),
    },
    others = {
        filling("psql -1 -f", "peer", function(ctx) return psql(ctx, DATABASE, "-1", "-f", ctx.tmp .. "/" .. ALL) end),
    },
    targets = {
        { metric = "time", against = "psql -1 -f", at_most = 1.5 },
    },
}
