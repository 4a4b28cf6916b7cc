--- Reads the LuaCATS annotations of Lua sources: which functions and classes there are, and the types of their
--- parameters.
---
---     local all = annotations.read { "lua/dbrun/fs.lua", ... }
---     all.functions["lua/dbrun/fs.lua"]["M.read"].params[1].type      -- { kind = "name", name = "string" }
---     all.classes["dbrun.Queue"].methods.push

local M = {}

---@alias spec.TypeKind "name"|"literal"|"union"|"array"|"table"|"fun"|"rest"

---@class spec.Type
---@field kind spec.TypeKind
---@field name? string of a name
---@field value? string|number of a literal
---@field args? spec.Type[] of a name: what stands between < and >
---@field of? spec.Type[]|spec.Type of a union: its alternatives; of an array: its elements
---@field fields? spec.Param[] of a table
---@field params? spec.Param[] of a function
---@field returns? spec.Type[] of a function

---@class spec.Param
---@field name string
---@field type? spec.Type nil: there is no annotation
---@field optional boolean

---@class spec.Function
---@field file string
---@field line integer
---@field documented boolean it has an annotation, or a comment and neither parameters nor results
---@field params spec.Param[] without self
---@field returns spec.Type[]

---@class spec.Class
---@field name string
---@field parent? string
---@field fields table<string, spec.Param>
---@field methods table<string, spec.Function>
---@field file string
---@field open boolean further keys are allowed: `[string] type`

-- ---- types ----

local parse_type

local function fail(text, at)
    error(("there is no type at '%s' in '%s'"):format(text:sub(at, at + 20), text), 0)
end

---`name?: type` and the like, up to a closing bracket.
local function parse_fields(text, at, close)
    local fields <const> = {}
    at = text:match("^%s*()", at)
    while text:sub(at, at) ~= close do
        local name, optional, behind = text:match("^([%w_.]+)(%??)%s*:%s*()", at)
        local kind
        if not name and text:find("^%[", at) then
            name, behind = text:match("^(%b[])%s*:%s*()", at)
        end
        if name then
            kind, at = parse_type(text, behind)
        else -- a parameter without a type
            name, optional, behind = text:match("^([%w_.]+)(%??)()", at)
            if not name then fail(text, at) end
            at = behind
        end
        fields[#fields + 1] = { name = name, type = kind, optional = optional == "?" or M.allows(kind, "nil") }
        at = text:match("^%s*,?%s*()", at)
        if at > #text then fail(text, at) end
    end
    return fields, at + 1
end

local function parse_list(text, at, close)
    local list <const> = {}
    repeat
        list[#list + 1], at = parse_type(text, at)
        -- in { f: fun(): integer, g: string } the comma ends the function's type
        local comma <const> = not text:find("^%s*,%s*[%w_]+%??%s*:", at) and text:match("^%s*,%s*()", at)
        at = comma or at
    until not comma
    if close then
        at = text:match("^%s*" .. close .. "()", at) or fail(text, at)
    end
    return list, at
end

local function parse_primary(text, at)
    local quote <const>, word <const>, past <const> = text:match("^([\"'])(.-)%1()", at)
    if quote then return { kind = "literal", value = word }, past end
    local digits <const>, behind_digits <const> = text:match("^(%-?%d+)()", at)
    if digits then return { kind = "literal", value = math.tointeger(digits) }, behind_digits end
    local open <const> = text:sub(at, at)
    if open == "(" then
        local list <const>, behind <const> = parse_list(text, text:match("^%s*()", at + 1), "%)")
        return list[1], behind
    elseif open == "{" then
        local fields <const>, behind <const> = parse_fields(text, at + 1, "}")
        return { kind = "table", fields = fields }, behind
    elseif text:find("^fun%(", at) then
        local result <const> = { kind = "fun", returns = {} }
        result.params, at = parse_fields(text, at + 4, ")")
        local colon <const> = text:match("^%s*:%s*()", at)
        if colon then result.returns, at = parse_list(text, colon) end
        return result, at
    elseif text:find("^%.%.%.", at) then
        return { kind = "rest" }, at + 3
    end
    local name, behind = text:match("^([%a_][%w_.]*%*?)()", at)
    if not name then fail(text, at) end
    local result <const> = { kind = "name", name = name }
    if text:find("^<", behind) then
        result.args, behind = parse_list(text, behind + 1, ">")
    end
    return result, behind
end

local function parse_postfix(text, at)
    local result
    result, at = parse_primary(text, at)
    while true do
        if text:find("^%[%]", at) then
            result, at = { kind = "array", of = result }, at + 2
        elseif text:find("^%?", at) then
            result, at = { kind = "union", of = { result, { kind = "name", name = "nil" } } }, at + 1
        else
            return result, at
        end
    end
end

---Parses the type at the beginning of a text.
---@param text string
---@param at? integer
---@return spec.Type
---@return integer behind the position behind it
function parse_type(text, at)
    local list <const> = {}
    at = at or 1
    repeat
        list[#list + 1], at = parse_postfix(text, at)
        local bar <const> = text:match("^|()", at)
        at = bar or at
    until not bar
    return #list == 1 and list[1] or { kind = "union", of = list }, at
end
M.parse_type = parse_type

---Is nil, or another name of a type, one of its alternatives?
---@param kind spec.Type?
---@param name string
---@return boolean
function M.allows(kind, name)
    if not kind then return false end
    if kind.kind == "name" then return kind.name == name end
    for _, one in ipairs(kind.kind == "union" and kind.of or {}) do
        if M.allows(one, name) then return true end
    end
    return false
end

-- ---- comments ----

---The tags of a comment, each with the lines that belong to it.
local function tags_of(block)
    local tags <const> = {}
    for _, line in ipairs(block) do
        local tag <const>, text <const> = line:match "^@(%a+)%s*(.*)$"
        local last <const> = tags[#tags]
        if tag then
            tags[#tags + 1] = { tag = tag, text = text }
        elseif last and line:find "^|" then
            last.text = last.text .. "|" .. line:match "^|%s*(.-)%s*$":gsub("%s*#.*$", "")
        end
    end
    return tags
end

local function param_of(text)
    local name <const>, optional <const>, behind <const> = text:match "^([%w_.]+)(%??)%s*()"
    local kind <const> = parse_type(text, behind)
    return { name = name, type = kind, optional = optional == "?" or M.allows(kind, "nil") }
end

---@return spec.Function
local function function_of(file, line, tags, names, has_comment)
    local f <const> = { file = file, line = line, params = {}, returns = {}, documented = false }
    local given <const> = {}
    for _, tag in ipairs(tags) do
        if tag.tag == "param" then
            local param <const> = param_of(tag.text)
            given[param.name] = param
        elseif tag.tag == "return" then
            f.returns[#f.returns + 1] = parse_type(tag.text)
        elseif tag.tag == "type" then
            local kind <const> = parse_type(tag.text)
            if kind.kind == "fun" then
                f.returns, names = kind.returns, {}
                for i, param in ipairs(kind.params) do
                    names[i], given[param.name] = param.name, param
                end
            end
        end
    end
    for i, name in ipairs(names) do
        f.params[i] = given[name] or { name = name, optional = false }
        if name == "..." then f.params[i].optional = true end
    end
    f.documented = has_comment or #f.params == 0 and #f.returns > 0
    return f
end

---Takes the classes and aliases of a comment.
local function take_classes(all, tags)
    local class
    for _, tag in ipairs(tags) do
        if tag.tag == "class" then
            local name <const>, parent <const> = tag.text:match "^([%w_.]+)%s*:?%s*([%w_.]*)"
            class = all.classes[name] or { name = name, fields = {}, methods = {}, open = false }
            class.parent = parent ~= "" and parent or class.parent
            all.classes[name] = class
        elseif tag.tag == "alias" then
            local name <const>, text <const> = tag.text:match "^([%w_.]+)%s*|?%s*(.*)$"
            all.aliases[name] = text ~= "" and parse_type(text) or nil
        elseif tag.tag == "field" and class then
            local text = tag.text
            local hidden <const> = text:match "^package%s+()" or text:match "^private%s+()"
            text = hidden and text:sub(hidden) or text
            if text:find "^%[" then
                class.open = true
            else
                local field <const> = param_of(text)
                class.fields[field.name] = field
                field.hidden = hidden ~= nil
            end
        end
    end
    return class
end

---A field `name fun(self: class, ...)` as a method.
local function method_of(file, field)
    if not field.type or field.type.kind ~= "fun" or not (field.type.params[1] or {}).name then return nil end
    if field.type.params[1].name ~= "self" then return nil end
    local f <const> = { file = file, line = 0, documented = true, params = {}, returns = field.type.returns }
    for i = 2, #field.type.params do
        f.params[i - 1] = field.type.params[i]
        if f.params[i - 1].name == "..." then f.params[i - 1].optional = true end
    end
    return f
end

---The names between the brackets of `function name(...)`.
local function names_of(text)
    local names <const> = {}
    for name in text:gmatch "[%w_.]+" do names[#names + 1] = name end
    return names
end

---One line of code with the comment above it.
local function take_code(all, file, number, line, block, variables)
    local ok <const>, tags <const> = pcall(tags_of, block)
    assert(ok, tags)
    local class <const> = take_classes(all, tags)
    local variable <const> = line:match "^%s*local%s+([%a_][%w_]*)"
    if class then variables[variable or ""] = class end
    for _, tag in ipairs(tags) do -- a class whose variable was made elsewhere has its name
        local name <const> = tag.tag == "class" and tag.text:match "^[%w_.]+"
        if name then variables[name:match "[%w_]+$"] = all.classes[name] end
    end
    local owner, mark, name, rest = line:match "^%s*function%s+([%w_.]-)([.:])([%a_][%w_]*)%s*(%b())"
    if not owner then
        owner, name = line:match "^([%a_][%w_]*)%.([%a_][%w_]*)%s*="
        mark, rest = ".", "()"
        local typed = false
        for _, tag in ipairs(tags) do typed = typed or tag.tag == "type" or tag.tag == "param" end
        if not owner or not typed then return end
    end
    local names <const> = names_of(rest)
    for _, tag in ipairs(tags) do
        if rest == "()" and tag.tag == "param" then names[#names + 1] = tag.text:match "^[%w_.]+" end
    end
    local f <const> = function_of(file, number, tags, names, #block > 0)
    all.functions[file][owner .. mark .. name] = f
    owner = owner:gsub("%.__index$", "")
    if variables[owner] then variables[owner].methods[name] = f end
end

local function read_file(all, file)
    local block, variables, number = {}, {}, 0
    all.functions[file] = {}
    for line in io.lines(file) do
        number = number + 1
        local comment <const> = line:match "^%s*%-%-%-%s?(.*)$"
        if comment then
            block[#block + 1] = comment
        else
            local ok <const>, why <const> = pcall(take_code, all, file, number, line, block, variables)
            if not ok then error(("%s:%d: %s"):format(file, number, why), 0) end
            block = {}
        end
    end
end

---Reads the annotations of these files.
---@param files string[]
---@return { classes: table<string, spec.Class>, aliases: table<string, spec.Type>, functions: table<string, table> }
function M.read(files)
    local all <const> = { classes = {}, aliases = {}, functions = {} }
    for _, file in ipairs(files) do read_file(all, file) end
    for _, class in pairs(all.classes) do
        for name, field in pairs(class.fields) do
            local f <const> = not field.hidden and method_of(class.name, field)
            if f then class.methods[name] = f end
        end
    end
    return all
end

return M
