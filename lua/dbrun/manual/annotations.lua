--- Reads the LuaCATS annotations of Lua sources: which functions and classes there are, what is said about them, and
--- the types of their parameters.
---
---     local all = annotations.read { "lua/dbrun/fs.lua", ... }
---     all.functions["lua/dbrun/fs.lua"]["M.read"].params[1].type      -- { kind = "name", name = "string" }
---     all.classes["dbrun.Queue"].methods.push
---
--- Beside LuaCATS' own tags a comment has lines that begin with "Raises", and examples between ``` and ```: what a line
--- of it prints follows `-->`.
local comments <const> = require "dbrun.manual.comments"
local types <const> = require "dbrun.manual.types"

local M = {}

---@class dbrun.manual.Return
---@field type string as it is written
---@field about string

---@class dbrun.manual.Function
---@field file string
---@field line integer
---@field documented boolean it has an annotation, or a comment and neither parameters nor results
---@field params dbrun.manual.Param[] without self
---@field given table<string, boolean> names that have their own @param
---@field returns dbrun.manual.Type[]
---@field results dbrun.manual.Return[]
---@field about string
---@field raises string
---@field examples string[]
---@field refuses_rest? boolean it takes `...` only to refuse it: the annotation has no such arguments
---@field value? dbrun.manual.Type it is no function, but a value of this type

---@class dbrun.manual.Class
---@field name string
---@field parent? string
---@field fields table<string, dbrun.manual.Param>
---@field order string[] names of its fields
---@field methods table<string, dbrun.manual.Function>
---@field file string
---@field about string
---@field raises string of methods that say nothing themselves
---@field open boolean further keys are allowed: `[string] type`

M.allows = types.allows
M.type_text = types.text
M.parse_type = types.parse

local function param_of(tag)
    local name <const>, optional <const>, behind <const> = tag.text:match "^([%w_.]+)(%??)%s*()"
    local kind <const>, last <const> = types.parse(tag.text, behind)
    return {
        name = name, type = kind, optional = optional == "?" or types.allows(kind, "nil"),
        about = comments.joined(tag.text:sub(last), tag.more),
    }
end

---Parses a @return: types, separated by commas, then names and text.
local function result_of(tag)
    local kind <const>, at = types.parse(tag.text)
    local from <const> = at
    while tag.text:find("^,%s*", at) do
        local ok <const>, _, last = pcall(types.parse, tag.text, tag.text:match("^,%s*()", at))
        if not ok then break end
        at = last
    end
    local result <const> = { type = tag.text:sub(1, at - 1), about = comments.joined(tag.text:sub(at), tag.more) }
    return kind, result, from
end

local function results_of_types(list)
    local results <const> = {}
    for i, kind in ipairs(list) do results[i] = { type = types.text(kind), about = "" } end
    return results
end

---@return dbrun.manual.Function
local function function_of(file, line, comment, names, has_comment)
    local f <const> = {
        file = file, line = line, params = {}, given = {}, returns = {}, results = {}, documented = false,
        about = comment.about, raises = comment.raises, examples = comment.examples,
    }
    local given <const> = {}
    for _, tag in ipairs(comment.tags) do
        if tag.tag == "param" then
            local param <const> = param_of(tag)
            given[param.name], f.given[param.name] = param, true
        elseif tag.tag == "return" then
            f.returns[#f.returns + 1], f.results[#f.results + 1] = result_of(tag)
        elseif tag.tag == "type" then
            local kind <const>, behind <const> = types.parse(tag.text)
            if kind.kind ~= "fun" then
                f.value = kind
                f.about = f.about ~= "" and f.about or comments.joined(tag.text:sub(behind), tag.more)
            else
                f.returns, names = kind.returns, {}
                f.results = results_of_types(kind.returns)
                for i, param in ipairs(kind.params) do
                    names[i], given[param.name] = param.name, param
                end
            end
        end
    end
    f.refuses_rest = names[#names] == "..." and not given["..."]
    for i, name in ipairs(names) do
        f.params[i] = given[name] or { name = name, optional = false }
        if name == "..." then f.params[i].optional = true end
    end
    f.documented = has_comment or #f.params == 0 and #f.returns > 0
    return f
end

local function new_class(name)
    return { name = name, fields = {}, order = {}, methods = {}, open = false, about = "", raises = "" }
end

local function take_field(class, tag)
    local text = tag.text
    local hidden <const> = text:match "^package%s+()" or text:match "^private%s+()"
    text = hidden and text:sub(hidden) or text
    if text:find "^%[" then
        class.open = true
        return
    end
    local field <const> = param_of { text = text, more = tag.more }
    class.fields[field.name] = field
    class.order[#class.order + 1] = field.name
    field.hidden = hidden ~= nil
    field.examples, field.raises = tag.examples, comments.joined("", tag.raises)
end

---Takes the classes and aliases of a comment.
local function take_classes(all, comment, file)
    local class
    for _, tag in ipairs(comment.tags) do
        if tag.tag == "class" then
            local name <const>, parent <const> = tag.text:match "^([%w_.]+)%s*:?%s*([%w_.]*)"
            class = all.classes[name] or new_class(name)
            class.parent = parent ~= "" and parent or class.parent
            class.file = file
            class.about = class.about ~= "" and class.about or comment.about
            class.raises = class.raises ~= "" and class.raises or comment.raises
            all.classes[name] = class
        elseif tag.tag == "alias" then
            local name <const>, text <const> = tag.text:match "^([%w_.]+)%s*|?%s*(.*)$"
            all.aliases[name] = text ~= "" and types.parse(text) or nil
        elseif tag.tag == "field" and class then
            take_field(class, tag)
        end
    end
    return class
end

---A field `name fun(self: class, ...)` as a method.
local function method_of(class, field)
    if not field.type or field.type.kind ~= "fun" or not (field.type.params[1] or {}).name then return nil end
    if field.type.params[1].name ~= "self" then return nil end
    local f <const> = {
        file = class.name, line = 0, documented = true, params = {}, given = {}, returns = field.type.returns,
        results = results_of_types(field.type.returns), about = field.about or "", raises = field.raises or "",
        examples = field.examples or {},
    }
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
    local ok <const>, comment <const> = pcall(comments.read, block)
    assert(ok, comment)
    local tags <const> = comment.tags
    local class <const> = take_classes(all, comment, file)
    local variable <const> = line:match "^%s*local%s+([%a_][%w_]*)"
    if class then variables[variable or ""] = class end
    for _, tag in ipairs(tags) do -- a class whose variable was made elsewhere has its name
        local name <const> = tag.tag == "class" and tag.text:match "^[%w_.]+"
        if name then variables[name:match "[%w_]+$"] = all.classes[name] end
    end
    local owner, mark, name, rest = line:match "^%s*function%s+([%w_.]-)([.:])([%a_][%w_]*)%s*(%b())"
    if not owner then
        local elsewhere
        owner, name, elsewhere = line:match "^([%a_][%w_]*)%.([%a_][%w_]*)%s*=%s*([%a_][%w_.]*)%s*$"
        if owner == "M" and elsewhere and #block == 0 then all.same[file][name] = elsewhere end
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
    local f <const> = function_of(file, number, comment, names, #block > 0)
    all.functions[file][owner .. mark .. name] = f
    owner = owner:gsub("%.__index$", "")
    if type(variables[owner]) == "table" then
        variables[owner].methods[name] = f
    elseif variables[owner] then
        all.later[#all.later + 1] = { class = variables[owner], name = name, f = f }
    end
end

---`---@param Client dbrun.redis.Client` above a function that adds methods to a class which stands elsewhere.
local function take_parameters(block, variables)
    for _, line in ipairs(block) do
        local name <const>, class <const> = line:match "^@param (%u[%w_]*) (dbrun[%w_.]*)"
        if name and not variables[name] then variables[name] = class end
    end
end

local function read_text(all, file, text)
    local block, variables, number = {}, {}, 0
    all.functions[file], all.same[file] = {}, {}
    for line in (text .. "\n"):gmatch "(.-)\n" do
        number = number + 1
        local comment <const> = line:match "^%s*%-%-%-%s?(.*)$"
        if comment then
            block[#block + 1] = comment
        else
            local ok <const>, why <const> = pcall(take_code, all, file, number, line, block, variables)
            if not ok then error(("%s:%d: %s"):format(file, number, why), 0) end
            take_parameters(block, variables)
            if number - 1 == #block and #block > 0 then all.files[file] = comments.read(block) end
            block = {}
        end
    end
end

local function text_of(file)
    local f <close> = assert(io.open(file, "rb"))
    return assert(f:read "a")
end

---@class dbrun.manual.Annotations
---@field classes table<string, dbrun.manual.Class>
---@field aliases table<string, dbrun.manual.Type>
---@field functions table<string, table<string, dbrun.manual.Function>> by file, then by "M.name", "Class:name"
---@field same table<string, table<string, string>> by file: functions that are another's, `M.ident = params.ident`
---@field later { class: string, name: string, f: dbrun.manual.Function }[] methods added in other files
---@field files table<string, dbrun.manual.Comment> what stands at the top of a file

---Reads the annotations of these files.
---@param files string[]
---@param read? fun(file: string): string gives the text of a file
---@return dbrun.manual.Annotations
function M.read(files, read)
    local all <const> = { classes = {}, aliases = {}, functions = {}, same = {}, files = {}, later = {} }
    for _, file in ipairs(files) do read_text(all, file, (read or text_of)(file)) end
    for _, one in ipairs(all.later) do
        if all.classes[one.class] then all.classes[one.class].methods[one.name] = one.f end
    end
    for _, class in pairs(all.classes) do
        for name, field in pairs(class.fields) do
            local f <const> = not field.hidden and method_of(class, field)
            if f then class.methods[name] = f end
        end
    end
    return all
end

return M
