--- Reads the specification that a script passes to cli.run, without its side effects: its chunk gets an environment in
--- which every module and object, except Lua's own pure libraries, is a dummy that can be called, indexed and computed
--- with, and does nothing. It ends at cli.run, or after a number of instructions.
local fs = require "dbrun.fs"
local help = require "dbrun.cli.help"
local specs = require "dbrun.cli.spec"

local M = {}

local STEPS <const> = 1000000
local LARGEST <const> = 1 << 20

--- The dummy value for everything that a script uses.
local blank <const> = {}
do
    local function itself() return blank end
    local meta <const> = { __index = itself, __call = itself, __newindex = function() end,
        __len = function() return 0 end, __concat = function() return "" end, __tostring = function() return "" end,
        __close = function() end, __eq = function() return false end, __lt = function() return false end,
        __le = function() return false end }
    for _, name in ipairs { "add", "sub", "mul", "div", "mod", "pow", "unm", "idiv", "band", "bor", "bxor", "bnot",
        "shl", "shr" } do
        meta["__" .. name] = itself
    end
    setmetatable(blank, meta)
end

local OTHERS <const> = { __index = function() return blank end }

local found <const> = {} -- raised by cli.run, so that nothing after it runs

local function environment(path)
    local cli <const> = setmetatable({
        run = function(spec) error({ [found] = true, spec = spec }, 0) end,
        confirm = function() return false end,
    }, OTHERS)
    local function loader(name)
        if name == "dbrun.cli" then return cli end
        return name == "dbrun" and setmetatable({ cli = cli }, OTHERS) or blank
    end
    local env <const> = {
        assert = assert, error = error, ipairs = ipairs, next = next, pairs = pairs,
        pcall = function() return false end, xpcall = function() return false end, rawequal = rawequal,
        rawget = rawget, rawlen = rawlen, select = select,
        setmetatable = function(t) return t end, getmetatable = function() return nil end, tonumber = tonumber,
        tostring = tostring, type = type, _VERSION = _VERSION, math = math, utf8 = utf8, table = table,
        string = string, print = function() end, arg = { [0] = path },
        os = setmetatable({ time = os.time, date = os.date, clock = os.clock, getenv = os.getenv }, OTHERS),
        ["require"] = loader,
    }
    env._G = env
    return setmetatable(env, OTHERS)
end

--- Copies, so that a script cannot change the libraries of this program.
local function copied(env)
    for _, name in ipairs { "math", "utf8", "table", "string" } do
        local copy = {}
        for key, value in pairs(env[name]) do copy[key] = value end
        env[name] = copy
    end
    return env
end

--- Runs the chunk until cli.run, an error, or too many steps.
local function run(chunk)
    local thread = coroutine.create(chunk)
    debug.sethook(thread, function() error("it computes too long", 0) end, "", STEPS)
    return coroutine.resume(thread)
end

---@param path string
---@return dbrun.cli.Description?
---@return string? why there is none
function M.describe(path)
    local stat = fs.stat(path)
    if not stat or stat.kind ~= "file" or stat.size > LARGEST then return nil, path .. " is not a script" end
    local text = fs.read(path)
    if not text:find("dbrun", 1, true) or not text:find("run", 1, true) then return nil, "it does not use cli.run" end
    local chunk, why = load((text:gsub("^#[^\n]*", "")), "@" .. path, "t", copied(environment(path)))
    if not chunk then return nil, why end
    local _, result = run(chunk)
    if type(result) ~= "table" or not rawget(result, found) then
        return nil, type(result) == "string" and result or "it does not call cli.run in its main chunk"
    end
    local ok, root = pcall(specs.read, result.spec)
    if not ok then return nil, tostring(root) end
    if type(result.spec.name) ~= "string" then root.name = specs.name_of(path) end
    return help.describe(root)
end

return M
