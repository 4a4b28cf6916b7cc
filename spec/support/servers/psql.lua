--- Runs SQL without the code under test: with psql, or, when it is one statement, with a helper process that keeps
--- running and prints what psql prints.

local ask = require "spec.support.servers.ask"
local errors = require "dbrun.error"
local process = require "dbrun.process"
local programs = require "dbrun.stack.programs"

local M = {}

local limit <const> = 60 -- seconds for an answer

--- Whether the text is one statement without psql's own commands.
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
---@param keep? boolean keep the connection for the next statement with `keep`
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
