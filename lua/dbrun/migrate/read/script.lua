--- The statements of an SQL text, as migrations, seeds and hooks have them.
local psql = require "dbrun.migrate.read.psql"
local split = require "dbrun.migrate.read.split"

local M = {}

---The unterminated piece of a text. A text that the server's parser has accepted has none.
local function unfinished(sql, line, escapes, how)
    if how == "parser" then return nil end
    local open <const> = split.unfinished(sql, line, escapes)
    return open and { line = open.line, message = ("this %s has no end: it would take in all that follows"):format(
        open.what), hint = "close it" } or nil
end

---Splits a text into statements, and finds what cannot be run.
---@param sql string
---@param line integer number of its first line
---@param escapes? boolean standard_conforming_strings is off at its beginning
---@return dbrun.migrate.Statement[]
---@return dbrun.migrate.Refusal? refused what no session accepts: an unterminated piece, commands of psql
---@return string sql the text of the statements: without rows and commands of psql
function M.read(sql, line, escapes)
    local text <const> = psql.read(sql, line, escapes)
    local statements <const>, how <const> = split.split(text.sql, line, escapes)
    for _, statement in ipairs(statements) do statement.data = text.data[statement.first] end
    local open <const>, foreign <const> = unfinished(text.sql, line, escapes, how), text.refused
    local refused <const> = open and foreign and open.line > foreign.line and foreign or open or foreign
    return statements, refused, text.sql
end

return M
