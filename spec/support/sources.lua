--- A folder of small source files, for the specs that test the checks of `make lint`.
local fs = require "dbrun.fs"
local process = require "dbrun.process"

local M = {}

--- Writes the files below dir/src and compiles those that end in .c to dir/obj.
---@param dir string
---@param files table<string, string|false> "floor/x.c" and its text; false = no such file
function M.compile(dir, files)
    for name, text in pairs(files) do
        if text then
            fs.mkdir_p(dir .. "/src/" .. fs.dirname(name))
            fs.write(dir .. "/src/" .. name, text)
        end
    end
    for name, text in pairs(files) do
        if text and name:find "%.c$" then
            fs.mkdir_p(dir .. "/obj/" .. fs.dirname(name))
            local object <const> = dir .. "/obj/" .. name:gsub("%.c$", ".o")
            local built <const> = process.run {
                "gcc", "-c", "-I", dir .. "/src", "-o", object, dir .. "/src/" .. name,
            }
            assert(built.code == 0, built.stderr)
        end
    end
end

--- Runs a check of spec/support on the folder.
---@param dir string
---@param check string "circles" or "order"
---@return string said, boolean ok
function M.check(dir, check)
    local r <const> = process.run { "lua5.4", ("spec/support/%s.lua"):format(check), dir .. "/obj", dir .. "/src" }
    assert(r.stderr == "", r.stderr)
    return r.stdout, r.code == 0
end

return M
