--- The output of `status` and `plan` as JSON for programs. Keys are only added, never renamed.
local cli = require "dbrun.command_line"
local json = require "dbrun.json"
local locks = require "dbrun.migrate.show.locks"

local M = {}

---A text from a file: if it is not UTF-8, which JSON requires, its bytes above 127 become `\xe9`.
local function text(bytes)
    if utf8.len(bytes) then return bytes end
    return (bytes:gsub("[\x80-\xff]", function(c) return ("\\x%02x"):format(c:byte()) end))
end

local function encode(value) return cli.json(value, { indent = 2, sort_keys = true }) end

---@param state dbrun.migrate.State
---@return string
function M.status(state)
    local files = {}
    for i, entry in ipairs(state.files) do
        local file = entry.file
        files[i] = { version = file.version, name = text(file.name), path = text(file.path), kind = file.kind,
            applied = entry.applied and true or false,
            half_done = entry.half and { direction = entry.half.direction, statements = entry.half.done } or nil }
    end
    return encode { applied = state.applied, pending = state.pending, files = json.array(files),
        missing = json.array(state.missing) }
end

local function statement_of(statement)
    local found
    if statement.locks then
        found = json.array {}
        for i, lock in ipairs(statement.locks) do
            found[i] = { table = text(lock.table), mode = lock.mode, blocks = locks.BLOCKS[lock.mode] }
        end
    end
    return { sql = text(statement.sql), line = statement.line, outside = statement.outside, done = statement.done,
        locks = found or json.null }
end

---@param plan dbrun.migrate.Planned[]
---@param direction "up"|"down"
---@return string
function M.plan(plan, direction)
    local list = {}
    for i, planned in ipairs(plan) do
        local statements = json.array {}
        for j, statement in ipairs(planned.statements) do statements[j] = statement_of(statement) end
        list[i] = { version = planned.file.version, name = text(planned.file.name), path = text(planned.file.path),
            kind = planned.file.kind, direction = planned.direction, transaction = planned.transaction,
            statements = statements }
    end
    return encode { direction = direction, migrations = json.array(list) }
end

return M
