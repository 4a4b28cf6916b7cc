--- The manual as a whole: its chapters in their order, its functions, and the examples of both.
local functions <const> = require "dbrun.manual.functions"
local markdown <const> = require "dbrun.manual.markdown"
local objects <const> = require "dbrun.manual.objects"
local texts <const> = require "dbrun.manual.texts"

local M = {}

-- The order on the help screen; other chapters follow at the end.
local ORDER <const> = {
    "start", "install", "options", "prompt", "prompt-commands", "sql", "redis-command", "results", "table", "csv",
    "postgres", "types", "transactions", "copy", "pools", "redis", "redis-servers", "tasks", "config", "migrate",
    "lint", "dbmate", "import", "seed", "verify", "expect", "stack", "batch", "batch-signals", "batch-partitions",
    "scripts", "maintenance", "log", "testing", "dry-run", "trace", "modules", "errors", "night", "speed", "lua5.4",
}

---The names of the chapters in the order of the manual.
---@return string[]
function M.topics()
    local there <const>, list <const> = {}, {}
    for _, name in ipairs(texts.chapters()) do there[name] = true end
    for _, name in ipairs(ORDER) do
        if there[name] then list[#list + 1] = name end
        there[name] = nil
    end
    for _, name in ipairs(texts.chapters()) do
        if there[name] then list[#list + 1] = name end
    end
    return list
end

local read <const>, loaded = {}, nil

---@param name string
---@return dbrun.manual.Chapter? chapter nil: there is none of that name
function M.chapter(name)
    if not name:find "^[%w_.%-]+$" then return nil end
    if not read[name] then
        local text <const> = texts.read(("manual/%s.md"):format(name))
        read[name] = text and markdown.chapter(text, ("lua/manual/%s.md"):format(name))
    end
    return read[name]
end

---@return dbrun.manual.Functions
function M.functions()
    loaded = loaded or functions.load()
    return loaded
end

-- ---- examples ----

---The object before a method's name in examples.
local RECEIVERS <const> = {
    ["dbrun.Engine"] = { "db.async", "db.sync", "engine", "small" },
    ["dbrun.Connection"] = { "conn", "c", "tx", "first", "connection" },
    ["dbrun.redis.Client"] = { "r", "sure", "redis.get()", "worker" },
}

local function receivers(entry)
    if not entry.class then return { entry.owner } end
    if RECEIVERS[entry.class.name] then return RECEIVERS[entry.class.name] end
    local list <const> = { entry.owner:match "[%w_]+$" }
    for _, object in ipairs(objects.OBJECTS) do
        if object.class == entry.class.name then
            for _, name in ipairs(object.also) do list[#list + 1] = name end
        end
    end
    return list
end

---Whether this code calls the function.
---@param entry dbrun.manual.Entry
---@param code string
---@return boolean
function M.is_called(entry, code)
    for _, receiver in ipairs(receivers(entry)) do
        local name <const> = receiver:gsub("%p", "%%%0")
        local pattern <const> = ("%%f[%%w_]%s[:.]%s%%f[^%%w_]"):format(name, entry.name)
        for at in (" " .. code .. "\n"):gmatch("()" .. pattern) do
            if not (" " .. code):sub(1, at - 1):find "[.:]$" then return true end
        end
    end
    return false
end

---The shortest example of the chapters in which the function is called, with what it prints.
---@param entry dbrun.manual.Entry
---@return dbrun.manual.Block[]
function M.example(entry)
    local best, output
    for _, name in ipairs(M.topics()) do
        local blocks <const> = M.chapter(name).blocks
        for i, block in ipairs(blocks) do
            local shorter <const> = block.run and (not best or #block.code < #best.code)
            if shorter and M.is_called(entry, block.code) then
                best, output = block, blocks[i + 1]
            end
        end
    end
    if not best then return {} end
    return { best, output and output.output and output or nil }
end

return M
