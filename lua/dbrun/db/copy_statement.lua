--- The COPY statements, and the options of copy_in and copy_out.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local params <const> = require "dbrun.db.params"
local quote <const> = require "dbrun.db.quote"

local M = {}

---@class dbrun.CopyInOptions
---@field format? "binary"|"text"|"csv" the format rows are sent in (chosen automatically), or of text ("text")
---@field header? boolean|"match" text in CSV: its first line names the columns
---@field delimiter? string
---@field null? string how NULL is written
---@field quote? string
---@field escape? string

---@class dbrun.CopyOutOptions: dbrun.CopyInOptions
---@field raw? boolean pieces of text (or of the binary format) instead of rows
---@field columns? string[] of a table; default: all that are not generated
---@field positional? boolean rows as sequences with db.null, instead of tables by column name

--- Options about the format of text, and the types of their values.
local text_options <const> = {
    header = { function(v) return type(v) == "boolean" or v == "match" end, 'true, false or "match"', shows = true },
    delimiter = "string", null = "string", quote = "string", escape = "string",
}

local function with_text_options(known)
    for name, rule in pairs(text_options) do
        known[name] = rule
    end
    return known
end

local FORMAT <const> = args.one_of("binary", "text", "csv")
local KNOWN <const> = {
    copy_in = with_text_options { format = FORMAT },
    copy_out = with_text_options { format = FORMAT, raw = "boolean", columns = args.strings, positional = "boolean" },
}

---Checks the options; nil = none.
---@param fname "copy_in"|"copy_out"
---@param opts table|nil
---@return table
function M.check(fname, opts)
    return args.options(fname, opts, KNOWN[fname])
end

---Raises when the SQL is a COPY, because this call cannot transfer its data.
---@param sql string
---@param place string
function M.refuse_copy(sql, place)
    for behind, kind, at in core.sql.scan, sql, 1 do
        local passed <const> = kind == "blank" or kind == "comment" or sql:sub(at, at):find "[(;]"
        if not passed then
            if kind == "word" and sql:sub(at, behind - 1):lower() == "copy" then
                errors.raise {
                    kind = "usage", outcome = "not_sent",
                    message = "COPY FROM STDIN or TO STDOUT cannot be run as a statement of " .. place,
                    hint = "Use copy_in (FROM STDIN) or copy_out (TO STDOUT), which take a table or a query.",
                }
            end
            return
        end
    end
end

---Raises when options for text are given with rows.
---@param fname string
---@param opts table
function M.rows_only(fname, opts)
    for key in pairs(text_options) do
        if opts[key] ~= nil then
            errors.usage(fname, "%s is for text, not for rows", key)
        end
    end
end

local function options_sql(opts)
    local list = { "FORMAT " .. (opts.format or "text") }
    if opts.header ~= nil then
        list[#list + 1] = "HEADER " .. (opts.header == "match" and "MATCH" or opts.header and "TRUE" or "FALSE")
    end
    for _, key in ipairs { "delimiter", "null", "quote", "escape" } do
        if opts[key] then
            list[#list + 1] = key:upper() .. " " .. quote.text(opts[key], ("an option of COPY (%s)"):format(key))
        end
    end
    return table.concat(list, ", ")
end

---Names as a list of quoted identifiers.
---@param names string[]
---@return string
function M.column_list(names)
    local list = {}
    for i, name in ipairs(names) do
        list[i] = params.ident { name }
    end
    return table.concat(list, ", ")
end

---@param target string quoted
---@param columns string[]
---@param opts table
---@return string
function M.copy_in(target, columns, opts)
    local names <const> = #columns > 0 and " (" .. M.column_list(columns) .. ")" or ""
    return ("COPY %s%s FROM STDIN WITH (%s)"):format(target, names, options_sql(opts))
end

---@param query string
---@param opts table
---@return string
function M.copy_out(query, opts)
    -- The line break ends a comment in the last line of the query.
    return ("COPY (%s\n) TO STDOUT WITH (%s)"):format(query, options_sql(opts))
end

return M
