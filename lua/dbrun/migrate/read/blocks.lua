--- The transaction blocks of a section: its steps, and what cannot be run, so that it is refused before anything is
--- written, and found by lint.
local control = require "dbrun.migrate.read.control"
local core = require "dbrun.core"
local script = require "dbrun.migrate.read.script"

local M = {}

---@class dbrun.migrate.Step what lies between two moments without a transaction
---@field statements dbrun.migrate.Statement[]
---@field kind "single"|"block"|"void" a statement; a BEGIN and all up to its end; one that changes nothing outside a
---    block, sent outside of one
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

---What is refused wherever it stands.
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

---What the server refuses outside a block.
local function without_block(statement, what)
    local name <const> = OUTSIDE_BLOCK[what] or not what and control.needs_block(statement)
    return name and refusal(statement.line, "%s works only inside a transaction block",
        "put 'begin;' before it and 'commit;' behind what belongs together", name)
end

---The steps of a section with transaction:false.
---@param statements dbrun.migrate.Statement[]
---@return dbrun.migrate.Step[]
---@return dbrun.migrate.Refusal? first what cannot be run
function M.steps(statements)
    local steps, open, sum, refused = {}, nil, "", nil
    for _, statement in ipairs(statements) do
        local what <const>, chain <const> = control.of(statement)
        sum = core.digest("sha256", sum .. statement.sql .. (statement.data and statement.data.text or ""))
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

---The first statement that cannot be run in the transaction that all of them share.
---@param statements dbrun.migrate.Statement[]
---@param owner string whose transaction it is, for the message: "migration", "hook"
---@param hint string
---@return dbrun.migrate.Refusal?
function M.in_transaction(statements, owner, hint)
    for _, statement in ipairs(statements) do
        local what <const>, chain <const> = control.of(statement)
        local refused <const> = never(statement, what, chain)
        if refused then return refused end
        if what == "begin" or what == "commit" or what == "rollback" then
            return refusal(statement.line, what == "begin" and "'%s' begins a transaction inside the %s's own"
                or "'%s' would end the %s's transaction", hint, word_of(statement), owner)
        end
    end
end

---@class dbrun.migrate.Blocks
---@field statements dbrun.migrate.Statement[]
---@field sql string the text that these stand in
---@field steps? dbrun.migrate.Step[] of a section with transaction:false
---@field refused? dbrun.migrate.Refusal

---Reads a section.
---@param section dbrun.migrate.Section
---@param direction "up"|"down"
---@param escapes? boolean standard_conforming_strings is off at its beginning
---@return dbrun.migrate.Blocks
function M.of(section, direction, escapes)
    local statements <const>, refused <const>, sql <const> = script.read(section.sql, section.line, escapes)
    if section.transaction then
        local hint <const> = ("remove it, or put 'transaction:false' after '-- migrate:%s'"):format(direction)
        local unfit <const> = M.in_transaction(statements, "migration", hint)
        return { statements = statements, sql = sql, refused = refused or unfit }
    end
    local steps <const>, unfit <const> = M.steps(statements)
    return { statements = statements, sql = sql, steps = steps, refused = refused or unfit }
end

return M
