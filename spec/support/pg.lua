--- Code that the specs of PostgreSQL share: engines on a separate database, and small helpers.
---
---     local pg = require "spec.support.pg"
---     pg.on_both(describe, function(mode, open)            -- once for "async", once for "sync"
---         it("...", function() local engine <close> = open { size = 2 } ... end)
---     end)

local db = require "dbrun.db"
local fs = require "dbrun.fs"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local M = {}

local database

--- pg_terminate_backend with a timeout, which PostgreSQL has since version 14.
local TERMINATE <const> = [[
create function pg_terminate_backend(wanted int, milliseconds bigint) returns bool language plpgsql as $$
declare ended timestamptz := clock_timestamp() + milliseconds * interval '1 ms';
begin
    if not pg_terminate_backend(wanted) then return false; end if;
    while exists (select from pg_stat_activity where pid = wanted) loop
        if clock_timestamp() > ended then return false; end if;
        perform pg_sleep(0.002), pg_stat_clear_snapshot();
    end loop;
    return true;
end $$]]

--- The database that the specs of one file share.
---@return string url
function M.url()
    if not database then
        local name
        database, name = servers.database()
        if servers.version() < 14 then servers.shared_postgres():psql(TERMINATE, name) end
    end
    return database
end

--- A small engine that is closed with its block. It has deadlines, so that a failure does not hang.
---@param opts? table as db.engine takes them
---@return table engine
function M.engine(opts)
    local all = { timeout = 20, connect_timeout = 20, command_timeout = 60 }
    for key, value in pairs(opts or {}) do
        all[key] = value
    end
    all.url = all.url or M.url()
    if all.mode ~= "sync" then
        all.size = all.size or 4
        all.overflow = all.overflow or 0
    end
    return db.engine(all)
end

--- Runs the block once for each engine. `open(opts)` is M.engine for it.
---@param describe fun(name: string, block: fun()) busted's, which only spec files see
---@param block fun(mode: "async"|"sync", open: fun(opts: table?): table)
function M.on_both(describe, block)
    for _, mode in ipairs { "async", "sync" } do
        describe("[" .. mode .. "]", function()
            block(mode, function(opts)
                local all = { mode = mode }
                for key, value in pairs(opts or {}) do
                    all[key] = value
                end
                return M.engine(all)
            end)
        end)
    end
end

--- The error that fn(...) raises; fails when it raises none.
---@return any
function M.raised(fn, ...)
    local result = table.pack(pcall(fn, ...))
    if result[1] then
        error(("expected an error, got %s"):format(tostring(result[2])), 2)
    end
    return result[2]
end

--- Waits until `ready` returns a true value; fails after `seconds`. Polls every 5 ms at first, later less often.
---@param seconds number
---@param ready fun(): any
function M.eventually(seconds, ready, what)
    local began = task.now()
    while true do
        local result = ready()
        if result then
            return result
        end
        local waited = task.now() - began
        if waited > seconds then
            error((what or "it") .. " did not happen within " .. seconds .. " s", 2)
        end
        task.sleep(math.max(0.005, math.min(0.05, waited / 10)))
    end
end

--- Waits until no connection of the pool is in use.
function M.settled(engine, seconds)
    M.eventually(seconds or 10, function()
        local st = engine:stats()
        return st.leased == 0 and st.resetting == 0 and st.opening == 0 and st.waiting == 0 and st.open == st.idle
    end, "the pool's return to rest")
    return engine:stats()
end

--- Seconds that fn(...) takes, and what it returns.
function M.timed(fn, ...)
    local start = task.now()
    local result = table.pack(fn(...))
    return task.now() - start, table.unpack(result, 1, result.n)
end

--- How many descriptors this program has open.
---@return integer
function M.descriptors()
    return #fs.list("/proc/self/fd")
end

--- A new table that is dropped with its block.
local tables = 0
function M.table(engine, columns)
    tables = tables + 1
    local name = ("spec_t%d"):format(tables)
    engine:exec(("create table %s (%s)"):format(name, columns))
    return name
end

return M
