--- The annotations of the public functions as stubs for an editor: `.dbrun/stubs/dbrun/*.lua`, without bodies. They are
--- in the binary, and are written anew when its version is another one.
local core <const> = require "dbrun.core"
local fs <const> = require "dbrun.fs"
local process <const> = require "dbrun.process"
local texts <const> = require "dbrun.manual.texts"

local M = {}

---The folder of the stubs, below that of the project.
M.FOLDER = ".dbrun/stubs"

local VERSION <const> = "version"

--- Modules that the others are made of.
local INTERNAL <const> = {
    args = true, argparse = true, command_line = true, conninfo = true, dotenv = true, exit_guard = true,
    mistyped = true, nearest = true, pager = true, places = true, project = true, target = true, url = true,
}

---Is it a module that scripts use? Files in folders are parts of one.
local function is_public(name)
    local module <const> = name:match "^dbrun/([%w_]+)%.lua$"
    return module ~= nil and not INTERNAL[module]
end

---Lines of code in the text of a file: which of them stay.
---@param line string
---@param public boolean
---@return string? stub
---@return string? table what the stub needs: a name in front of '.' or ':'
local function code(line, public)
    local object, sign, name = line:match "^function ([%a_][%w_]*)([.:])([%w_.:]+)"
    if object and (public or object ~= "M") then
        local list <const> = line:match "%b()"
        return ("function %s%s%s%s end"):format(object, sign, name, list or "(...)"), object
    end
    name = public and line:match "^M%.([%a_][%w_]*)%s*="
    if name then return ("M.%s = nil"):format(name), "M" end
end

---@param text string the annotations of a file, each with the line of code that it belongs to
---@param public boolean a module; else a part of one, of which only classes and their methods stay
---@return string? stub nil: nothing stays
function M.of(text, public)
    local out, block, declared, kept = { "---@meta", "" }, {}, {}, false
    local function close(line, object)
        if object and not declared[object] then
            declared[object] = true
            out[#out + 1] = ("local %s = {}"):format(object)
        end
        for _, comment in ipairs(block) do out[#out + 1] = comment end
        if line then out[#out + 1] = line end
        out[#out + 1], kept = "", true
    end
    for line in (text .. "\n"):gmatch "(.-)\n" do
        if line:find "^%-%-%-" then
            block[#block + 1] = line
        else
            local stub, object = code(line, public)
            local words <const> = table.concat(block, "\n")
            if stub then
                close(stub, object)
            elseif words:find("---@class", 1, true) or words:find("---@alias", 1, true) then
                close()
            end
            block = {}
        end
    end
    if not kept then return nil end
    if declared.M then out[#out + 1] = "return M" end
    return table.concat(out, "\n") .. "\n"
end

---@param folder string of the project
---@return boolean
local function is_current(folder)
    local file <const> = fs.join(folder, M.FOLDER, VERSION)
    return fs.exists(file) and fs.read(file) == core.options.version .. "\n"
end

---Writes the stubs, in place of older ones.
---@param folder string of the project
---Raises an error of kind `io`.
function M.write(folder)
    local top <const> = fs.join(folder, M.FOLDER)
    if fs.exists(top) then fs.rmtree(top) end
    for _, name in ipairs(texts.modules()) do
        local text <const> = not name:find "^dbrun/manual/" and texts.read(name)
        local stub <const> = text and M.of(text, is_public(name))
        if stub then
            local path <const> = fs.join(top, name)
            fs.mkdir_p(fs.dirname(path))
            fs.write(path, stub)
        end
    end
    fs.write(fs.join(top, VERSION), core.options.version .. "\n") -- last: what is not whole has none
end

---Writes the stubs of a project anew when they are of another version. Only those of this user: a run of cron as
---another one must not take them over.
---@param folder string of the project
---@return boolean written
function M.renew(folder)
    local there <const> = fs.stat(fs.join(folder, M.FOLDER))
    if not there or there.uid ~= process.uid() or is_current(folder) then return false end
    return (pcall(M.write, folder))
end

return M
