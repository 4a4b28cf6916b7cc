--- Checks SQL before any of it runs: what is refused, the names of -v that it has, and where the rows of its COPY ...
--- FROM stdin are.
local core = require "dbrun.core"
local errors = require "dbrun.error"
local refused = require "dbrun.sql.refused"
local statements = require "dbrun.sql.statements"
local stream = require "dbrun.sql.stream"

local M = {}

---The words of a statement, in lower case.
---@param sql string
---@return fun(): string?
local function words_of(sql)
    local at = 1
    return function()
        while true do
            local behind <const>, kind <const> = core.sql.scan(sql, at)
            if not behind then return nil end
            local text <const> = sql:sub(at, behind - 1)
            at = behind
            if kind == "word" then return text:lower() end
            if kind ~= "blank" and kind ~= "comment" then return text end
        end
    end
end

local ENDS <const> = { commit = true, ["end"] = true, rollback = true, abort = true }

---Why a statement cannot be in the transaction of -1.
---@param sql string
---@return string? message
function M.in_transaction(sql)
    local next_word <const> = words_of(sql)
    local first <const>, second = next_word(), next_word()
    if second == "work" or second == "transaction" and first ~= "prepare" then second = next_word() end
    if first == "begin" or first == "start" then
        return ("%s begins a transaction inside of that of -1"):format(first:upper())
    elseif first == "prepare" and second == "transaction" then
        return "PREPARE TRANSACTION would end the transaction of -1"
    elseif ENDS[first] and second ~= "to" and second ~= "prepared" then
        return ("%s would end the transaction of -1"):format(first:upper())
    end
end

local SETS <const> = { begin = true, start = true, set = true }

---Whether a statement would make a read-only session writable.
---@param sql string
---@return boolean
function M.asks_to_write(sql)
    local next_word <const> = words_of(sql)
    if not SETS[next_word()] then return false end
    local before
    for word in next_word do
        if word == "write" and before == "read" then return true end
        if word == "transaction_read_only" or word == "default_transaction_read_only" then return true end
        before = word
    end
    return false
end

---@class dbrun.sql.Rules
---@field variables dbrun.sql.Variables
---@field single boolean -1: one transaction around all

---What is wrong with a statement, or a command of psql's, before it runs.
---@param found dbrun.sql.Statement|dbrun.sql.Command
---@param rules dbrun.sql.Rules
---@param escapes? boolean
---@return dbrun.sql.Refusal?
function M.one(found, rules, escapes)
    if found.command then return refused.command(found) end
    local wrong <const> = refused.variable(found, escapes)
    if wrong then return wrong end
    local message <const> = rules.single and M.in_transaction(found.sql)
    if message then return { line = found.line, message = message, hint = "leave it out, or leave out -1" } end
    local values <const> = rules.variables
    local ok <const>, e <const>, _, unknown <const>, hint <const> = pcall(values.bind, values, found.sql)
    if not ok then
        if not errors.is(e, "usage") then error(e, 0) end
        return { line = found.line, message = e.message, hint = "values have names here: :NAME, and -v NAME=VALUE" }
    elseif unknown then
        return { line = found.line, message = (":%s has no value"):format(unknown), hint = hint }
    end
end

---@class dbrun.sql.Checked
---@field refused? dbrun.sql.Refusal
---@field count integer statements
---@field rows integer for this number of COPY ... FROM stdin, the first ones, the rows are in the text

---One pass; `rows`: the number of COPY with their rows in the text. Returns nil and the number when there are fewer.
local function pass(text, rules, escapes, rows)
    local reader <const> = statements.new { read = text.open(), escapes = escapes }
    local checked <const>, copies = { count = 0, rows = 0 }, 0
    for found in reader.next, reader do
        checked.refused = checked.refused or M.one(found, rules, escapes)
        if not found.command then
            checked.count = checked.count + 1
            if stream.of(found.sql) == "in" then
                copies = copies + 1
                if text.inline or not rows or copies <= rows then
                    while reader:data() do end
                    if not text.inline and not reader.terminated then return nil, copies - 1 end
                    checked.rows = copies
                end
            end
        end
    end
    return checked
end

---Checks a text.
---@param text dbrun.sql.Text which can be read again
---@param rules dbrun.sql.Rules
---@param escapes? boolean standard_conforming_strings is off
---@return dbrun.sql.Checked
function M.text(text, rules, escapes)
    local checked <const>, rows <const> = pass(text, rules, escapes)
    return checked or (pass(text, rules, escapes, rows)) -- no line `\.` follows the last of these
end

return M
