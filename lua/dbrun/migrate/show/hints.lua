--- Hints for an error of a migration's statement that depend on its context: the transaction that it was in, and the
--- earlier settings of the file.
local core = require "dbrun.core"
local split = require "dbrun.migrate.read.split"

local M = {}

---@class dbrun.migrate.Place where the failed statement stands
---@field statement dbrun.migrate.Statement
---@field whole boolean it was in the transaction of the section, or of one of its parts
---@field begin? integer line of the BEGIN of the file's own block that it was in
---@field line integer of the directive of its section
---@field direction "up"|"down" of that
---@field before dbrun.migrate.Statement[] the earlier statements, and itself
---@field timeout? number --statement-timeout

---@param work dbrun.migrate.Work
---@param run dbrun.migrate.Run
---@return dbrun.migrate.Place
local function place_of(work, run)
    local current <const> = work.current
    local place <const> = {
        statement = current, whole = work.section.transaction, line = work.section.line, before = {},
        direction = work.direction, timeout = run.opts.statement_timeout or core.options.statement_timeout,
    }
    for _, statement in ipairs(work.statements) do
        place.before[#place.before + 1] = statement
        if statement == current then break end
    end
    for _, step in ipairs(work.steps or {}) do
        for _, statement in ipairs(step.statements) do
            if statement == current then
                place.whole = step.kind == "part"
                place.begin = step.kind == "block" and step.statements[1].line or nil
            end
        end
    end
    for _, part in ipairs(work.section.parts or {}) do
        if part.line <= current.line and (part.line > place.line or place.line > current.line) then
            place.line = part.line
        end
    end
    return place
end

---The line of the last statement, up to the failed one, that has one of the words.
local function says(place, ...)
    for i = #place.before, 1, -1 do
        local text <const> = place.before[i].sql:lower()
        for _, word in ipairs { ... } do
            if text:find(word) then return place.before[i].line end
        end
    end
end

local function outside_transaction(place)
    return ("put 'transaction:false' after '-- migrate:%s' in line %d"):format(place.direction, place.line)
end

local function outside_block(place)
    return ("put it outside of 'begin' and 'commit' (the block begins in line %d)"):format(place.begin)
end

---@type table<string, fun(place: dbrun.migrate.Place, e: dbrun.Error): string?> by SQLSTATE
local HINTS <const> = {}

HINTS["2D000"] = function(place)
    if place.begin then
        return outside_block(place) .. ": the code that it runs ends transactions"
    elseif place.whole then
        return outside_transaction(place) .. ": the code that it runs ends transactions"
    end
    return "a procedure cannot commit when it has a SET clause or SECURITY DEFINER, when a function has called it, or "
        .. "within BEGIN ... EXCEPTION"
end

HINTS["25001"] = function(place, e)
    if split.first_words(place.statement.sql, 1) == "set" then
        return "put it before all other statements of its transaction"
    elseif e.context then
        return "it cannot run in a function, a procedure or a DO: make it a statement of a file with transaction:false"
    elseif place.begin then
        return outside_block(place) .. ": this statement cannot run in a transaction"
    elseif place.whole then
        return outside_transaction(place) .. ": this statement cannot run in a transaction"
    end
end

HINTS["25006"] = function(place)
    local line <const> = says(place, "read%s+only", "transaction_read_only")
    return line and ("line %d has made it read-only: say READ WRITE there, or leave it out"):format(line)
end

HINTS["55P04"] = function(place, e)
    return e.hint and (place.whole or place.begin) and ("%s Put ALTER TYPE ... ADD VALUE into a migration of its own "
        .. "before this one."):format(e.hint)
end

HINTS["57014"] = function(place, e)
    if e.message:find("user request", 1, true) then
        return "it was cancelled on the server (pg_cancel_backend); the server's log may say by whom"
    elseif e.message:find("statement timeout", 1, true) then
        local line <const> = says(place, "statement_timeout")
        return line and ("statement_timeout is set in line %d"):format(line)
            or place.timeout and "it ran longer than --statement-timeout"
            or "statement_timeout of the role, the database or the server ended it: --statement-timeout sets another, "
            .. "and the file may begin with SET statement_timeout = 0"
    end
end

---An error of PgBouncer's own.
HINTS["08P01"] = function(_, e)
    return e.message == "query timeout" and "the pooler ends statements that take longer than its query_timeout: set "
        .. "MIGRATION_DATABASE_URL to the server itself" or nil
end

---Adds the hint for its place to an error of a statement.
---@param e dbrun.Error
---@param work dbrun.migrate.Work
---@param run dbrun.migrate.Run
function M.add(e, work, run)
    local hint <const> = e.sqlstate and HINTS[e.sqlstate]
    e.hint = hint and hint(place_of(work, run), e) or e.hint
end

return M
