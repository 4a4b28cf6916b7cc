--- Terminals: whether a descriptor is one, its size, its colours.
---
--- Raises nothing else.

local args = require "dbrun.args"
local core = require "dbrun.core"

local tty = core.tty

local M = {}

local function check_fd(fn, fd)
    args.optional(fn, "fd", fd, args.integer)
end

--- Whether the descriptor is a terminal.
---@param fd? integer default 1, the standard output
---@return boolean
---```lua
---print(type(tty.isatty(0)))  --> boolean
---```
function M.isatty(fd)
    check_fd("tty.isatty", fd)
    return tty.isatty(fd or 1)
end

--- Columns of the terminal; if unknown, COLUMNS of the environment, else 80.
---@param fd? integer default 1
---@return integer
---```lua
---print(math.type(tty.width()))  --> integer
---```
function M.width(fd)
    check_fd("tty.width", fd)
    return tty.width(fd or 1) or math.tointeger(tonumber(os.getenv("COLUMNS"))) or 80
end

--- Lines of the terminal; if unknown, LINES of the environment, else 24.
---@param fd? integer default 1
---@return integer
---```lua
---print(math.type(tty.height()))  --> integer
---```
function M.height(fd)
    check_fd("tty.height", fd)
    return tty.height(fd or 1) or math.tointeger(tonumber(os.getenv("LINES"))) or 24
end

--- Whether colours and redrawn lines work on this descriptor: on a terminal that supports them, unless NO_COLOR is set
--- and not empty.
---@param fd? integer default 1
---@return boolean
---```lua
---print(tty.colour(1) and "\27[1mdone\27[0m" or "done")  --> done
---```
function M.colour(fd)
    check_fd("tty.colour", fd)
    local no, term = os.getenv("NO_COLOR"), os.getenv("TERM")
    return (no == nil or no == "") and M.dumb(fd) == false and term ~= nil
end

--- True when the descriptor is not a terminal, or one that cannot move its cursor.
---@param fd? integer default 1
---@return boolean
---```lua
---local progress_bars = not tty.dumb(2)
---```
function M.dumb(fd)
    check_fd("tty.dumb", fd)
    return not tty.isatty(fd or 1) or os.getenv("TERM") == "dumb"
end

local TEXT <const> = args.one_type_of("string", "number")

--- Makes a text from a server or a file safe for a terminal: control characters except newline and tab are escaped
--- ("\\x1b"), and so are bytes that are not UTF-8.
---@param text string|number
---@return string
---```lua
---print(tty.printable "a\27[31mb")  --> a\x1b[31mb
---```
function M.printable(text)
    args.check("tty.printable", "text", text, TEXT)
    return tty.printable(tostring(text))
end

local codes <const> = {
    bold = 1, dim = 2, red = 31, green = 32, yellow = 33, blue = 34, magenta = 35, cyan = 36,
}
local COLOUR <const> = args.one_of("bold", "dim", "red", "green", "yellow", "blue", "magenta", "cyan")

--- A function that colours a text, or returns it unchanged without colours.
---@param fd? integer default 1
---@return fun(text: string, name: "bold"|"dim"|"red"|"green"|"yellow"|"blue"|"magenta"|"cyan"): string
---```lua
---local paint = tty.painter(1)
---print(paint("done", "green"))  --> done
---```
function M.painter(fd)
    check_fd("tty.painter", fd)
    local coloured <const> = M.colour(fd)
    return function(text, name)
        args.check("tty.painter", "name", name, COLOUR)
        if not coloured then return text end
        return ("\27[%dm%s\27[0m"):format(codes[name], text)
    end
end

return args.answer_for_names(M, "tty", {
    color = "tty.colour(fd)", columns = "tty.width(fd)", size = "tty.width(fd)",
    rows = "tty.height(fd)", lines = "tty.height(fd)", is_tty = "tty.isatty(fd)",
    istty = "tty.isatty(fd)", isterminal = "tty.isatty(fd)", escape = "tty.printable(text)",
})
