--- Full disks, refused logins and large values: rows 22, 27 and 28 of the faults, with random values at random places.

local core = require "dbrun.core"
local db = require "dbrun.db"
local errors = require "dbrun.error"
local process = require "dbrun.process"
local rounds = require "spec.support.faults.rounds"
local servers = require "spec.support.servers"
local world = require "spec.support.faults.world"

local function wrong(fmt, ...) error(fmt:format(...), 0) end

--- The error that fn(...) raises, of this kind, with its outcome known.
local function refused(kind, fn, ...)
    local ok <const>, problem <const> = pcall(fn, ...)
    if ok then wrong("expected an error of kind %s", kind) end
    if not errors.is(problem, kind) then wrong("expected an error of kind %s, got %s", kind, tostring(problem)) end
    return problem
end

-- ---- a full disk: in a separate mount namespace ----

local FULL_DISK <const> = [==[
local folder = require "spec.support.servers.folder"
local process = require "dbrun.process"
local rounds = require "spec.support.faults.rounds"
local servers = require "spec.support.servers"
local world = require "spec.support.faults.world"

local server <close> = servers.postgres()
local small <const> = folder.make(server.dir .. "/small")
local uid <const>, gid <const> = folder.ids()
local options <const> = ("size=1m,mode=700,uid=%d,gid=%d"):format(uid or process.uid(), gid or 0)
assert(process.run { "mount", "-t", "tmpfs", "-o", options, "small", small }.ok)
local _ <close> = setmetatable({}, { __close = function()
    server:stop "immediate"
    assert(process.run { "umount", small }.ok)
end })
server:psql(("create tablespace small location '%s'"):format(small))

local WAYS <const> = {
    function(e) e:query "insert into t select repeat('x', 7000) from generate_series(1, 400)" end,
    function(e)
        e:transaction(function(tx)
            for i = 1, 400 do tx:query("insert into t values ($1)", ("%d"):format(i):rep(4000)) end
        end)
    end,
    function(e)
        local i = 0
        e:copy_in("t", { "s" }, function()
            i = i + 1
            return i <= 400 and { ("y"):rep(7000) } or nil
        end)
    end,
    function(e)
        local rows <const> = {}
        for i = 1, 400 do rows[i] = { ("z"):rep(7000) } end
        e:execute_many("insert into t values ($1)", rows)
    end,
    function(e)
        e:pipeline(function(p)
            for _ = 1, 400 do p:query("insert into t values ($1)", ("p"):rep(7000)) end
        end)
    end,
}

local fault <const> = { row = 22, run = function(kind, each)
    local w <close> = world.new(kind, server.url, { timeout = 10, connect_timeout = 10, command_timeout = 20 })
    each(w, function()
        w.control:exec [[drop table if exists t; create table t (s text) tablespace small;
            alter table t alter s set storage external]]
        w.control:query("insert into t select repeat('x', 7000) from generate_series(1, $1)", math.random(60))
        local before <const> = w.control:value "select count(*) from t"
        local way <const> = math.random(#WAYS)
        local ok <const>, problem <const> = pcall(WAYS[way], w.e)
        assert(not ok, "the disk was not full")
        assert(problem.sqlstate == "53100" and problem.outcome == "failed" and problem.hint, tostring(problem))
        assert(w.control:value "select count(*) from t" == before, "a part was committed")
        w:attempts(2)
        w.control:exec "drop table t"
        w.control:exec "checkpoint" -- room again
    end)
end }
rounds.run(fault, os.getenv "KIND")
]==]

--- A program whose output pipe is closed ends with an error, not by SIGPIPE.
local function output_refused(command)
    local result <const> = process.run { "sh", "-c", command, "sh", core.options.program, timeout = 60 }
    local code <const> = math.tointeger(tonumber(result.stdout:match "(%d+)%s*$"))
    if code ~= 1 then wrong("%s: exit status %s: %s", command, tostring(code), result.stderr) end
end

local PRINTS <const> = [['for i = 1, %d do print(("x"):rep(%d)) end']]

-- ---- refused logins ----

local LETTERS <const> = { "@", "/", ":", "%", "#", "'", "\\", " ", "?", "&", "=", "\"", "$", "+", ";", "{",
    "}", "a", "Z", "7", "é", "ß", "日", "本", "🙂", "\t", "[", "]", "%41", "--" }

local function password()
    local list <const> = {}
    for i = 1, math.random(4, 24) do list[i] = LETTERS[math.random(#LETTERS)] end
    list[#list + 1] = ("%06d"):format(math.random(0, 999999)) -- long enough to be found in a text
    return table.concat(list)
end

--- Is the password, or its form in a URL, in this text?
local function shows(text, secret)
    return text:find(secret, 1, true) or text:find((secret:gsub("[^%w]", function(c)
        return ("%%%02X"):format(c:byte())
    end)), 1, true)
end

-- ---- data that PostgreSQL cannot take ----

local BROKEN <const> = { "\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80", "\0",
    "\xf8\x88\x80\x80\x80" }

local function broken()
    local at <const> = math.random(0, 40)
    return ("é"):rep(at) .. BROKEN[math.random(#BROKEN)] .. ("x"):rep(math.random(0, 40))
end

local REFUSED <const> = {
    function(e, text) e:value("select $1::text", text) end,
    function(e, text) e:query("select $1::int, $2::text", 1, text) end,
    function(e, text) e:value("select :a::text", { a = text }) end,
    function(e, text) e:value("select $1::text[]", db.array({ "a", text }, "text")) end,
    function(e, text) e:execute_many("select $1::text", { { "a" }, { text } }) end,
    function(e, text) e:pipeline(function(p) p:query("select $1::text", text) end) end,
    function(e, text) e:transaction(function(tx) tx:query("select $1::text", text) end) end,
    function(e, text)
        for row in e:rows("select $1::text", text) do assert(row) end
    end,
    function(e, text) e:columns("select $1::text", text) end,
    function(e, text) e:one("select $1::text as a", text) end,
}

local most_parameters

--- 65,535 parameters, and one more.
local function parameters(e)
    most_parameters = most_parameters or (function()
        local list <const>, values <const> = {}, {}
        for i = 1, 65535 do list[i], values[i] = ("$%d::int"):format(i), i end
        return { sql = "select count(*) from (values (" .. table.concat(list, "),(") .. ")) v(i)", values = values }
    end)()
    local sql <const>, values <const> = most_parameters.sql, most_parameters.values
    if e:value(sql, table.unpack(values)) ~= 65535 then wrong "a wrong answer" end
    refused("usage", e.value, e, sql, 0, table.unpack(values))
end

local a_gigabyte

--- Text and parameters of 1 GiB together. Made once, because making it takes longer than all uses.
local function gigabyte(e)
    a_gigabyte = a_gigabyte or ("x"):rep(1 << 20):rep(1 << 10)
    local way <const> = math.random(3)
    local problem
    if way == 1 then
        problem = refused("usage", e.value, e, "select $1::text", a_gigabyte)
    elseif way == 2 then
        problem = refused("usage", e.exec, e, a_gigabyte)
    else
        problem = refused("usage", function() return e:value("select $1::bytea", db.bytea(a_gigabyte)) end)
    end
    if not problem.message:find "1 GiB" then wrong("not said what is too large: %s", tostring(problem)) end
end

teardown(function()
    a_gigabyte, most_parameters = nil, nil
    collectgarbage()
end)

rounds.describe(describe, it, {
    {
        row = 22, what = "a disk that is full: 53100, nothing is half committed",
        run = function(kind)
            if process.uid() ~= 0 or not process.run { "unshare", "-m", "mount", "-t", "tmpfs", "x", "/mnt" }.ok then
                return pending "mounting a small disk takes root and CAP_SYS_ADMIN"
            end
            local result <const> = process.run { "unshare", "-m", core.options.program, "--no-env", "-",
                stdin = FULL_DISK, env = { KIND = kind, DBRUN_TEST_SEED = rounds.seed,
                    DBRUN_FAULT_ROUNDS = rounds.count }, timeout = 500 }
            if not result.ok then wrong("%s%s", result.stdout, result.stderr) end
        end,
    },
    {
        row = 22, what = "an output that is full or closed: a non-zero exit, no SIGPIPE", only = { "sync" },
        run = function(kind, each)
            local w <close> = world.new(kind, (servers.database()))
            each(w, function()
                local prints <const> = PRINTS:format(math.random(20000, 60000), math.random(5, 50))
                output_refused(('"$1" --no-env -e %s >/dev/full; echo $?'):format(prints))
                local piped <const> = 'exec 3>&1; { "$1" --no-env -e %s; echo $? >&3; } | head -c 1 >/dev/null'
                output_refused(piped:format(prints))
            end)
        end,
    },
    {
        row = 27, what = "passwords of any characters: the right one works, the wrong one never shows",
        run = function(kind, each)
            local server <close> = servers.postgres { hba = "local all dbrun trust\nlocal all all scram-sha-256" }
            local w <close> = world.new(kind, server.url)
            w.control:exec "create role joe login"
            each(w, function()
                local secret <const> = password()
                w.control:exec(("alter role joe password '%s'"):format((secret:gsub("'", "''"))))
                local good <close> = db.engine(world.options(kind, server:address { user = "joe", password = secret },
                    { size = 1, timeout = 10, connect_timeout = 10 }))
                if good:value "select current_user::text" ~= "joe" then wrong "a wrong answer" end
                local bad_secret <const> = math.random(2) == 1 and secret .. "x" or password()
                local address <const> = server:address { user = "joe", password = bad_secret }
                local bad <close> = db.engine(world.options(kind, address,
                    { size = 1, timeout = 10, connect_timeout = 10 }))
                local problem <const> = refused("connect", bad.value, bad, "select 1")
                if problem.sqlstate ~= "28P01" or problem.outcome ~= "not_sent"
                    or problem.layer ~= "authentication" then
                    wrong("%s", tostring(problem))
                end
                local told = tostring(problem)
                for _, value in pairs(problem) do told = told .. "\n" .. tostring(value) end
                if shows(told, bad_secret) or shows(told, secret) then wrong "a password is shown" end
                if bad:stats().open ~= 0 then wrong "a place of the pool is lost" end
            end)
        end,
    },
    {
        row = 28, what = "broken UTF-8, NUL, 65,536 parameters, 1 GiB: refused before it is sent",
        run = function(kind, each)
            local w <close> = world.new(kind, (servers.database()), { size = 1, timeout = 20, connect_timeout = 20,
                command_timeout = 60 })
            local pid <const> = w.e:value "select pg_backend_pid()"
            each(w, function(round)
                local way <const> = math.random(#REFUSED)
                local problem <const> = refused("usage", REFUSED[way], w.e, broken())
                -- db.array (4) has no statement yet; 5 and 7 have begun a transaction.
                if problem.outcome ~= "not_sent" and way ~= 4 and way ~= 5 and way ~= 7 then
                    wrong("way %d: outcome %s: %s", way, tostring(problem.outcome), tostring(problem))
                end
                if not problem.message:find "UTF%-8" and not problem.message:find "NUL" then
                    wrong("way %d: %s", way, tostring(problem))
                end
                refused("usage", db.ident, "a\0" .. broken())
                if round % 10 == 1 then parameters(w.e) end
                if round % 10 == 2 then gigabyte(w.e) end
                if w.e:value "select pg_backend_pid()" ~= pid then wrong "not the same connection" end
                w:attempts(1)
                w.worst = 0 -- making a GiB takes long
            end, { memory = 64 << 20 }) -- a statement of 65,535 parameters is large wherever it is kept
        end,
    },
})

