--- Listens to the sentinels while a client is open: when they announce a new master, the client leaves the old one,
--- which may still run and accept writes that will be lost.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local task <const> = require "dbrun.task"

local M = {}

local LOOK_EVERY <const> = 5 -- seconds between checks whether the client still exists
local ANSWER_WITHIN <const> = 10 -- seconds of silence after a PING: then the sentinel counts as lost
local PAUSE <const> = 1 -- seconds before a lost sentinel is tried again

--- Waits for events on a connection to one sentinel until the client is closed or collected; raises when the connection
--- is lost.
local function listen(connection, service, client_of)
    local quiet = 0
    while true do
        local event <const> = connection:next(LOOK_EVERY)
        local client <const> = client_of()
        if not client then
            return
        elseif event == nil then
            quiet = quiet + LOOK_EVERY
            if quiet > LOOK_EVERY + ANSWER_WITHIN then
                errors.fail("connect", "the sentinel does not answer")
            end
            connection:post "PING"
        else
            quiet = 0
            if event[1] == "message" and event[3]:match "^(%S+) " == service then
                client:leave()
            end
        end
    end
end

local function watch_one(open, service, client_of)
    local missed = false
    while client_of() do
        local ok <const>, e <const> = pcall(function()
            local sentinel <close> = open()
            local connection <close> = sentinel:acquire()
            connection:listen()
            connection:post("SUBSCRIBE", "+switch-master")
            local client <const> = client_of()
            if missed and client then
                client:leave() -- events may have been missed: find the master again
            end
            missed = true
            listen(connection, service, client_of)
            connection:discard()
        end)
        if not ok and errors.is(e, "cancelled") then
            return
        end
        -- A lost sentinel is no error: tasks listen to the others, and each connect asks all.
        task.sleep(PAUSE)
    end
end

---Starts the listening tasks. They end when the client is closed or collected, or by the returned function.
---@param client dbrun.redis.Client
---@param settings table with service and sentinels
---@param connect fun(settings: table): dbrun.redis.Client
---@return fun() cancel
function M.watch(client, settings, connect)
    local box <const> = setmetatable({ client }, { __mode = "v" })
    local function client_of()
        local c <const> = box[1]
        return c and not c:closed() and c or nil
    end
    local tasks = {}
    for i, server in ipairs(settings.sentinels) do
        local own <const> = { host = server.host, port = server.port, max_connections = 1 }
        for _, name in ipairs { "ca_file", "ca_dir", "cert_file", "key_file", "verify", "verify_hostname", "tls13",
            "lib_name", "lib_ver" } do
            own[name] = settings[name]
        end
        own.username, own.password = settings.sentinel_username, settings.sentinel_password
        own.tls = settings.tls
        if settings.sentinel_tls ~= nil then
            own.tls = settings.sentinel_tls
        end
        tasks[i] = core.task.daemon(watch_one, function() return connect(own) end, settings.service, client_of)
    end
    return function()
        for _, t in ipairs(tasks) do
            t:cancel()
        end
    end
end

return M
