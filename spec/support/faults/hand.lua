--- A helper process that acts on a server after a delay, even during a synchronous statement, which blocks this
--- process.
---
---     local hand <close> = hand.start(url)
---     hand:after(0.01, "terminate", pid)      -- or "signal", "KILL", pid, or "sql", text
---     hand:wait()                             -- until all of it is done

local core <const> = require "dbrun.core"
local process <const> = require "dbrun.process"

local M <const> = {}

local PROGRAM <const> = [[
    io.stdout:setvbuf "line"
    local db, process, task = require "dbrun.db", require "dbrun.process", require "dbrun.task"
    local e <const> = db.engine { url = os.getenv "URL", mode = "sync", size = 1, connect_timeout = 10 }
    local acts <const> = {
        terminate = function(pid) return e:value("select pg_terminate_backend($1, 5000)", tonumber(pid)) end,
        signal = function(words)
            local name, pid = words:match "^(%a+) (%d+)$"
            return process.kill(math.tointeger(tonumber(pid)), name)
        end,
        sql = function(text) return e:exec(text) end,
    }
    for line in io.lines() do
        local at, act, words = line:match "^(%S+) (%a+) (.*)$"
        local rest = tonumber(at) - task.now()
        if rest > 0 then task.sleep(rest) end
        local ok, result = pcall(acts[act], words)
        print(ok and "done" or tostring(result):match "^[^\n]*")
    end
]]

---@class spec.Hand
---@field child table
---@field owed integer answers that have not been read
local Hand <const> = {}
local meta <const> = { __index = Hand }

---@param url string of the server
---@return spec.Hand closable
function M.start(url)
    local child <const> = process.start {
        core.options.program, "--no-env", "-e", PROGRAM, stdin_from = "pipe", stdout = "capture", pdeathsig = "KILL",
        env = { URL = url },
    }
    return setmetatable({ child = child, owed = 0 }, meta)
end

--- Queues an action; actions run in order.
---@param seconds number from now
---@param act "terminate"|"signal"|"sql"
---@param ... string|integer
function Hand:after(seconds, act, ...)
    local words <const> = table.concat({ ... }, " ")
    self.child:write(("%.6f %s %s\n"):format(require "dbrun.task".now() + seconds, act, words))
    self.owed = self.owed + 1
end

--- Waits until everything is done.
---@return string[] answers "done", or the error
function Hand:wait()
    local answers <const> = {}
    while self.owed > 0 do
        self.owed = self.owed - 1
        answers[#answers + 1] = assert(self.child:read_line(30), "the hand gives no answer")
    end
    return answers
end

function Hand:close()
    self.child:kill "KILL"
    self.child:wait(5)
    self.child:close()
end

meta.__close = Hand.close

return M
