--- The source of the SQL: an argument, a file, standard input. It is read in pieces. A source that can be read twice is
--- checked before any of it runs.
local errors = require "dbrun.error"
local fs = require "dbrun.fs"

local M = {}

local PIECE <const> = 64 * 1024
local MARK <const> = "^\xef\xbb\xbf" -- that some editors write before UTF-8

---@class dbrun.sql.Text
---@field name? string for messages: of the file, "<stdin>"; nil: an argument
---@field again boolean it can be read more than once
---@field inline boolean the rows of COPY ... FROM stdin are always in it, because it is standard input
---@field open fun(): (fun(): string?) starts from the beginning: returns the pieces, then nil

local function without_mark(read)
    local first = true
    return function()
        local piece <const> = read()
        if not first or not piece then return piece end
        first = false
        return (piece:gsub(MARK, ""))
    end
end

---@param sql string
---@return dbrun.sql.Text
function M.of_argument(sql)
    return {
        again = true, inline = false,
        open = function()
            local left = sql
            return function()
                local piece <const> = left
                left = nil
                return piece
            end
        end,
    }
end

local function read_of(file, name, how)
    return without_mark(function()
        local piece <const>, why <const> = file:read(how)
        if not piece and why then errors.fail("io", ("cannot read %s: %s"):format(name, why)) end
        if not piece and file ~= io.stdin then file:close() end
        return piece
    end)
end

local function of_pipe(path)
    local text <const> = fs.read(path)
    local source <const> = M.of_argument((text:gsub(MARK, "")))
    source.name = path
    return source
end

---@param path string
---@return dbrun.sql.Text
---Raises an error of kind `io`.
function M.of_file(path)
    local stat <const> = fs.stat(path)
    if not stat then errors.fail("io", ("cannot read %s: there is no such file"):format(path)) end
    if stat.kind == "folder" then errors.fail("io", ("cannot read %s: it is a folder"):format(path)) end
    if stat.kind ~= "file" then return of_pipe(path) end
    return {
        name = path, again = true, inline = false,
        open = function()
            local file <const>, why <const> = io.open(path, "rb")
            if not file then errors.fail("io", ("cannot read %s"):format(why)) end
            return read_of(file, path, PIECE)
        end,
    }
end

---@return dbrun.sql.Text
function M.of_stdin()
    local start <const> = io.stdin:seek "cur"
    return {
        name = "<stdin>", again = start ~= nil, inline = true,
        open = function()
            if start then io.stdin:seek("set", start) end
            -- From a pipe line by line, so that a statement runs as soon as it is complete.
            return read_of(io.stdin, "standard input", start and PIECE or "L")
        end,
    }
end

return M
