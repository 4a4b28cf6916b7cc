--- The databases that belong to one spec file on shared servers: a PostgreSQL database, and a Redis database whose
--- number is in the comment of the first. A claim is an advisory lock of a session that lives as long as the spec's
--- process. A database without a lock was left by a killed process; the next one removes it.
local template = require "dbrun.testing.template"

local M = {}

local DATABASES <const>, NUMBERS <const> = 0x64627465, 0x64627264 -- "dbte", "dbrd": classes of advisory locks
local LONGEST <const> = 1 << 30
local NOTE <const> = "made by a spec, with Redis database "

local function try(conn, class, key)
    return conn:value("select pg_catalog.pg_try_advisory_lock($1::int4, $2::int4)", class, key)
end

local function release(conn, class, key)
    conn:query("select pg_catalog.pg_advisory_unlock($1::int4, $2::int4)", class, key)
end

local function name_of(key) return ("%s%d"):format(template.PREFIX, key) end

local function drop(conn, name) conn:exec(("drop database if exists %s with (force)"):format(name)) end

---@param open fun(number: integer): dbrun.Redis
---@param number integer
function M.flush(open, number)
    local client <close> = open(number)
    client:call("FLUSHDB")
end

--- Removes what killed processes have left.
---@param conn dbrun.Connection
---@param open fun(number: integer): dbrun.Redis a client on that database
function M.remove_left(conn, open)
    local rows <const> = conn:query([[select datname,
            coalesce(pg_catalog.shobj_description(oid, 'pg_database'), '') as note
        from pg_catalog.pg_database where datname ~ $1]], "^" .. template.PREFIX .. "[0-9]+$")
    for _, row in ipairs(rows) do
        local key <const> = math.tointeger(tonumber(row.datname:sub(#template.PREFIX + 1)))
        if key and key < LONGEST and try(conn, DATABASES, key) then
            local number <const> = math.tointeger(tonumber(row.note:match("^" .. NOTE .. "(%d+)$")))
            if number and try(conn, NUMBERS, number) then
                M.flush(open, number)
                release(conn, NUMBERS, number)
            end
            drop(conn, row.datname)
            release(conn, DATABASES, key)
        end
    end
end

--- Claims the name of a database that does not exist.
---@param conn dbrun.Connection
---@return string name
---@return integer key
function M.database(conn)
    local key
    repeat key = math.random(1, LONGEST - 1) until try(conn, DATABASES, key)
    return name_of(key), key
end

--- Records which Redis database belongs to a database.
---@param conn dbrun.Connection
---@param name string
---@param number integer
function M.note(conn, name, number) conn:exec(("comment on database %s is '%s%d'"):format(name, NOTE, number)) end

--- Claims an empty database of the Redis. Number 0 is never used, because people use it.
---@param conn dbrun.Connection
---@param open fun(number: integer): dbrun.Redis
---@param count integer how many databases the Redis has
---@return integer? number nil when each is in use, or holds keys
function M.redis_number(conn, open, count)
    for number = 1, count - 1 do
        if try(conn, NUMBERS, number) then
            local client <close> = open(number)
            if client:call("DBSIZE") == 0 then return number end
            release(conn, NUMBERS, number)
        end
    end
    return nil
end

--- Drops the database, empties the Redis database, and releases both.
---@param conn dbrun.Connection
---@param key? integer nil: no database was claimed
---@param open fun(number: integer): dbrun.Redis
---@param number integer
function M.give_back(conn, key, open, number)
    M.flush(open, number)
    release(conn, NUMBERS, number)
    if not key then return end
    drop(conn, name_of(key))
    release(conn, DATABASES, key)
end

return M
