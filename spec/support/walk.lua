--- Calls public functions with arguments that they must refuse: for each parameter a value of each type that its
--- annotation does not allow, and nil when it is required; for each table of options an unknown key and options of
--- wrong types; each method on a value that is not its object. The other arguments are right. Each call must raise an
--- error of kind `usage` that names the function or the argument, and the line of the call.

local annotations <const> = require "dbrun.manual.annotations"
local errors <const> = require "dbrun.error"
local task <const> = require "dbrun.task"

local M = {}

---@class spec.Walk
---@field all table the result of annotations.read
---@field make table<string, fun(): any> how to make an object of a class
---@field values table<string, any> right values: by "fs.read path", or by the name of a parameter
---@field accepted table<string, string> calls that must be accepted, with the reason: ["tty.width fd = nil"] = "..."
---@field functions integer the number of functions that were called
---@field calls integer
---@field problems string[]
local Walk <const> = {}
Walk.__index = Walk

local LIMIT <const> = 20 -- seconds for the calls of one function: one that waits has accepted a wrong argument

local SAMPLES <const> = {
    string = "not right", number = 5, boolean = true, table = {}, ["function"] = function() end,
    thread = coroutine.create(function() end), userdata = io.stdout,
}
local ORDER <const> = { "string", "number", "boolean", "table", "function", "thread", "userdata" }

local PLAIN <const> = {
    string = "string", integer = "number", number = "number", boolean = "boolean", table = "table",
    ["function"] = "function", thread = "thread", userdata = "userdata", lightuserdata = "userdata",
    ["file*"] = "userdata", ["nil"] = "nil", ["true"] = "boolean", ["false"] = "boolean",
}

---@param options { all: table, make?: table, values?: table, accepted?: table }
---@return spec.Walk
function M.new(options)
    return setmetatable({
        all = options.all, make = options.make or {}, values = options.values or {}, used = {}, objects = {}, made = {},
        accepted = options.accepted or {}, functions = 0, calls = 0, problems = {},
    }, Walk)
end

-- ---- types ----

---The Lua types that a type allows; all of them for `any`, and for unknown types.
---@param kind spec.Type
---@param into? table<string, boolean>
---@return table<string, boolean>
function Walk:types(kind, into)
    into = into or {}
    if kind.kind == "literal" then
        into[type(kind.value)] = true
    elseif kind.kind == "union" then
        for _, one in ipairs(kind.of) do self:types(one, into) end
    elseif kind.kind == "array" or kind.kind == "table" then
        into.table = true
    elseif kind.kind == "fun" then
        into["function"] = true
    elseif PLAIN[kind.name] then
        into[PLAIN[kind.name]] = true
    elseif self.all.aliases[kind.name] then
        self:types(self.all.aliases[kind.name], into)
    elseif self.make[kind.name] then
        into[type(self:object(kind.name))] = true
    elseif self.all.classes[kind.name] then
        into.table = true
    else
        into.any = true
    end
    return into
end

---An object of a class; it is made once.
function Walk:object(class)
    if not self.objects[class] then
        self.objects[class] = self.make[class]()
        table.insert(self.made, 1, self.objects[class])
    end
    return self.objects[class]
end

---The fields of a table of options: of an annotation {a?: b}, or of a class without methods. A union may have several.
---@param kind spec.Type?
---@param into? spec.Param[]
---@return spec.Param[]? nil when the type has none
function Walk:options(kind, into)
    if not kind then return into end
    if self.all.aliases[kind.name] then return self:options(self.all.aliases[kind.name], into) end
    local class <const> = kind.kind == "name" and not self.make[kind.name] and self.all.classes[kind.name]
    if kind.kind == "union" then
        for _, one in ipairs(kind.of) do into = self:options(one, into) end
    elseif kind.kind == "table" then
        into = into or {}
        for _, field in ipairs(kind.fields) do into[#into + 1] = field end
    elseif class and not class.open and next(class.methods) == nil then
        into = into or {}
        for _, field in pairs(class.fields) do into[#into + 1] = field end
    end
    return into
end

---A right value.
---@param label string
---@param param spec.Param
---@return any
function Walk:value(label, param)
    local own = self.values[label .. " " .. param.name]
    if own == nil then own = self.values[param.name] end
    if own ~= nil then return own end
    if not param.type then return nil end
    return self:value_of(label, param.type)
end

function Walk:value_of(label, kind)
    if kind.kind == "literal" then
        return kind.value
    elseif kind.kind == "union" then
        return self:value_of(label, kind.of[1])
    elseif kind.kind == "array" then
        return { self:value_of(label, kind.of) }
    elseif kind.kind == "fun" then
        return function() end
    elseif self.all.aliases[kind.name] then
        return self:value_of(label, self.all.aliases[kind.name])
    elseif self.make[kind.name] then
        return self:object(kind.name)
    elseif PLAIN[kind.name] and PLAIN[kind.name] ~= "table" then
        local samples <const> = { string = "x", number = 1, boolean = true, ["function"] = function() end }
        return samples[PLAIN[kind.name]]
    end
    local value <const> = {}
    for _, field in ipairs(self:options(kind) or {}) do
        if not field.optional and field.type then value[field.name] = self:value(label, field) end
    end
    return value
end

-- ---- calls ----

---@param what string "fs.read path = a table"
function Walk:problem(what, text)
    self.problems[#self.problems + 1] = what .. ": " .. text
end

---Makes one call that must be refused.
---@param label string
---@param fn function
---@param what string
---@param name string the argument
---@param args table with n
function Walk:call(label, fn, what, name, args)
    local case <const> = ("%s %s"):format(label, what)
    if self.accepted[case] or self.accepted[label .. " " .. name] then
        self.used[self.accepted[case] and case or label .. " " .. name] = true
        return
    end
    self.calls = self.calls + 1
    local here
    local ok <const>, e <const> = pcall(function()
        here = debug.getinfo(1, "S").short_src .. ":" .. debug.getinfo(1, "l").currentline + 1
        fn(table.unpack(args, args[0] == nil and 1 or 0, args.n)) -- 0: the object of a method
        return nil -- no tail call: the line stays
    end)
    if ok then
        self:problem(case, "it was taken")
    elseif not errors.is(e, "usage") then
        self:problem(case, (errors.is(e) and e.kind .. " error: " or "no error object: ") .. tostring(e))
    elseif e.where ~= here then
        self:problem(case, ("the error names %s instead of %s: %s"):format(tostring(e.where), here, e.message))
    elseif not (e.message:find(label:match "[%w_]+$", 1, true) or e.message:find(name, 1, true)) then
        self:problem(case, "the error names neither function nor argument: " .. e.message)
    end
end

---Values of all types that a type does not allow.
---@return fun(): string?, any
function Walk:wrong(kind)
    local types <const> = self:types(kind)
    local at = types.any and #ORDER or 0
    return function()
        repeat at = at + 1 until not types[ORDER[at]]
        return ORDER[at], SAMPLES[ORDER[at]]
    end
end

local function copy(t)
    local new <const> = {}
    for key, value in pairs(t) do new[key] = value end
    return new
end

---@param args table the right arguments, with n
function Walk:walk_param(label, fn, params, args, i)
    local param <const> = params[i]
    local function with(value)
        local changed <const> = table.move(args, 0, args.n, 0, { n = math.max(args.n, i) })
        changed[i] = value
        return changed
    end
    if not param.type then
        if param.name ~= "..." then self:problem(label, ("the parameter '%s' has no annotation"):format(param.name)) end
        return
    end
    local function say(text, ...) return ("%s%s"):format(param.name, text:format(...)) end
    for sample, value in self:wrong(param.type) do
        self:call(label, fn, say(" = %s", sample), param.name, with(value))
    end
    if not param.optional and not annotations.allows(param.type, "any") then
        self:call(label, fn, say " = nil", param.name, with(nil))
    end
    if param.type.kind == "array" then
        for sample, value in self:wrong(param.type.of) do
            self:call(label, fn, say("[1] = %s", sample), param.name, with { value })
        end
    end
    local options <const> = self:options(param.type)
    if not options then return end
    local given = self:value(label, param)
    if type(given) ~= "table" then given = {} end -- one of several types
    local unknown <const> = copy(given)
    unknown.unknown_key = 1
    self:call(label, fn, say ".unknown_key", "unknown_key", with(unknown))
    for _, field in ipairs(options) do
        for sample, value in self:wrong(field.type or { kind = "name", name = "any" }) do
            if value ~= false then
                local changed <const> = copy(given)
                changed[field.name] = value
                self:call(label, fn, say(".%s = %s", field.name, sample), field.name, with(changed))
            end
        end
    end
end

---Walks one function.
---@param label string as scripts call it, "fs.read", "queue:push"
---@param f spec.Function?
---@param fn function
---@param object? any of a method
function Walk:walk(label, f, fn, object)
    self.functions = self.functions + 1
    if not f or not f.documented then
        self:problem(label, "it has no annotations")
        return
    end
    local args <const> = { [0] = object, n = 0 }
    for i, param in ipairs(f.params) do
        local given <const> = param.name ~= "..." and (not param.optional or self.values[label .. " " .. param.name])
        if given then args[i], args.n = self:value(label, param), i end
    end
    if object ~= nil then -- object.method() in place of object:method()
        for sample, value in pairs { ["nil"] = false, table = SAMPLES.table, string = SAMPLES.string } do
            local changed = table.move(args, 1, args.n, 1, { [0] = value, n = args.n })
            if not value then changed = table.move(args, 1, args.n, 1, { n = args.n }) end
            self:call(label, fn, "called on " .. sample, label:match "^[^:]+", changed)
        end
    end
    for i in ipairs(f.params) do
        local ok <const>, e <const> = pcall(task.timeout, LIMIT, self.walk_param, self, label, fn, f.params, args, i)
        if not ok then self:problem(label, tostring(e)) end
    end
end

-- ---- functions ----

---Where a Lua function was defined, as a key: "lua/dbrun/fs.lua:35".
local function place_of(fn)
    local info <const> = debug.getinfo(fn, "S")
    local file <const> = info.source:match "^[=@].-(dbrun/.*)$"
    return file and ("lua/%s:%d"):format(file, info.linedefined)
end

---The annotation of a function.
---@param fn function
---@param otherwise spec.Function? the annotation by name, for a C function or one that another function makes
---@return spec.Function?
function Walk:annotation(fn, otherwise)
    if not self.places then
        self.places = {}
        for file, list in pairs(self.all.functions) do
            for _, f in pairs(list) do self.places[("%s:%d"):format(file, f.line)] = f end
        end
    end
    local found <const> = self.places[place_of(fn) or ""]
    local typed = found and found.documented
    for _, param in ipairs(found and found.params or {}) do
        typed = typed and (param.type ~= nil or param.name == "...")
    end
    return typed and found or otherwise or found
end

local function sorted(t)
    local names <const> = {}
    for name in pairs(t) do names[#names + 1] = name end
    table.sort(names)
    return names
end

---Walks all functions of a module.
---@param name string "fs"
---@param module table
---@param file string
function Walk:module(name, module, file)
    for _, key in ipairs(sorted(module)) do
        local value <const> = module[key]
        if type(value) == "function" then
            self:walk(name .. "." .. key, self:annotation(value, self.all.functions[file]["M." .. key]), value)
        end
    end
end

---Walks the functions that a class has as fields.
---@param name string "config"
---@param object table
---@param class string
function Walk:fields(name, object, class)
    local fields <const> = self.all.classes[class].fields
    for _, key in ipairs(sorted(fields)) do
        local kind <const> = fields[key].type
        if kind and kind.kind == "fun" then
            local f <const> = { params = kind.params, returns = kind.returns, documented = true }
            self:walk(name .. "." .. key, f, object[key])
        end
    end
end

---Walks all methods of an object.
---@param name string "queue"
---@param class string "dbrun.Queue"
function Walk:methods(name, class)
    local object <const> = self:object(class)
    local methods, hidden = {}, {}
    local at = class
    while self.all.classes[at] do
        local c <const> = self.all.classes[at]
        for key, f in pairs(c.methods) do methods[key] = methods[key] or f end
        for key, field in pairs(c.fields) do hidden[key] = hidden[key] or field.hidden end
        at = c.parent
    end
    local there <const> = {}
    local index = getmetatable(object).__index
    while type(index) == "table" do
        for key, value in pairs(index) do
            if type(value) == "function" and type(key) == "string" then there[key] = there[key] or value end
        end
        local above <const> = getmetatable(index)
        index = above and above.__index
    end
    for key in pairs(self.all.classes[class].methods) do
        local ok <const>, value <const> = pcall(function() return object[key] end)
        there[key] = there[key] or ok and value or nil
        if not there[key] and not key:find "^__" then
            self:problem(name .. ":" .. key, "it has an annotation, but is not there")
        end
    end
    local open = false -- a class with an index field makes its methods on demand
    at = class
    while self.all.classes[at] do
        open, at = open or self.all.classes[at].open, self.all.classes[at].parent
    end
    for _, key in ipairs(sorted(there)) do
        local known <const> = methods[key] or not open or debug.getinfo(there[key], "S").what ~= "C"
        if not key:find "^__" and not hidden[key] and known then
            self:walk(name .. ":" .. key, self:annotation(there[key], methods[key]), there[key], object)
        end
    end
end

---Closes the objects. Entries of `accepted` that no call needed are problems, too.
function Walk:finish()
    for _, case in ipairs(sorted(self.accepted)) do
        if not self.used[case] then self:problem(case, "it is listed as accepted, but there is no such call") end
    end
    for _, object in ipairs(self.made) do -- the last one first
        local close <const> = (getmetatable(object) or {}).__close
        if close then close(object) end
    end
    return self.problems
end

return M
