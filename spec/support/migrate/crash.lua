--- Runs `up` and kills itself (SIGKILL) before the N-th message to the server: dbrun crash.lua N URL FOLDER [TABLE]
--- Exits with 0 when it ends before that message.
local db = require "dbrun.db"
local process = require "dbrun.process"

local limit <const>, url <const>, folder <const> = assert(math.tointeger(tonumber(arg[1]))), arg[2], arg[3]
local count = 0

local function tick()
    count = count + 1
    if count == limit then
        process.kill(process.pid(), "KILL")
        while true do end
    end
end

local SENDING <const> = { query = true, one = true, value = true, exec = true }

---A connection that counts its messages. The end of a transaction counts once more: the program can die between the
---last statement and COMMIT.
local function counted(conn)
    return setmetatable({}, {
        __index = function(_, name)
            local method = conn[name]
            if type(method) ~= "function" then return method end
            if name == "transaction" then
                return function(_, opts, fn)
                    if not fn then opts, fn = {}, opts end
                    tick()
                    return conn:transaction(opts, function(tx)
                        local result = fn(counted(tx))
                        tick()
                        return result
                    end)
                end
            end
            return function(_, ...)
                if SENDING[name] then tick() end
                return method(conn, ...)
            end
        end,
        __close = function() conn:release() end,
    })
end

local open <const> = db.engine
db.engine = function(opts)
    local engine = open(opts)
    return setmetatable({ acquire = function() return counted(engine:acquire()) end }, {
        __index = function(_, name)
            return function(_, ...) return engine[name](engine, ...) end
        end,
    })
end

require("dbrun.migrate").up { url = url, dirs = { folder }, table = arg[4], lock_wait = 20 }
