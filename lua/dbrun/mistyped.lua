--- The name that a script probably meant when it calls one that does not exist. The host asks for it after an uncaught
--- error, while the stack is still intact.
local nearest <const> = require "dbrun.nearest"

local M = {}

---The value of a variable in the function that raised the error.
---@param level integer of the function, as seen from the caller
---@param name string
local function variable(level, name)
    local i, found = 1, nil
    while true do
        local key <const>, value <const> = debug.getlocal(level + 1, i)
        if not key then break end
        if key == name then found = value end
        i = i + 1
    end
    if found ~= nil then return found end
    local fn <const> = debug.getinfo(level + 1, "f").func
    for n = 1, math.huge do
        local key <const>, value <const> = debug.getupvalue(fn, n)
        if not key then return rawget(_G, name) end
        if key == name then return value end
    end
end

---Collects the names of a value's fields, without calling its functions.
local function add_names(names, value, depth)
    if type(value) == "table" then
        for key in next, value do
            if type(key) == "string" then names[#names + 1] = key end
        end
    end
    local meta <const> = depth < 4 and debug.getmetatable(value)
    local index <const> = type(meta) == "table" and rawget(meta, "__index")
    if type(index) == "table" then add_names(names, index, depth + 1) end
end

---The text of a line of a script's file.
local function line_of(source, number)
    if source:sub(1, 1) ~= "@" then return nil end
    local file <close> = io.open(source:sub(2), "rb")
    if not file then return nil end
    local n = 0
    for line in file:lines() do
        n = n + 1
        if n == number then return line end
    end
end

---The object before ".name" or ":name" in the line where the error was raised.
local function object(level, name)
    local info <const> = debug.getinfo(level + 1, "Sl")
    local line <const> = line_of(info.source, info.currentline)
    local path <const> = line and line:match("([%a_][%w_.]*)%s*[.:]%s*" .. name .. "%f[^%w_]")
    if not path then return nil end
    local value
    for word in path:gmatch "[^.]+" do
        if value == nil then
            value = variable(level + 1, word)
        else
            value = type(value) == "table" and rawget(value, word) or nil
        end
        if value == nil then return nil end
    end
    return value
end

--- Lua's own libraries, and the loaded modules of dbrun.
local LIBRARIES <const> = { "string", "table", "math", "io", "os", "coroutine", "utf8", "debug", "package" }

---The nearest name in all libraries, when the object is unknown: code of -e and of the prompt has no file, and the
---result of a call has no name.
local function in_libraries(kind, name)
    local names <const>, full <const> = {}, {}
    local function add(prefix, values)
        for key, value in next, values do
            if type(key) == "string" and type(value) == "function" and not full[key] then
                names[#names + 1], full[key] = key, prefix .. key
            end
        end
    end
    for _, library in ipairs(LIBRARIES) do
        if kind == "field" or library == "string" then add(library .. (kind == "field" and "." or ":"), _G[library]) end
    end
    for module, value in next, kind == "field" and package.loaded or {} do
        local short <const> = type(module) == "string" and module:match "^dbrun%.([%l_]+)$"
        if short and short ~= "core" and type(value) == "table" then add(short .. ".", value) end
    end
    table.sort(names)
    return full[nearest.find(name, names, 2)]
end

local LARGEST <const> = 1 << 20

---The nearest name in the file of the error, for a task or a coroutine whose stack is gone: names after a dot or a
---colon, and names that are assigned to.
local function in_file(message, name)
    local path <const> = message:match "^([^:\n]+):%d+: "
    local file <close> = path and io.open(path, "rb")
    local size <const> = file and file:seek "end"
    if not size or size > LARGEST or not file:seek "set" then return nil end
    local text <const>, names <const>, seen <const> = file:read "a", {}, { [name] = true }
    for _, pattern in ipairs { "[.:]%s*([%a_][%w_]*)", "([%a_][%w_]*)%s*=%f[^=]" } do
        for word in (text or ""):gmatch(pattern) do
            if not seen[word] then
                seen[word] = true
                names[#names + 1] = word
            end
        end
    end
    table.sort(names)
    return nearest.find(name, names, 2)
end

---@param message string of an error
---@param level integer 1: the function that called this one
---@return string? near
local function find(message, level)
    local kind <const>, name <const> = message:match "attempt to call a nil value %((%l+) '([%a_][%w_]*)'%)$"
    if not kind then return nil end
    local names <const> = {}
    if kind == "global" then
        add_names(names, _G, 0)
    elseif kind == "field" or kind == "method" then
        local value <const> = object(level + 1, name)
        if value == nil then return in_libraries(kind, name) or in_file(message, name) end
        add_names(names, value, 0)
    end
    table.sort(names)
    return nearest.find(name, names)
end

---The hint for an error that is being raised.
---@param message string
---@param level integer 1: the function that called this one
---@return string? hint
function M.hint(message, level)
    local ok <const>, near <const> = pcall(find, message, level + 2)
    return ok and near and ("did you mean '%s'?"):format(near) or nil
end

---The error text of a task that has ended, with a hint before its traceback.
---@param text string
---@return string? text nil: there is no hint
function M.later(text)
    local first <const>, rest <const> = text:match "^([^\n]*)(.*)$"
    local kind <const>, name <const> = first:match "attempt to call a nil value %((%l+) '([%a_][%w_]*)'%)$"
    if not kind or rest:find("^\nHINT:") then return nil end
    local near <const> = in_libraries(kind, name) or in_file(first, name)
    return near and ("%s\nHINT:  did you mean '%s'?%s"):format(first, near, rest) or nil
end

---The hint for a module of dbrun that is not found.
---@param name string
---@param modules string[] the existing ones
---@return string? text
function M.module(name, modules)
    local near <const> = nearest.find(name, modules, 2)
    return near and ("did you mean '%s'?"):format(near) or nil
end

return M
