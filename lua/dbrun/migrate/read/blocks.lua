--- The transaction blocks of a section: its steps, and statements that cannot run, which are refused before anything is
--- written, and found by lint.
local control = require "dbrun.migrate.read.control"
local core = require "dbrun.core"
local script = require "dbrun.migrate.read.script"
local strings = require "dbrun.migrate.read.strings"

local M = {}

---@class dbrun.migrate.Step the statements between two moments without an open transaction
---@field statements dbrun.migrate.Statement[]
---@field kind "single"|"block"|"void"|"part" a statement; a BEGIN and all up to its end; a statement without effect
---    outside a block; a transactional part of a section whose other parts have transaction:false
---@field ends? "commit"|"rollback" of a block
---@field checksum string of everything up to and including it

---@class dbrun.migrate.Refusal
---@field line integer
---@field message string
---@field hint string

local function refusal(line, message, hint, ...)
    return { line = line, message = message:format(...), hint = hint }
end

local function word_of(statement)
    return statement.sql:match "^%a+"
end

---Statements that are refused everywhere.
local function never(statement, what, chain)
    if what == "prepare" then
        return refusal(statement.line, "PREPARE TRANSACTION leaves open whether what it holds is committed later",
            "commit it in this file")
    end
    if chain then
        return refusal(statement.line, "'%s ... and chain' ends a transaction and begins the next",
            "write 'commit; begin;' (or rollback), with the options of the new transaction", word_of(statement))
    end
end

local OUTSIDE_BLOCK <const> = { savepoint = "SAVEPOINT", release = "RELEASE", ["rollback to"] = "ROLLBACK TO" }

---Statements that the server refuses outside a block.
local function without_block(statement, what)
    local name <const> = OUTSIDE_BLOCK[what] or not what and control.needs_block(statement)
    return name and refusal(statement.line, "%s works only inside a transaction block",
        "put 'begin;' before it and 'commit;' after the statements that belong together", name)
end

---The checksum of a statement, its rows, and all before it.
local function checksum_behind(sum, statement)
    return core.digest("sha256", sum .. statement.sql .. (statement.data and statement.data.text or ""))
end

---The steps of statements with transaction:false.
---@param statements dbrun.migrate.Statement[]
---@param steps? dbrun.migrate.Step[] the earlier steps, to which these are appended
---@return dbrun.migrate.Step[] steps
---@return dbrun.migrate.Refusal? first what cannot be run
function M.steps(statements, steps)
    steps = steps or {}
    local open, sum, refused = nil, steps[1] and steps[#steps].checksum or "", nil
    for _, statement in ipairs(statements) do
        local what <const>, chain <const> = control.of(statement)
        sum = checksum_behind(sum, statement)
        refused = refused or never(statement, what, chain)
        if open then
            open.statements[#open.statements + 1], open.checksum = statement, sum
            if what == "commit" or what == "rollback" then
                open.ends, open = what, nil
            end
        else
            refused = refused or without_block(statement, what)
            local void <const> = what == "commit" or what == "rollback"
                or not what and control.is_void_outside(statement)
            local kind <const> = what == "begin" and "block" or void and "void" or "single"
            steps[#steps + 1] = { statements = { statement }, kind = kind, checksum = sum }
            open = kind == "block" and steps[#steps] or nil
        end
    end
    if open then
        local first <const> = open.statements[1]
        refused = refused or refusal(first.line, "the transaction that '%s' begins is never committed: all in it would "
            .. "be lost", "end it with 'commit;'", word_of(first))
    end
    return steps, refused
end

---Whether it is one of the statements with which pg_dump writes a large object.
local function writes_large_object(statement)
    return statement.sql:find "^SELECT pg_catalog%.lo_%l+%(" ~= nil
        or statement.sql:find "^SELECT pg_catalog%.lowrite%(" ~= nil
end

---Removes the BEGIN and COMMIT that pg_dump writes around large objects, because the file already runs in a
---transaction. (Descriptors of large objects need one.)
local function unwrap_large_objects(statements)
    local commit
    for i = #statements, 1, -1 do -- from the end, so that removals do not move unchecked statements
        local what <const> = control.of(statements[i])
        if what == "commit" then commit = i
        elseif commit and what == "begin" and commit > i + 1 then
            table.remove(statements, commit)
            table.remove(statements, i)
            commit = nil
        elseif commit and not writes_large_object(statements[i]) then commit = nil end
    end
end

---The first statement that cannot be run in the transaction that all of them share. The BEGIN and COMMIT of pg_dump
---around large objects are removed from the list.
---@param statements dbrun.migrate.Statement[]
---@param owner string whose transaction it is, for the message: "migration", "hook"
---@param hint string
---@return dbrun.migrate.Refusal?
function M.in_transaction(statements, owner, hint)
    unwrap_large_objects(statements)
    for _, statement in ipairs(statements) do
        local what <const>, chain <const> = control.of(statement)
        local refused <const> = never(statement, what, chain)
        if refused then
            if owner ~= "migration" then refused.hint = hint end -- only a migration can be without a transaction
            return refused
        end
        if what == "begin" or what == "commit" or what == "rollback" then
            return refusal(statement.line, what == "begin" and "'%s' begins a transaction inside the %s's own"
                or "'%s' would end the %s's transaction", hint, word_of(statement), owner)
        end
    end
end

---@class dbrun.migrate.Blocks
---@field statements dbrun.migrate.Statement[]
---@field sql string the text of these statements
---@field steps? dbrun.migrate.Step[] of a section with transaction:false
---@field refused? dbrun.migrate.Refusal

local function hint_for(direction)
    return ("remove it, or put 'transaction:false' after '-- migrate:%s'"):format(direction)
end

---Whether standard_conforming_strings is off after these statements.
local function escapes_behind(part, statements, escapes)
    if not strings.may_switch(part.sql) then return escapes end
    local mode <const> = strings.track(escapes)
    if part.transaction then mode:statement "begin" end
    for _, statement in ipairs(statements) do mode:statement(statement.sql) end
    if part.transaction then mode:statement "commit" end
    return mode.escapes
end

---A transactional part beside others: one step.
local function part_step(statements, steps)
    if #statements == 0 then return end
    local sum = steps[1] and steps[#steps].checksum or ""
    for _, statement in ipairs(statements) do sum = checksum_behind(sum, statement) end
    steps[#steps + 1] = { statements = statements, kind = "part", checksum = sum }
end

---Reads a section of several parts: without transaction:false they share one transaction, else each is a step.
local function of_parts(section, direction, escapes)
    local all, steps, refused, texts, at = {}, {}, nil, {}, 0
    for _, part in ipairs(section.parts) do
        local statements <const>, broken <const>, sql <const> = script.read(part.sql, part.line, escapes)
        refused = refused or broken
        escapes = escapes_behind(part, statements, escapes)
        for _, statement in ipairs(statements) do
            statement.first = statement.first + at
            all[#all + 1] = statement
        end
        at, texts[#texts + 1] = at + #sql, sql
        if part.transaction then
            refused = refused or M.in_transaction(statements, "migration", hint_for(direction))
            part_step(statements, steps)
        else
            local _, unfit <const> = M.steps(statements, steps)
            refused = refused or unfit
        end
    end
    return {
        statements = all, sql = table.concat(texts), refused = refused,
        steps = not section.transaction and steps or nil,
    }
end

---Reads a section.
---@param section dbrun.migrate.Section
---@param direction "up"|"down"
---@param escapes? boolean standard_conforming_strings is off at its beginning
---@return dbrun.migrate.Blocks
function M.of(section, direction, escapes)
    if section.parts then return of_parts(section, direction, escapes) end
    local statements <const>, refused <const>, sql <const> = script.read(section.sql, section.line, escapes)
    if section.transaction then
        local unfit <const> = M.in_transaction(statements, "migration", hint_for(direction))
        return { statements = statements, sql = sql, refused = refused or unfit }
    end
    local steps <const>, unfit <const> = M.steps(statements)
    return { statements = statements, sql = sql, steps = steps, refused = refused or unfit }
end

return M
