--- dbrun spec/support/metamethods.lua: calls every metamethod and method that is written in C with values of other
--- classes. Prints those that accept one.

local core <const> = require "dbrun.core"

for _, part in ipairs { "error", "log", "task", "json", "process", "fs", "tty", "sql", "pg", "redis", "clock",
    "digest", "text" } do
    assert(core[part])
end
for _, name in ipairs { "db", "redis", "process", "task", "fs", "json" } do
    require("dbrun." .. name)
end
-- Creates the classes that exist only from their first use on.
core.json.encode { 1 }
pcall(require("dbrun.db").engine { mode = "sync", url = "postgresql:///?host=/nowhere" }.query, nil)
pcall(core.pg.named, "select :a")
pcall(core.redis.pool_new, {})

local foreign <const> = { io.stdout, setmetatable({}, {}), {}, 1, "text", coroutine.create(print) }

local function try(class, key, fn)
    if type(fn) ~= "function" or debug.getinfo(fn, "S").what ~= "C" then
        return 0
    end
    for i = 1, #foreign + 1 do -- the last one is nil
        if pcall(fn, foreign[i], foreign[i]) then
            print(("%s.%s takes a %s"):format(class, key, type(foreign[i])))
        end
    end
    return 1
end

-- Finds all of them before it calls any: a call can add to the registry.
local found <const> = {}
for class, meta in pairs(debug.getregistry()) do
    if type(class) == "string" and class:find "^dbrun%." and type(meta) == "table" then
        found[class] = meta
    end
end
local classes, functions = 0, 0
for class, meta in pairs(found) do
    classes = classes + 1
    for key, fn in pairs(meta) do
        functions = functions + try(class, key, fn)
        for name, method in pairs(type(fn) == "table" and fn or {}) do
            functions = functions + try(class, key .. "." .. tostring(name), method)
        end
    end
end
io.stderr:write(("%d classes, %d functions\n"):format(classes, functions))
