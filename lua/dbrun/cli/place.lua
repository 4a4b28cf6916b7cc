--- The line of a mistake in a script's specification. `return cli.run{...}` is a tail call, so the script's own frame
--- is gone, and the line is looked up in its file.
local fs = require "dbrun.fs"

local M = {}

--- The file of a function in the specification.
local function file_of(spec)
    local run = type(spec) == "table" and rawget(spec, "run")
    if type(run) ~= "function" then
        for _, command in pairs(type(spec) == "table" and type(spec.commands) == "table" and spec.commands or {}) do
            run = type(command) == "table" and rawget(command, "run") or run
        end
    end
    local source = type(run) == "function" and debug.getinfo(run, "S").source
    return source and source:match "^@(.+)"
end

--- The place of the word as a string or as a key: its `nth` occurrence, or the last one if there are fewer.
local function find(text, word, nth)
    local at
    for _, pattern in ipairs { "[\"']%s[\"']", "%%f[%%w_]%s%%f[^%%w_]%%s*=" } do
        pattern = pattern:format((word:gsub("%p", "%%%0")))
        local from, past = text:find(pattern)
        while from do
            at, nth = from, nth - 1
            if nth == 0 then return at end
            from, past = text:find(pattern, past)
        end
    end
    return at
end

local function line_at(text, at)
    return at and select(2, text:sub(1, at):gsub("\n", "")) + 1
end

---"scripts/tidy.lua:7", or nil if no file is known.
---@param spec any the specification
---@param word? string what is wrong in it, as it stands in the file
---@param nth? integer which of several
---@param frame? string the place of the call, if its frame still exists
---@return string?
function M.of(spec, word, nth, frame)
    local file = file_of(spec) or not frame and type(arg) == "table" and arg[0]
    local ok, text = pcall(fs.read, file)
    if not ok then return frame end
    local line = line_at(text, word and find(text, word, nth or 1))
        or not frame and line_at(text, text:find "%f[%w_]run%s*[{(]")
    return line and ("%s:%d"):format(file, line) or frame or file
end

return M
