--- Completion of Lua: fields of tables, globals, modules, files. Tables and metatables are read raw: no function that a
--- script has set, such as __index or __pairs, is called.
local core <const> = require "dbrun.core"
local files <const> = require "dbrun.prompt.complete.files"
local reserved <const> = require "dbrun.reserved"
local words <const> = require "dbrun.prompt.complete.words"

local M = {}

--- The most tables above a value through __index, which ends a loop of them.
local DEPTH <const> = 20

--- Fields that are created at their first use, by module: their values are not read.
local LATER <const> = {
    ["dbrun.db"] = { async = "engine", sync = "engine" },
}

--- Objects that do not exist yet: their future methods, by kind.
local KINDS <const> = {
    engine = function() return (core.pg.classes()) end,
    connection = function() return (select(2, core.pg.classes())) end,
    ["redis client"] = function() return core.redis.class "client".__index end,
}

local function is_redis(value)
    local meta <const> = debug.getmetatable(value)
    return meta ~= nil and (meta == core.redis.class "client" or meta == core.redis.class "connection"
        or meta == core.redis.class "pipeline")
end

--- Tables whose keys are fields of the value, nearest first.
local function tables_of(value)
    local found, seen = {}, {}
    local at = value
    for _ = 1, DEPTH do
        if type(at) == "table" then
            if seen[at] then break end
            seen[at], found[#found + 1] = true, at
        end
        local meta <const> = debug.getmetatable(at)
        local next_one <const> = type(meta) == "table" and rawget(meta, "__index")
        if type(next_one) ~= "table" then break end
        at = next_one
    end
    return found
end

local function module_of(value)
    for name in pairs(LATER) do
        if rawequal(package.loaded[name], value) and value ~= nil then return LATER[name] end
    end
    return nil
end

--- The field, and whether only its kind is known.
local function field(value, key)
    for _, t in ipairs(tables_of(value)) do
        local found <const> = rawget(t, key)
        if found ~= nil then return found end
    end
    local later <const> = module_of(value)
    if later and later[key] then return KINDS[later[key]]() end
    if rawequal(value, package.loaded["dbrun"]) and type(key) == "string" then
        return package.loaded["dbrun." .. key]
    end
    return nil
end

local function callable(value)
    if type(value) == "function" then return true end
    local meta <const> = debug.getmetatable(value)
    return type(meta) == "table" and rawget(meta, "__call") ~= nil
end

--- Methods that only dbrun's own modules use.
local INTERNAL <const> = {}
for name in ([[batch batch_many certificates codecs copy_begin copy_end copy_out_begin copy_send deadline drained epochs
    guard is_stale is_sync links listen_feed load_types parameter parameter_types reads_binary target
    verbatim]]):gmatch "%S+" do
    INTERNAL[name] = true
end

--- The keys of a table that are not offered; nil: it is not one of dbrun's classes.
local function hidden_in(t)
    local engine <const>, connection <const> = core.pg.classes()
    local client <const> = core.redis.class "client".__index
    return (rawequal(t, engine) or rawequal(t, connection) or rawequal(t, client)) and INTERNAL or nil
end

--- Adds the names of fields of a value.
local function add_fields(value, prefix, only_callable, out)
    local function add(key, v)
        if type(key) == "string" and key:sub(1, #prefix) == prefix and key:find "^[%a_][%w_]*$"
            and not reserved.is(key) and (key:sub(1, 1) ~= "_" or prefix:sub(1, 1) == "_")
            and (not only_callable or callable(v)) then
            out[#out + 1] = key
        end
    end
    for _, t in ipairs(tables_of(value)) do
        local hidden <const> = hidden_in(t)
        for key, v in next, t do
            if not hidden or not (hidden[key] or tostring(key):find "^__") then add(key, v) end
        end
    end
    local later <const> = module_of(value)
    for key in pairs(not only_callable and later or {}) do add(key, key) end
    if rawequal(value, package.loaded["dbrun"]) then
        for _, name in ipairs(words.MODULES) do add(name:match "^dbrun%.(.+)$") end
    end
    if rawequal(value, package.loaded["dbrun.config"]) and not only_callable then
        for _, key in ipairs(require("dbrun.config.keys").order) do add(key, key) end
        for _, key in ipairs { "async_database_url", "sync_database_url", "redis_url" } do add(key, key) end
    end
end

local function globals_of(context)
    return context.globals or _G
end

local function add_globals(prefix, context, out)
    add_fields(globals_of(context), prefix, false, out)
    for name in pairs(context.prompt_names or {}) do
        if name:sub(1, #prefix) == prefix and (name ~= "_" or prefix == "_") then out[#out + 1] = name end
    end
    for _, word in ipairs(words.LUA) do
        if prefix ~= "" and word:sub(1, #prefix) == prefix then out[#out + 1] = word end
    end
end

--- The chain of names that ends at the cursor: { "a", "b" } and "c" for `a.b:c`; nil after anything else, such as a
--- call.
local function chain_of(text)
    local prefix <const> = text:match "[%a_][%w_]*$" or ""
    local at = #text - #prefix
    local sign = text:sub(1, at):match "([.:])%s*$"
    if not sign then return {}, prefix, nil end
    if text:sub(1, at):find "%.%.%s*$" or text:sub(1, at):find "::%s*$" then return {}, prefix, nil end
    local keys, before = {}, text:sub(1, at):gsub("[.:]%s*$", "")
    while true do
        local rest, key = before:match "^(.-)%s*%[%s*(%d+)%s*%]$"
        key = math.tointeger(tonumber(key))
        if not rest then
            rest, key = before:match "^(.-)%s*%[%s*\"([^\"\\]*)\"%s*%]$"
        end
        if not rest then
            rest, key = before:match "^(.-)%s*%[%s*'([^'\\]*)'%s*%]$"
        end
        if rest then
            table.insert(keys, 1, key)
            before = rest
        else
            local name <const> = before:match "[%a_][%w_]*$"
            if not name then return nil end
            table.insert(keys, 1, name)
            rest = before:sub(1, #before - #name)
            if not rest:find "[.:]%s*$" or rest:find "%.%.%s*$" then return keys, prefix, sign end
            before = rest:gsub("[.:]%s*$", "")
        end
    end
end

local function value_of(keys, context)
    local first <const> = keys[1]
    local value = field(globals_of(context), first)
    if value == nil and context.prompt_names then
        value = rawget(context.prompt_names, first)
        if type(value) == "function" then -- gives the module
            value = value()
        elseif KINDS[value] then
            value = KINDS[value]()
        end
    end
    for i = 2, #keys do
        if value == nil then return nil end
        value = field(value, keys[i])
    end
    return value
end

--- What the text ends in: { kind = "code" }, { kind = "comment" }, or a string: { kind = "string", at = its first
--- character, quote = }.
local function state_of(text)
    local i = 1
    while i <= #text do
        local c <const> = text:sub(i, i)
        local level <const> = text:match("^%[(=*)%[", i)
        if text:sub(i, i + 1) == "--" then
            local long <const> = text:match("^%[(=*)%[", i + 2)
            local _, stop = text:find(long and "]" .. long .. "]" or "\n", i + 2, true)
            if not stop then return { kind = "comment" } end
            i = stop + 1
        elseif level then
            local _, stop <const> = text:find("]" .. level .. "]", i, true)
            if not stop then return { kind = "string", at = i + #level + 2, from = i, quote = "[[" } end
            i = stop + 1
        elseif c == '"' or c == "'" then
            local from <const> = i
            i = i + 1
            while i <= #text and text:sub(i, i) ~= c do
                i = i + (text:sub(i, i) == "\\" and 2 or 1)
            end
            if i > #text then return { kind = "string", at = from + 1, from = from, quote = c } end
            i = i + 1
        else
            i = i + 1
        end
    end
    return { kind = "code" }
end

local function add_modules(prefix, out)
    for _, name in ipairs(words.MODULES) do out[#out + 1] = name end
    for _, set in ipairs { package.loaded, package.preload } do
        for name in next, set do
            -- dbrun's own parts (dbrun.db.params) are no modules for scripts
            if type(name) == "string" and not name:find "^dbrun%." then out[#out + 1] = name end
        end
    end
    local folder <const>, start <const> = prefix:match "^(.*%.)[^.]*$" or "", prefix:match "[^.]*$"
    for template in package.path:gmatch "[^;]+" do
        local before, behind = template:match "^(.-)%?(.*)$"
        if before and behind:sub(1, 1) == "." then
            local found = {}
            files.add(before .. folder:gsub("%.", "/") .. start, found)
            for _, path in ipairs(found) do
                local name <const> = path:match "([^/]*)/?$"
                if path:sub(-1) == "/" and not name:find("[^%w_-]") then
                    out[#out + 1] = folder .. name .. "."
                elseif path:sub(-#behind) == behind then
                    out[#out + 1] = folder .. name:sub(1, -#behind - 1)
                end
            end
        end
    end
    for i = #out, 1, -1 do
        if out[i]:sub(1, #prefix) ~= prefix then table.remove(out, i) end
    end
end

local TAKES_FILE <const> = { "dofile", "loadfile", "io%.open", "io%.lines", "io%.input", "io%.output", "fs%.%w+" }

local function takes_file(before)
    for _, name in ipairs(TAKES_FILE) do
        if before:find("%f[%w_]" .. name .. "%s*%(?%s*$") then return true end
    end
    return false
end

--- Inside a string: where the part to complete begins, and what to offer.
local function in_string(text, state, context, out)
    local before <const>, inner <const> = text:sub(1, state.from - 1), text:sub(state.at)
    if before:find "%f[%w_]require%s*%(?%s*$" then
        add_modules(inner, out)
        return state.at
    elseif takes_file(before) then
        files.add(inner, out)
        return state.at
    end
    local first <const> = inner:match "^%s*(%a+)%s"
    if not first or not context.sql then return #text + 1 end
    local start <const>, found <const> = context.sql(inner, context)
    for _, name in ipairs(found) do
        if not name:find(state.quote, 1, true) or state.quote == "[[" then out[#out + 1] = name end
    end
    return state.at + start - 1
end

---Adds what fits at the end of the text.
---@param text string Lua up to the point, with the lines before
---@param context dbrun.prompt.CompleteContext
---@param out string[]
---@return integer start where the word begins in the text
function M.add(text, context, out)
    local state <const> = state_of(text)
    if state.kind == "comment" then return #text + 1 end
    if state.kind == "string" then return in_string(text, state, context, out) end
    local keys <const>, prefix <const>, sign <const> = chain_of(text)
    if not keys then
        return #text + 1 - #text:match "[%w_]*$"
    elseif #keys == 0 then
        if not text:find "%d[%w_]*$" or text:find "[%a_][%w_]*$" then add_globals(prefix, context, out) end
    else
        local value <const> = value_of(keys, context)
        if value ~= nil then
            add_fields(value, prefix, sign == ":", out)
            if sign == ":" and (is_redis(value) or rawequal(value, core.redis.class "client".__index)) then
                words.add(words.REDIS, prefix, out)
            end
        end
    end
    return #text + 1 - #prefix
end

return M
