--- The output for lines: they are buffered and written in pieces, and each failure is raised.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"

local M = {}

--- Bytes that are collected before they are written.
local PIECE <const> = 32 * 1024

---@class dbrun.table.Out
---@field private file file*|table
---@field private fn string
---@field private parts string[]
---@field private size integer
---@field private at_once boolean
---@field private guard boolean
local Out = {}
local meta = { __index = Out }

local function check_open(self)
    if io.type(self.file) == "closed file" then errors.usage(self.fn, "the file is closed") end
end

--- Lua's files return nil and the reason; an object of another class may return nothing on success.
local function check(self, ok, why)
    if not ok and (io.type(self.file) or ok == false or why ~= nil) then
        errors.fail("io", ("%s: cannot write: %s"):format(self.fn, tostring(why)))
    end
end

--- Writes what is collected.
local function send(self)
    local text = table.concat(self.parts)
    self.parts, self.size = {}, 0
    if text == "" then return end
    if self.guard then text = core.tty.printable(text) end
    check_open(self)
    check(self, self.file:write(text))
end

---Writes a line, and its end.
---@param line string
function Out:line(line)
    local n <const> = #self.parts
    self.parts[n + 1], self.parts[n + 2] = line, "\n"
    self.size = self.size + #line + 1
    if self.at_once or self.size >= PIECE then send(self) end
end

---Passes everything to the system, which only then reports a full disk.
function Out:flush()
    send(self)
    if io.type(self.file) then
        check_open(self)
        check(self, self.file:flush())
    end
end

--- After an error elsewhere the lines before it are still written; that error is raised.
function meta.__close(self, problem)
    if problem ~= nil then pcall(self.flush, self) end
end

---@param fn string the function as scripts call it
---@param file file*|table an open file, or an object with the method write
---@param opts? { at_once?: boolean, guard?: boolean } at_once: lines are not collected; guard: with control
---characters escaped
---@return dbrun.table.Out
function M.new(fn, file, opts)
    local self <const> = setmetatable({
        file = file, fn = fn, parts = {}, size = 0, guard = opts and opts.guard, at_once = opts and opts.at_once,
    }, meta)
    check_open(self)
    return self
end

--- A rule for dbrun.args.
local FILE <const> = {
    function(v)
        local ok, method = pcall(function() return v.write end)
        return ok and type(v) ~= "string" and args.is_callable(method)
    end, "a file, or an object with a method write",
}

---Raises unless it is a file to write to. A file's name is refused, because opening it here could hide that its end
---could not be written.
---@param fn string the function that is called
---@param file any
function M.check(fn, file)
    if type(file) == "string" then
        errors.fail("usage", fn .. ": the file must be a file that is open, got a string",
            'io.open(path, "w") opens it')
    end
    args.check(fn, "the file", file, FILE)
end

return M
