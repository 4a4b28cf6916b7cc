--- Repeatable migrations of Flyway as hooks: a Lua file that runs its SQL when it has changed.
local M = {}

local TABLE <const> = "create table if not exists schema_repeatable (name text primary key, checksum text not null)"
local SUM <const> = "pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to($2, 'UTF8')), 'hex')"
local RECORD <const> = "insert into schema_repeatable values ($1, " .. SUM
    .. ") on conflict (name) do update set checksum = excluded.checksum"

local HOOK <const> = [[
-- A repeatable migration: its SQL runs behind the others, when it is not the same as the last time.
local NAME <const> = %q
local SQL <const> = %s

return function(ctx)
    if not ctx.db:value "select pg_catalog.to_regclass('schema_repeatable') is not null" then
        ctx.db:exec "%s"
    end
    local same = ctx.db:value("select checksum = %s from schema_repeatable where name = $1", NAME, SQL)
    if same then return end
    ctx.db:exec(SQL)
    ctx.db:query("%s", NAME, SQL)
end
]]

---A text in long brackets of a level that does not occur in it.
local function bracketed(text)
    local level = 0
    while text:find("]" .. ("="):rep(level) .. "]", 1, true) or text:sub(-level - 1) == "]" .. ("="):rep(level) do
        level = level + 1
    end
    local equals = ("="):rep(level)
    return "[" .. equals .. "[\n" .. text .. "]" .. equals .. "]"
end

---@param name string
---@param sql string
---@return string text of the hook
function M.hook(name, sql)
    return HOOK:format(name, bracketed((sql:gsub("\r\n?", "\n"))), TABLE, SUM, RECORD)
end

---Records in a database that this SQL ran.
---@param tx table
---@param name string
---@param sql string
function M.record(tx, name, sql)
    tx:exec(TABLE)
    tx:query(RECORD, name, (sql:gsub("\r\n?", "\n")))
end

local crcs = {}
for i = 0, 255 do
    local crc = i
    for _ = 1, 8 do crc = crc & 1 == 1 and crc >> 1 ~ 0xEDB88320 or crc >> 1 end
    crcs[i] = crc
end

---Flyway's checksum of a file: the CRC-32 of its lines without line ends, as a signed 32-bit number.
---@param text string
---@return integer
function M.crc32(text)
    local crc = 0xFFFFFFFF
    for i = text:sub(1, 3) == "\xEF\xBB\xBF" and 4 or 1, #text do
        local byte = text:byte(i)
        if byte ~= 10 and byte ~= 13 then crc = crcs[(crc ~ byte) & 0xFF] ~ crc >> 8 end
    end
    crc = crc ~ 0xFFFFFFFF
    return crc >= 1 << 31 and crc - (1 << 32) or crc
end

return M
