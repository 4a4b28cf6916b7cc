--- Questions to a PostgreSQL from outside of the code under test: by psql, and where one statement is all, by a
--- program that stays and answers as psql does.

local ask = require "spec.support.servers.ask"
local errors = require "dbrun.error"
local process = require "dbrun.process"
local programs = require "dbrun.stack.programs"

local M = {}

local limit <const> = 60 -- seconds that an answer may take

--- The text is one statement, with nothing in it that only psql knows.
local function is_one_statement(sql)
    local statement = sql:gsub("%s+$", ""):gsub(";$", "")
    return statement:find "%S" and not statement:find "[;\\]" and not statement:lower():find "^%s*copy%f[%W]"
end

local function run_psql(program, url, sql)
    local result = process.run {
        program, "-XAtqw", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", "-", stdin = sql, env = programs.environment(),
        timeout = limit,
    }
    return result.ok, result.ok and result.stdout or result.stderr
end

--- Runs SQL.
---@param program string path of psql
---@param url string
---@param sql string
---@param keep? boolean over a connection that stays for the next question that may
---@return string output rows as lines, columns apart by "|"
function M.ask(program, url, sql, keep)
    local ok, text
    if is_one_statement(sql) then
        ok, text = ask.ask(limit, { url, sql, keep and "keep" or nil })
    else
        ok, text = run_psql(program, url, sql)
    end
    if not ok then errors.raise { kind = "io", message = "psql: " .. text } end
    return (text:gsub("\n$", ""))
end

return M
