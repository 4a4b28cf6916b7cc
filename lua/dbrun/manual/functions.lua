--- The public functions, and the lookup of a function by name.
local annotations <const> = require "dbrun.manual.annotations"
local objects <const> = require "dbrun.manual.objects"
local texts <const> = require "dbrun.manual.texts"

local M = {}

---@class dbrun.manual.Entry
---@field id string "engine:query", "task.sleep", "config.DB_POOL_SIZE"
---@field owner string
---@field name string
---@field names string[] the words that can precede `name`
---@field f? dbrun.manual.Function
---@field field? dbrun.manual.Param of a value
---@field class? dbrun.manual.Class of a method
---@field module? string
---@field like? string[] classes with a method that does the same
---@field raises string what all of its class or module raise
---@field chapter string

---@class dbrun.manual.Functions
---@field all dbrun.manual.Annotations
---@field entries dbrun.manual.Entry[] sorted by id
---@field by_id table<string, dbrun.manual.Entry>
local Functions <const> = {}
Functions.__index = Functions

local function file_of(module)
    return ("dbrun/%s.lua"):format((module:gsub("%.", "/")))
end

function Functions:add(entry)
    if self.by_id[entry.id] then return end
    self.by_id[entry.id] = entry
    self.entries[#self.entries + 1] = entry
end

---The function that `M.name = other.name` stands for.
local function same(all, file, target)
    local module <const>, name <const> = target:match "^([%w_]+)%.([%w_]+)$"
    local folder <const> = file:gsub("%.lua$", "")
    local there <const> = module and all.functions[("%s/%s.lua"):format(folder, module)]
    return there and there["M." .. name]
end

function Functions:add_module(module, functions)
    local file <const> = file_of(module)
    local chapter <const> = objects.CHAPTERS[module] or module
    local raises <const> = (self.all.files[file] or {}).raises or ""
    local names <const> = { module, "dbrun." .. module }
    local function add(name, f, field)
        self:add {
            id = module .. "." .. name, owner = module, name = name, names = names, f = f, field = field,
            module = module, raises = raises, chapter = chapter,
        }
    end
    for key, f in pairs(functions) do
        local name <const> = key:match "^M%.([%a][%w_]*)$"
        if name and f.value then
            add(name, nil, { name = name, type = f.value, about = f.about, optional = false })
        elseif name and name ~= "main" then -- the command line has a chapter
            add(name, f)
        end
    end
    for name, target in pairs(self.all.same[file]) do
        local f <const> = same(self.all, file, target)
        if f then add(name, f) end
    end
end

---Whether the field is a function that is called with `.`.
local function is_function(field)
    return field.type and field.type.kind == "fun" and (field.type.params[1] or {}).name ~= "self"
end

function Functions:add_config()
    local class <const> = self.all.classes.Config
    for _, name in ipairs(class and class.order or {}) do
        local field <const> = class.fields[name]
        local f
        if is_function(field) then
            f = {
                params = field.type.params, results = {}, about = field.about or "", raises = field.raises or "",
                given = {}, examples = field.examples or {}, returns = field.type.returns, documented = true,
            }
            for i, kind in ipairs(field.type.returns) do
                f.results[i] = { type = annotations.type_text(kind), about = "" }
            end
        end
        self:add {
            id = "config." .. name, owner = "config", name = name, names = { "config", "dbrun.config" }, f = f,
            field = not f and field or nil, module = "config", chapter = "config",
            raises = (self.all.files["dbrun/config.lua"] or {}).raises or "",
        }
    end
end

---Expands `As Connection:transaction, on a connection from the pool.` with that function's text.
local function resolve(all, f)
    local class <const>, name <const>, rest <const> = f.about:match "^As (%u%w*):([%w_]+), (.*)$"
    local other <const> = class and all.classes["dbrun." .. class]
    local said <const> = other and other.methods[name]
    if said then f.about = said.about .. "\n\nHere " .. rest end
end

function Functions:add_object(object)
    local class <const> = self.all.classes[object.class]
    if not class then return end
    local names <const> = { object.name, table.unpack(object.also) }
    local function add(mark, name, f, field)
        self:add {
            id = object.name .. mark .. name, owner = object.name, name = name, names = names, f = f, field = field,
            class = class, like = object.like,
            chapter = not object.class:find "redis" and objects.METHODS[name] or object.chapter,
            raises = class.raises,
        }
    end
    for name, f in pairs(class.methods) do
        resolve(self.all, f)
        local field <const> = class.fields[name]
        local only <const> = not object.only or object.only[name]
        if only and not name:find "^_" and not (field and field.hidden) then add(":", name, f) end
    end
    for _, name in ipairs(class.order) do
        local field <const> = class.fields[name]
        if not field.hidden and not class.methods[name] then add(".", name, nil, field) end
    end
end

---@param read? fun(file: string): string
---@param files? string[]
---@return dbrun.manual.Functions
function M.load(read, files)
    files = files or texts.modules()
    local all <const> = annotations.read(files, read or texts.read)
    local self <const> = setmetatable({ all = all, entries = {}, by_id = {} }, Functions)
    local parts <const> = all.classes.dbrun
    for _, module in ipairs(parts and parts.order or {}) do
        local functions <const> = all.functions[file_of(module)]
        if functions and module ~= "config" then self:add_module(module, functions) end
    end
    self:add_config()
    for _, object in ipairs(objects.OBJECTS) do self:add_object(object) end
    table.sort(self.entries, function(a, b) return a.id < b.id end)
    return self
end

-- ---- which one is meant ----

local function owns(entry, owner)
    for _, name in ipairs(entry.names) do
        if name:lower() == owner then return true end
    end
    return false
end

---A method that is documented in another class: `session:query` does what `engine:query` does.
function Functions:is_variant(entry)
    for _, name in ipairs(entry.like or {}) do
        local like <const> = self.all.classes[name]
        if like and like.methods[entry.name] then return true end
    end
    return false
end

---The entries that a name means: `db.async.query`, `engine:query`, `query`, `dbrun.task.sleep`, `DB_POOL_SIZE`.
---@param word string
---@return dbrun.manual.Entry[]
function Functions:find(word)
    word = word:gsub("%s", ""):gsub("%(.*$", ""):gsub("{.*$", "")
    local owner <const>, name <const> = word:gsub(":", "."):match "^(.-)%.?([%w_]+)$"
    if not name then return {} end
    local found, told = {}, {}
    for pass = 1, 2 do -- letters as they are written, then in any case
        for _, entry in ipairs(self.entries) do
            local fits <const> = pass == 1 and entry.name == name or pass == 2 and entry.name:lower() == name:lower()
            if fits and (owner == "" or owns(entry, owner:lower())) then found[#found + 1] = entry end
        end
        if #found > 0 then break end
    end
    for _, entry in ipairs(found) do -- without an owner, the one with the most documentation
        if owner ~= "" or not self:is_variant(entry) then told[#told + 1] = entry end
    end
    return #told > 0 and told or found
end

---The names of functions, for "did you mean".
---@return string[]
function Functions:words()
    local list <const>, seen <const> = {}, {}
    for _, entry in ipairs(self.entries) do
        for _, word in ipairs { entry.id, entry.name } do
            if not seen[word] then list[#list + 1] = word end
            seen[word] = true
        end
        if entry.class and entry.class.name == "dbrun.Engine" then list[#list + 1] = "db.async." .. entry.name end
    end
    return list
end

---Other functions that do the same on another object.
---@param entry dbrun.manual.Entry
---@return dbrun.manual.Entry[]
function Functions:relatives(entry)
    local list <const> = {}
    local function is_like(a, b)
        for _, class in ipairs(a.like or {}) do
            if b.class.name == class then return true end
        end
        return false
    end
    for _, other in ipairs(entry.class and self.entries or {}) do
        local same_name <const> = other ~= entry and other.name == entry.name and other.class
        if same_name and (is_like(other, entry) or is_like(entry, other)) then list[#list + 1] = other end
    end
    return list
end

---The parameters that scripts give.
---@param f dbrun.manual.Function
---@return dbrun.manual.Param[]
function M.parameters(f)
    return f.refuses_rest and table.move(f.params, 1, #f.params - 1, 1, {}) or f.params
end

---`engine:query(sql, ...)`
---@param entry dbrun.manual.Entry
---@return string
function M.signature(entry)
    if not entry.f then return entry.id end
    local params <const> = {}
    for i, param in ipairs(M.parameters(entry.f)) do
        params[i] = param.optional and param.name ~= "..." and "[" .. param.name .. "]" or param.name
    end
    return ("%s(%s)"):format(entry.id, table.concat(params, ", "))
end

---The first sentence of a text.
---@param text string
---@return string
function M.sentence(text)
    local flat <const> = text:gsub("%s+", " ")
    return flat:match "^(.-[.!?])%s+%u" or flat:match "^(.-[.!?])$" or flat
end

return M
