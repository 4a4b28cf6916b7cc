--- Stubs for editors: Lua files with only annotations, for lua-language-server. They are made from the annotations
--- inside the binary, and are in the project's folder `.dbrun/stubs`.
local core <const> = require "dbrun.core"
local fs <const> = require "dbrun.fs"
local process <const> = require "dbrun.process"

local M = {}

M.FOLDER = ".dbrun/stubs"

--- Written last: while it is missing or different, the stubs are written again.
local VERSION <const> = "version"

---A comment of several lines.
local function say(out, about)
    for line in (about or ""):gmatch "[^\n]+" do out[#out + 1] = "---" .. line end
end

---What follows a tag on its line.
local function behind(about)
    local line <const> = (about or ""):gsub("%s*\n%s*", " ")
    return line ~= "" and " " .. line or ""
end

local function names_of(f)
    local names <const> = {}
    for i, param in ipairs(f.params) do names[i] = param.name end
    return table.concat(names, ", ")
end

---@param out string[] gets the lines
---@param name string "M.sleep", "Engine:query"
---@param f dbrun.manual.Function
---@param text fun(kind: table): string
local function add_function(out, name, f, text)
    out[#out + 1] = ""
    say(out, f.about)
    for _, param in ipairs(f.params) do
        local mark <const> = param.optional and param.name ~= "..." and "?" or ""
        out[#out + 1] = ("---@param %s%s %s%s"):format(param.name, mark, text(param.type), behind(param.about))
    end
    for _, result in ipairs(f.results) do
        out[#out + 1] = ("---@return %s%s"):format(result.type, behind(result.about))
    end
    say(out, f.raises)
    out[#out + 1] = ("function %s(%s) end"):format(name, names_of(f))
end

local function header()
    return {
        "---@meta",
        ("-- Made by dbrun %s from its annotations; written anew when that changes."):format(core.options.version),
    }
end

---The classes and their methods, each in a `do` block, because a file can have at most 200 local names.
local function classes_text(functions, text)
    local out, sorted <const> = header(), {}
    for name in pairs(functions.all.classes) do sorted[#sorted + 1] = name end
    table.sort(sorted)
    local aliases <const> = {}
    for name, kind in pairs(functions.all.aliases) do
        aliases[#aliases + 1] = ("---@alias %s %s"):format(name, text(kind))
    end
    table.sort(aliases)
    out[#out + 1] = "\n" .. table.concat(aliases, "\n")
    for _, name in ipairs(sorted) do
        local class <const> = functions.all.classes[name]
        local own <const> = {}
        for method in pairs(class.methods) do
            if not class.fields[method] and not method:find "^__" then own[#own + 1] = method end
        end
        table.sort(own)
        out[#out + 1] = "\ndo"
        say(out, class.about)
        out[#out + 1] = "---@class " .. name .. (class.parent and ": " .. class.parent or "")
        for _, field in ipairs(class.order) do
            local f <const> = class.fields[field]
            if not f.hidden then
                out[#out + 1] = ("---@field %s%s %s%s"):format(field, f.optional and "?" or "", text(f.type),
                    behind(f.about))
            end
        end
        if class.open then out[#out + 1] = "---@field [string] any" end
        out[#out + 1] = "local Class = {}"
        for _, method in ipairs(own) do add_function(out, "Class:" .. method, class.methods[method], text) end
        out[#out + 1] = "end"
    end
    return table.concat(out, "\n") .. "\n"
end

---A module: its functions and values; if its values are the fields of a class, it has that class.
local function module_text(list, class, text)
    local out <const> = header()
    if class then out[#out + 1] = "---@type " .. class end
    out[#out + 1] = "local M = {}"
    for _, entry in ipairs(class and {} or list) do
        if entry.f then
            add_function(out, "M." .. entry.name, entry.f, text)
        else
            out[#out + 1] = ""
            say(out, entry.field.about)
            out[#out + 1] = "---@type " .. text(entry.field.type)
            out[#out + 1] = ("M.%s = nil"):format(entry.name)
        end
    end
    out[#out + 1] = "\nreturn M"
    return table.concat(out, "\n") .. "\n"
end

---The texts of the stubs, by their names below the folder.
---@return table<string, string>
function M.texts()
    local functions <const> = require "dbrun.manual.library".functions()
    local text <const> = require "dbrun.manual.types".text
    local modules, all <const> = {}, header()
    for _, entry in ipairs(functions.entries) do
        if entry.module then
            modules[entry.module] = modules[entry.module] or {}
            table.insert(modules[entry.module], entry)
        end
    end
    local files <const>, sorted <const> = { ["dbrun/classes.lua"] = classes_text(functions, text) }, {}
    for name, list in pairs(modules) do
        sorted[#sorted + 1] = name
        local path <const> = ("dbrun/%s.lua"):format((name:gsub("%.", "/")))
        files[path] = module_text(list, name == "config" and "Config" or nil, text)
    end
    table.sort(sorted)
    all[#all + 1] = "local M = {}"
    for _, name in ipairs(sorted) do
        all[#all + 1] = ('M.%s = require "dbrun.%s"'):format(name, name)
    end
    all[#all + 1] = "return M\n"
    files["dbrun/init.lua"] = table.concat(all, "\n")
    return files
end

---Writes the stubs into a project, and removes those of another version.
---@param folder string of the project
function M.write(folder)
    local root <const> = fs.join(folder, M.FOLDER)
    fs.rmtree(fs.join(root, "dbrun"))
    for name, text in pairs(M.texts()) do
        local path <const> = fs.join(root, name)
        fs.mkdir_p(fs.dirname(path))
        fs.write(path, text)
    end
    fs.write(fs.join(root, VERSION), core.options.version .. "\n")
end

---Writes the stubs of a project again when they are of another version; only if they belong to this user, because a
---cron job of another user must not take them over.
---@param folder string of the project
---@return boolean written
---Raises kind `io` when they cannot be read or written.
function M.renew(folder)
    local root <const> = fs.join(folder, M.FOLDER)
    local there <const> = fs.stat(root)
    if not there or there.uid ~= process.uid() then return false end
    local mark <const> = fs.join(root, VERSION)
    if fs.exists(mark) and fs.read(mark) == core.options.version .. "\n" then return false end
    if not fs.access(root, "w") then return false end
    local lock <close> = fs.lock(fs.join(root, ".lock"), 0)
    if not lock then return false end -- another command is writing them
    M.write(folder)
    return true
end

return M
