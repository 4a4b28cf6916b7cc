-- Many commands of all kinds from many tasks, cancelled at random, their connections killed at random.
-- DBRUN_SOAK_COMMANDS and DBRUN_SOAK_TASKS set its size: a full run has 1,000,000 and 1,000.
local errors = require "dbrun.error"
local redis = require "dbrun.redis"
local redis_server = require "spec.support.redis_server"
local resident = require "spec.support.resident"
local task = require "dbrun.task"

local COMMANDS <const> = tonumber(os.getenv "DBRUN_SOAK_COMMANDS") or 30000
local TASKS <const> = tonumber(os.getenv "DBRUN_SOAK_TASKS") or 200

local LOUD <const> = os.getenv "DBRUN_SOAK_COMMANDS" ~= nil
local PARTS <const> = 10

local function open_files()
    local n = 0
    local p <close> = io.popen(("ls /proc/%d/fd"):format(require("dbrun.process").pid()))
    for _ in p:lines() do
        n = n + 1
    end
    return n
end

local function resident_kib()
    return resident() // 1024
end

describe("a Redis client under all faults at once", function()
    local server, admin, r, seed

    setup(function()
        server = redis_server.start()
        seed = tonumber(os.getenv "DBRUN_TEST_SEED") or os.time() * 1000 + math.random(999)
        math.randomseed(seed)
        admin = redis.client { url = server.url }
        r = redis.client { url = server.url, command_timeout = 20 }
    end)
    teardown(function()
        r:close()
        admin:close()
        server:stop()
    end)

    local wrong, texts

    --- Each kind runs some commands with a nonce, checks the replies, and returns the number of commands.
    local kinds <const> = {
        function(nonce)
            wrong = wrong + (r:echo(nonce) == nonce and 0 or 1)
            return 1
        end,
        function(nonce, id)
            local key <const> = "s" .. id
            r:set(key, nonce)
            wrong = wrong + (r:get(key) == nonce and 0 or 1)
            return 2
        end,
        function(nonce, id)
            local key <const> = "h" .. id
            r:hset(key, { a = nonce, b = "x" })
            wrong = wrong + (r:hgetall(key).a == nonce and 0 or 1)
            return 2
        end,
        function(nonce)
            local replies <const> = r:pipeline(function(p)
                for i = 1, 10 do
                    p:echo(nonce .. i)
                end
            end)
            for i = 1, 10 do
                wrong = wrong + (replies[i] == nonce .. i and 0 or 1)
            end
            return 10
        end,
        function(nonce, id)
            local replies <const> = r:multi(function(tx)
                tx:set("t" .. id, nonce)
                tx:get("t" .. id)
            end)
            wrong = wrong + (replies[2] == nonce and 0 or 1)
            return 2
        end,
        function(nonce, id)
            local key <const> = "q" .. id
            r:del(key)
            r:rpush(key, nonce)
            local got <const> = r:blpop(key, 5)
            wrong = wrong + (got and got[2] == nonce and 0 or 1)
            return 3
        end,
        function(nonce)
            -- For an unknown command the client looks for a similar name, which takes longer than all else.
            local ok, e = pcall(r.eval, r, "return redis.error_reply('ERR ' .. ARGV[1])", 0, nonce)
            if not ok and math.random(10) == 1 then ok, e = pcall(r.call, r, "NOSUCH", nonce) end
            wrong = wrong + (not ok and (e.kind ~= "redis" or tostring(e):find(nonce, 1, true)) and 0 or 1)
            if not ok and e.kind ~= "redis" then
                error(e, 0)
            end
            return 1
        end,
        function(nonce)
            wrong = wrong + (r:eval("return {ARGV[1], 2, {ARGV[1]}}", 0, nonce)[3][1] == nonce and 0 or 1)
            return 1
        end,
        function(nonce)
            local text <const> = nonce .. texts[math.random(#texts)]
            wrong = wrong + (r:echo(text) == text and 0 or 1)
            return 1
        end,
    }

    local function run(commands)
        local done, cancelled, lost, ended = 0, 0, 0, 0
        local stop = false
        local g <close> = task.group()
        local killer <const> = task.spawn(function()
            while not stop do
                task.sleep(0.05 + math.random() * 0.1)
                pcall(admin.call, admin, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            end
        end)
        for id = 1, TASKS do
            g:spawn(function()
                local n = 0
                while done < commands do
                    n = n + 1
                    local nonce <const> = ("%d:%d:%d;"):format(seed, id, n)
                    local kind <const> = kinds[math.random(#kinds)]
                    local ok, result
                    if math.random(8) == 1 then
                        local t <const> = task.spawn(pcall, kind, nonce, id)
                        if math.random(2) == 1 then
                            task.sleep(math.random() * 0.01)
                        end
                        t:cancel()
                        local _, finished, value = pcall(t.join, t)
                        ok, result = finished == true, value or finished
                    else
                        ok, result = pcall(kind, nonce, id)
                    end
                    if ok then
                        done = done + result
                    elseif errors.is(result, "cancelled") then
                        cancelled = cancelled + 1
                    else
                        assert(errors.is(result, "connect") or errors.is(result, "pool"), tostring(result))
                        lost = lost + 1
                    end
                end
                ended = ended + 1
            end)
        end
        g:wait()
        stop = true
        killer:join()
        assert.equal(TASKS, ended)
        return done, cancelled, lost
    end

    it("mixes up no reply, never hangs, and leaks nothing", function()
        wrong, texts = 0, { "", ("x"):rep(100), ("y"):rep(5000), ("z"):rep(70000) }
        local started <const> = task.now()
        local done, cancelled, lost = 0, 0, 0
        local files, memory, lua
        for part = 1, PARTS do
            local d <const>, c <const>, l <const> = run(COMMANDS // PARTS + 1)
            done, cancelled, lost = done + d, cancelled + c, lost + l
            collectgarbage()
            collectgarbage()
            if part == PARTS // 2 then -- by now all buffers have their size
                files, memory, lua = open_files(), resident_kib(), collectgarbage "count"
            end
            if LOUD then
                io.stderr:write(("part %d: %d commands, %d KiB resident, %d KiB in Lua, %d files\n"):format(part, d,
                    resident_kib(), collectgarbage "count" // 1 | 0, open_files()))
            end
        end
        local seconds <const> = task.now() - started
        assert.equal("PONG", r:ping())
        assert.is_true(redis_server.wait_until(5, function()
            local s <const> = r:stats()
            return s.in_flight == 0 and s.waiting == 0 and s.leased <= 1
        end))
        local more_files <const>, more_memory <const> = open_files() - files, resident_kib() - memory
        local more_lua <const> = collectgarbage "count" - lua
        if LOUD then
            io.stderr:write(("%d commands in %.1f s, %d cancelled, %d lost, %d connections; files %+d, memory %+d KiB, "
                .. "Lua %+.0f KiB\n"):format(done, seconds, cancelled, lost, r:stats().opened, more_files, more_memory,
                more_lua))
        end
        assert.equal(0, wrong, "DBRUN_TEST_SEED=" .. seed)
        assert.is_true(done >= COMMANDS and cancelled > 0)
        assert.is_true(lost > 0 or seconds < 5, "no connection was lost") -- a quick run can end between two kills
        assert.is_true(more_files <= 50, more_files .. " descriptors") -- the pool can hold that many
        if not os.getenv "ASAN_OPTIONS" then -- the sanitizer's quarantine counts as resident
            assert.is_true(more_memory < 16 * 1024, more_memory .. " KiB")
        end
        assert.is_true(more_lua < 2 * 1024, more_lua .. " KiB in Lua")
    end)
end)
