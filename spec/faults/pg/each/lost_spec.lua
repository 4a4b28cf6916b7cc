--- Killed backends, lost replies, crashed servers: rows 1 to 4 of the faults, at random moments.

local fake = require "spec.support.fake"
local pg = require "spec.support.pg"
local rounds = require "spec.support.faults.rounds"
local servers = require "spec.support.servers"
local task = require "dbrun.task"
local world = require "spec.support.faults.world"

local LOST <const> = { connect = true }
local DOWN <const> = { connect = true, timeout = true, pool = true }

local function new(kind, opts)
    return world.new(kind, servers.database(), opts)
end

rounds.describe(describe, it, {
    {
        row = 1, what = "backends killed while idle: the caller sees nothing",
        run = function(kind, each)
            local w <close> = new(kind, { timeout = 10, connect_timeout = 10, command_timeout = 10 })
            each(w, function()
                w:fill()
                for i, pid in ipairs(w:backends()) do
                    if i == 1 or math.random(2) == 1 then
                        w.control:query("select pg_terminate_backend($1, 5000)", pid)
                    end
                end
                w:attempts(4)
            end)
        end,
    },
    {
        row = 2, what = "backends killed in a statement, in a transaction: 57P01, all of it is gone",
        run = function(kind, each)
            local w <close> = new(kind)
            each(w, function()
                w:fill()
                for i, pid in ipairs(w:backends()) do
                    if i <= math.random(3) then w.hand:after(math.random() * 0.015, "terminate", pid) end
                end
                w:attempts(kind == "sync" and 3 or 8, LOST)
            end)
        end,
    },
    {
        row = 3, what = "a reply lost at any byte: unknown where COMMIT was sent, never run again",
        run = function(kind, each)
            local server <const>, url <const>, name <const> = servers.shared_postgres(), servers.database()
            local proxy <close> = fake.proxy { to = server }
            local w <close> = world.new(kind, url, { url = proxy:address_of(server, { database = name }) })
            each(w, function()
                w:fill()
                local direction <const> = math.random(4) == 1 and "up" or "down"
                proxy:cut(direction, math.random(math.random(2) == 1 and 300 or 6000))
                w:attempts(kind == "sync" and 2 or 5, LOST)
                proxy:tell("cut", "up", -1) -- cancels a cut that has not happened yet
                proxy:tell("cut", "down", -1)
                proxy:cut()
            end)
        end,
    },
    {
        row = 4, what = "a server that crashes and starts again: 57P03 is waited out",
        run = function(kind, each)
            local server <close> = servers.postgres()
            local w <close> = world.new(kind, server.url, { timeout = 8, connect_timeout = 8, command_timeout = 8 })
            each(w, function()
                w:fill()
                if math.random(2) == 1 then -- the postmaster keeps running, and goes through recovery
                    local pids <const> = w:backends()
                    local function recoveries() return select(2, server:log():gsub("reinitializing", "")) end
                    local before <const> = recoveries()
                    w.hand:after(math.random() * 0.01, "signal", "KILL", pids[1])
                    w:attempts(kind == "sync" and 3 or 8, LOST)
                    pg.eventually(10, function() return recoveries() > before end, "recovery")
                else
                    if kind == "sync" then
                        w.hand:after(math.random() * 0.01, "signal", "QUIT", server.pid)
                        w:attempts(3, DOWN)
                        server:stop "immediate"
                        server:start()
                    else
                        task.all {
                            function() w:attempts(8, DOWN) end,
                            function()
                                task.sleep(math.random() * 0.01)
                                server:stop "immediate"
                                server:start()
                            end,
                        }
                    end
                end
                task.sleep(0.002) -- no pre-ping for a connection that was returned less than a millisecond ago
                w:attempts(3) -- waits while the server is still starting
                pg.eventually(10, function() return pcall(w.control.value, w.control, "select 1") end, "the return")
            end)
        end,
    },
})
