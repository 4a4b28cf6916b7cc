-- `dbrun help` shows exactly the existing public functions, and each example of an annotation runs and prints the text
-- after its `-->`. make lint checks the rest of an annotation (documented.lua).
local fs = require "dbrun.fs"
local library = require "dbrun.manual.library"
local parts = require "dbrun"
local process = require "dbrun.process"
local core = require "dbrun.core"
local servers = require "spec.support.servers"

---The lines with expected output, in order.
local function expected(code)
    local lines = {}
    for line in code:gmatch "%-%->%s?([^\n]*)" do lines[#lines + 1] = line end
    return table.concat(lines, "\n")
end

---The examples as one program: each is a function that gets the modules, and returns its output.
local PROGRAM <const> = [[
local json, fs, task = require "dbrun.json", require "dbrun.fs", require "dbrun.task"
local results = {}
for i, code in ipairs(json.decode(fs.read "examples.json")) do
    local lines = {}
    local modules = setmetatable({ errors = require "dbrun.error", r = require "dbrun.redis".get() }, {
        __index = function(_, name) return rawget(_G, name) or require "dbrun"[name] end,
    })
    function modules.print(...)
        local texts = table.pack(...)
        for k = 1, texts.n do texts[k] = tostring(texts[k]) end
        lines[#lines + 1] = table.concat(texts, "  ")
    end
    local chunk, why = load(code, "=example", "t", modules)
    local ok, e = pcall(task.timeout, 20, chunk or error, not chunk and why or nil)
    results[i] = { ok = ok, text = ok and table.concat(lines, "\n") or tostring(e) }
end
fs.write("results.json", json.encode(results))
]]

describe("a public function", function()
    local functions <const> = library.functions()
    local entries <const> = functions.entries

    it("exists, and no function of a module is missing", function()
        local lost = {}
        for _, entry in ipairs(entries) do
            if entry.module and entry.f then
                local there = parts[entry.module] and parts[entry.module][entry.name]
                if there == nil then lost[#lost + 1] = entry.id end
            end
        end
        for module in pairs(functions.all.classes.dbrun.fields) do
            for name, value in pairs(parts[module] or {}) do
                local public = type(value) == "function" and type(name) == "string" and name:find "^%a"
                if public and name ~= "main" and not functions.by_id[module .. "." .. name] then
                    lost[#lost + 1] = module .. "." .. name .. " has no annotation"
                end
            end
        end
        assert.equal("", table.concat(lost, "\n"))
    end)

    it("has an example that prints its expected output", function()
        local codes, ids = {}, {}
        for _, entry in ipairs(entries) do
            local f = entry.f or entry.field
            for _, code in ipairs(f.examples or {}) do
                codes[#codes + 1], ids[#ids + 1] = code, entry.id
            end
        end
        assert.is_true(#codes > 100)
        local folder = fs.mkdtemp()
        fs.write(folder .. "/examples.json", parts.json.encode(codes))
        fs.write(folder .. "/all.lua", PROGRAM)
        local result = process.run { core.options.program, "all.lua", cwd = folder, timeout = 60, stderr = "stdout",
            env = { DATABASE_URL = (servers.database()), REDIS_URL = (servers.redis_db()),
                DBRUN_LUA_DIR = os.getenv "DBRUN_LUA_DIR" and fs.realpath(os.getenv "DBRUN_LUA_DIR") or false } }
        assert.is_true(fs.exists(folder .. "/results.json"), result.stdout)
        local wrong = {}
        for i, got in ipairs(parts.json.decode(fs.read(folder .. "/results.json"))) do
            local want = expected(codes[i])
            if not got.ok or got.text ~= want then
                wrong[#wrong + 1] = ("%s: %s\n    instead of %s"):format(ids[i], got.text, want)
            end
        end
        fs.rmtree(folder)
        assert.equal("", table.concat(wrong, "\n"))
    end)
end)
