--- psql's commands, which begin with a backslash, and its variables in quotes. Both are refused by name, with the
--- replacement. \restrict and \unrestrict, which pg_dump writes, are ignored.
local core = require "dbrun.core"

local scan <const> = core.sql.scan

local M = {}

local SKIPPED <const> = { restrict = true, unrestrict = true }

local HINTS <const> = {}

local function hint_for(names, hint)
    for name in names:gmatch "%S+" do HINTS[name] = hint end
end

hint_for("d d+ dt dt+ di df df+ dn du dv dx l l+ dS ds dp sf sv",
    "the prompt has it: dbrun, then \\d NAME, \\dt, \\di, \\df, \\dn")
hint_for("c connect", "one run is one database: DATABASE_URL=... dbrun sql, or --env-file FILE")
hint_for("i ir include include_relative", "one file a run: dbrun sql -f FILE")
hint_for("copy", "copy t from stdin reads standard input, copy t to stdout writes the output: dbrun sql \"copy t from "
    .. "stdin\" < FILE")
hint_for("set", "a value is a parameter here: -v NAME=VALUE, and :NAME in the SQL")
hint_for("unset getenv prompt gset bind", "a value is a parameter here: -v NAME=VALUE, and :NAME in the SQL")
hint_for("if elif else endif gexec crosstabview", "a script in Lua decides and repeats: dbrun FILE.lua")
hint_for("g gx gdesc ; parse bind_named close_prepared sendpipeline startpipeline endpipeline",
    "end the statement with a semicolon")
hint_for("watch", "the prompt has it: dbrun, then \\watch")
hint_for("x", "--format vertical")
hint_for("t", "-t prints values only")
hint_for("a H f pset C T", "--format table, vertical, csv, tsv, json, jsonl or md")
hint_for("o out", "-o FILE")
hint_for("w write", "-o FILE writes the results")
hint_for("echo qecho warn", "select 'text' prints a text")
hint_for("timing", "the prompt shows the time of each statement")
hint_for("q quit", "the text ends by itself")
hint_for("e edit ef ev p print r reset s h help ? html errverbose conninfo password", "the prompt is: dbrun")
hint_for("encoding", "text is UTF-8 here: leave it out")
hint_for("!", "the shell runs commands: leave it out")
hint_for("lo_import lo_export lo_list lo_unlink", "lo_import, lo_export and lo_unlink are functions of the server, too")
hint_for(".", "it ends the rows of a COPY ... FROM stdin: there is none before it")

local OTHERS <const> = "the real psql on the same server: psql \"$DATABASE_URL\""

---@class dbrun.sql.Refusal
---@field line integer
---@field message string
---@field hint string

---Whether the command is refused.
---@param command dbrun.sql.Command
---@return dbrun.sql.Refusal? nil: it is skipped
function M.command(command)
    if SKIPPED[command.command] and not command.inside then return nil end
    return {
        line = command.line, message = ("\\%s is a command of psql, not SQL"):format(command.command),
        hint = HINTS[command.command] or OTHERS,
    }
end

---The first psql variable in quotes: :'name', :"name". Subscripts can look similar: a[1:'2'].
---@param statement dbrun.sql.Statement
---@param escapes? boolean standard_conforming_strings is off
---@return dbrun.sql.Refusal?
function M.variable(statement, escapes)
    local sql <const> = statement.sql
    if not sql:find(":['\"{]") then return nil end
    local brackets, colon = 0, nil
    local next_piece <const> = function(text, at) return scan(text, at, escapes) end
    for behind, kind, at in next_piece, sql, 1 do
        local c <const> = sql:sub(at, at)
        if colon == at and brackets == 0 and (c == "'" or c == '"' or sql:find("^{%?", at)) then
            local _, newlines = sql:sub(1, at):gsub("\n", "")
            local name <const> = c == "{" and sql:match("^{%?[^}]*}?", at) or sql:sub(at, behind - 1)
            return {
                line = statement.line + newlines,
                message = (":%s is a variable of psql, put into the text"):format(name),
                hint = "values are parameters here: :NAME without quotes, and -v NAME=VALUE; a name of a table cannot "
                    .. "be one",
            }
        elseif kind == "sign" then
            brackets = brackets + (c == "[" and 1 or c == "]" and -1 or 0)
        end
        -- The second of two colons belongs to a cast.
        colon = c == ":" and kind == "sign" and colon ~= at and behind or nil
    end
end

return M
