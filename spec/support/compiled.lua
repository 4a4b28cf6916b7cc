--- C programs for specs (spec/support/c): each is compiled on first use, once for each version of its source.

local errors = require "dbrun.error"
local folder = require "spec.support.servers.folder"
local fs = require "dbrun.fs"
local process = require "dbrun.process"

local M = {}

--- Path of the program.
---@param name string of the source, without .c
---@param ... string more words for the compiler
---@return string
function M.program(name, ...)
    local source = ("spec/support/c/%s.c"):format(name)
    local there = fs.stat(source)
    local path = ("%s/%s-%d-%d"):format(folder.base(), name, there.ino, math.floor(there.mtime * 1000))
    if fs.exists(path) then return path end
    local temporary = ("%s.%d"):format(path, process.pid())
    local result = process.run {
        os.getenv("CC") or "cc", "-std=c11", "-D_GNU_SOURCE", "-O1", "-o", temporary, source, timeout = 60, ...,
    }
    if not result.ok then
        errors.raise { kind = "io", message = "cannot compile " .. source, detail = result.stderr }
    end
    fs.rename(temporary, path)
    for _, other in ipairs(fs.list(folder.base())) do
        local old = other:find(name .. "-", 1, true) == 1 and fs.stat(fs.join(folder.base(), other))
        if old and os.time() - old.mtime > 3600 then fs.unlink(fs.join(folder.base(), other)) end
    end
    return path
end

return M
