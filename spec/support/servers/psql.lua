--- Questions to a PostgreSQL from outside of the code under test: by psql, and where one statement is all, by a
--- program that stays and answers as psql does (spec/support/c/ask.c).

local compiled = require "spec.support.compiled"
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

local waiting = {} -- programs that have answered; tasks ask at the same time

local function start()
    local include = os.getenv "PQ_INCDIR" or "/usr/include/postgresql"
    return process.start {
        compiled.program("ask", "-I" .. include, "-lpq"), stdin_from = "pipe", stdout = "capture", cwd = "/",
        env = programs.environment(), pdeathsig = "KILL",
    }
end

local function run_ask(url, sql)
    local child = table.remove(waiting) or start()
    child:write(("%d %d\n%s%s"):format(#url, #sql, url, sql))
    local how, count = (child:read_line(limit) or ""):match "^(%a+) (%d+)$"
    if not how then
        child:close()
        errors.raise { kind = "timeout", message = ("no answer within %d s: %s"):format(limit, sql) }
    end
    local lines = {}
    for i = 1, math.tointeger(tonumber(count)) do lines[i] = child:read_line(limit) end
    waiting[#waiting + 1] = child
    return how == "ok", table.concat(lines, "\n")
end

--- Runs SQL.
---@param program string path of psql
---@param url string
---@param sql string
---@return string output rows as lines, columns apart by "|"
function M.ask(program, url, sql)
    local ok, text
    if is_one_statement(sql) then
        ok, text = run_ask(url, sql)
    else
        ok, text = run_psql(program, url, sql)
    end
    if not ok then errors.raise { kind = "io", message = "psql: " .. text } end
    return (text:gsub("\n$", ""))
end

return M
