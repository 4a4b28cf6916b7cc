--- \redis: one command of Redis, its reply as redis-cli shows it.
local errors = require "dbrun.error"
local redis = require "dbrun.redis"
local render = require "dbrun.redis.shell.render"
local run = require "dbrun.redis.shell.run"
local tty = require "dbrun.tty"
local words = require "dbrun.redis.shell.words"

local function show(session, kind, reply)
    if kind.report and type(reply) == "string" then
        return session:write(tty.printable((reply:gsub("\r\n", "\n"))))
    end
    session:write(render.text(reply))
end

local function command(session, argument)
    local list <const>, why <const> = words.split(argument)
    if not list then errors.fail("usage", "\\redis: " .. why, 'Quotes end where they began: \\redis set k "a b"') end
    if #list == 0 then errors.fail("usage", "\\redis: which command?", "For example: \\redis ping") end
    local kind <const> = run.kind(list)
    if kind.stream then
        run.stream(redis.get(), list, kind, function(reply) show(session, kind, reply) end,
            function(lost) session:tell("messages may have been missed: " .. lost) end)
    else
        local reply <const> = run.call(redis.get(), list)
        show(session, kind, reply)
        session.last = reply
    end
end

return {
    redis = { usage = "\\redis CMD ...", summary = "a Redis command, as in redis-cli", run = command },
}
