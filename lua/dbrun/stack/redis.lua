--- The stack's Redis: start, ping, stop.

local daemon = require "dbrun.stack.daemon"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local programs = require "dbrun.stack.programs"
local task = require "dbrun.task"

local M = { title = "Redis" }

local start_limit <const> = 60 -- seconds, including loading the data

local function data_of(place) return place.data .. "/redis" end
local function log_of(place) return place.data .. "/redis.log" end
local function socket_of(place) return place.sockets .. "/redis.sock" end

---@param place dbrun.stack.Place
---@return string path
function M.socket(place) return socket_of(place) end

---@param place dbrun.stack.Place
---@return string
function M.url(place)
    return "unix://" .. socket_of(place):gsub("[^%w%-%._~/]", function(c) return ("%%%02X"):format(c:byte()) end)
end

--- Quotes a string for Redis' configuration file.
local function quote(text)
    return '"' .. text:gsub('[%c"\\]', function(c) return ("\\x%02x"):format(c:byte()) end) .. '"'
end

local function configuration(place, version)
    local lines = {
        "port 0",
        "unixsocket " .. quote(socket_of(place)),
        "unixsocketperm 700",
        "dir " .. quote(data_of(place)),
        "pidfile " .. quote(data_of(place) .. "/redis.pid"),
        "daemonize no",
        "supervised no",
        "databases 16",
    }
    -- Keeps the command line, which identifies the process.
    if version >= 7 then lines[#lines + 1] = "set-proc-title no" end
    return table.concat(lines, "\n") .. "\n"
end

---@param place dbrun.stack.Place
---@return integer? pid
function M.running(place)
    local f <close> = io.open(data_of(place) .. "/redis.pid", "rb")
    local pid = f and math.tointeger(tonumber((f:read("a") or ""):match("%d+")))
    if pid and daemon.works_in(pid, M.program, data_of(place)) then return pid end
    return nil
end

M.program = "redis-server"

local function ask(place, seconds)
    local redis = require "dbrun.redis"
    local ok, problem = pcall(function()
        local client = redis.client {
            path = socket_of(place), timeout = seconds, connect_timeout = seconds, command_timeout = seconds,
        }
        local _ <close> = setmetatable({}, { __close = function() client:close() end })
        assert(client:ping() == "PONG", "the reply to PING was not PONG")
    end)
    if ok then return true end
    if errors.is(problem, "cancelled") then error(problem, 0) end
    return nil, problem
end

local function launch(place)
    local program = programs.redis()
    local version = process.run { program, "--version", timeout = 10 }.stdout:match("v=(%d+)")
    local dir = data_of(place)
    local uid, gid = place.user and place.user.uid, place.user and place.user.gid
    fs.mkdir(dir, tonumber("700", 8))
    if uid then fs.chown(dir, uid, gid) end
    local conf = dir .. "/redis.conf"
    fs.write(conf, configuration(place, tonumber(version) or 0), tonumber("600", 8))
    if uid then fs.chown(conf, uid, gid) end
    fs.unlink(dir .. "/redis.pid")
    local log = log_of(place)
    local size = daemon.rotate(log)
    local child = process.start {
        program, conf, cwd = dir, uid = uid, gid = gid, env = programs.environment(), detached = true,
        stdout = { append = log }, stderr = "stdout",
    }
    if uid then fs.chown(log, uid, gid) end
    return child, size
end

--- Waits until the server answers. False when its process ended.
local function wait_ready(place, pid)
    local deadline = task.now() + start_limit
    local problem
    while true do
        local left = deadline - task.now()
        if fs.exists(socket_of(place)) then
            local ok
            ok, problem = ask(place, math.min(5, math.max(0.1, left)))
            if ok and M.running(place) then return true end
            local hopeless = problem and (not errors.is(problem) or problem.kind == "config" or problem.kind == "usage")
            if hopeless then error(problem, 0) end
            if problem and problem.code == "NOAUTH" then
                errors.fail("connect", "the private Redis asks for a password, which somebody has set since it started",
                    "dbrun stack down ends it, and it starts without one; its data stays")
            end
        end
        if not process.alive(pid) then return false end
        if left <= 0 then
            errors.raise {
                kind = "timeout",
                message = ("Redis (process %d) did not answer within %d s"):format(pid, start_limit),
                detail = problem and tostring(problem) or nil,
                hint = ("its log is '%s'; dbrun stack down stops it"):format(log_of(place)),
            }
        end
        task.sleep(0.004)
    end
end

--- Ends a server without a pid file, so that no second one is started beside it. A server whose folder was removed
--- cannot save its data, and would not end before that.
local function clear_remains(place)
    local folder = data_of(place)
    local steps = fs.exists(folder) and { { "TERM", 10 }, { "KILL", 5 } } or { { "KILL", 5 } }
    for _, p in ipairs((daemon.processes(M.program, folder))) do daemon.stop(p.pid, steps) end
end

--- Ends what is left of a server that lost its pid file, before the data is removed.
---@param place dbrun.stack.Place
function M.forget(place)
    local there = fs.stat(data_of(place), true)
    if not there or there.kind == "folder" then clear_remains(place) end -- a link leads to what is not the stack's
end

--- Starts the server if needed, until it answers. The caller holds the stack's lock.
---@param place dbrun.stack.Place
---@return boolean started
function M.up(place)
    local pid = M.running(place)
    if pid and fs.exists(socket_of(place)) then
        if ask(place, 5) or wait_ready(place, pid) then return false end
    elseif pid then
        M.down(place) -- its socket was removed: clients cannot reach it
    end
    clear_remains(place)
    local child <close>, size = launch(place)
    if wait_ready(place, child.pid) then return true end
    return errors.raise {
        kind = "io", message = "Redis did not start",
        detail = daemon.log_since(log_of(place), size, 8),
        hint = ("the whole log is '%s'"):format(log_of(place)),
    }
end

---@param place dbrun.stack.Place
---@return boolean stopped
function M.down(place)
    local pid = M.running(place)
    if not pid then return false end
    process.kill(pid, "CONT")
    if not daemon.stop(pid, { { "TERM", 20 }, { "KILL", 5 } }) then
        errors.fail("timeout", ("Redis (process %d) cannot be stopped"):format(pid))
    end
    return true
end

---@param place dbrun.stack.Place
---@return boolean up
---@return string text
function M.status(place)
    local pid = M.running(place)
    if not pid then return false, "is down" end
    local ok, problem = ask(place, 5)
    if ok then return true, ("answers, process %d"):format(pid) end
    return false, ("process %d does not answer: %s"):format(pid, problem.message or tostring(problem))
end

return M
