--- Waits until the servers can be used: a query must be answered twice in a row, each time on a new connection. An open
--- port is not enough: during its set-up a server opens it, closes it and opens it again.
local config = require "dbrun.config"
local errors = require "dbrun.error"
local task = require "dbrun.task"

local M = {}

local TIMES <const> = 2

local function ask_postgres()
    local db = require "dbrun.db"
    local engine = db.engine { url = config.async_database_url, mode = "async", size = 1, overflow = 0 }
    local _ <close> = setmetatable({}, { __close = function() engine:close() end })
    engine:value "select 1"
end

local function ask_redis()
    local redis = require "dbrun.redis"
    local client = redis.client { url = config.redis_url }
    local _ <close> = setmetatable({}, { __close = function() client:close() end })
    client:ping()
end

local QUESTIONS <const> = {
    { prefix = "postgres", name = "PostgreSQL", ask = ask_postgres },
    { prefix = "redis", name = "Redis", ask = ask_redis },
}

---Queries until the answers came or the time is over; returns at once for a wrong configuration.
local function wait_for(question, stop, report)
    local began, good, next_word, pause = task.now(), 0, 5, 0.05
    while good < TIMES and task.now() < stop do
        local ok, e = pcall(task.timeout, stop - task.now(), question.ask)
        if not ok and (not errors.is(e) or e.kind == "cancelled" or e.kind == "usage") then error(e, 0) end
        if not ok and e.kind == "config" then return end
        good = ok and good + 1 or 0
        local waited = task.now() - began
        if not ok and waited >= next_word then
            report(("%s: %s"):format(question.name, e.message), waited)
            next_word = waited + 5
        end
        if good < TIMES then
            task.sleep(math.max(0, math.min(ok and 0.02 or pause, stop - task.now())))
            pause = math.min(pause * 1.5, 1)
        end
    end
end

---Waits for the servers that the checks need. The checks report afterwards which is missing.
---@param checks dbrun.verify.Check[]
---@param opts dbrun.verify.Options
function M.until_usable(checks, opts)
    local stop, report = task.now() + opts.wait, opts.waiting or function() end
    local list = {}
    for _, question in ipairs(QUESTIONS) do
        for _, check in ipairs(checks) do
            if check.name:find("^" .. question.prefix) then
                list[#list + 1] = function() wait_for(question, stop, report) end
                break
            end
        end
    end
    task.all(list)
end

return M
