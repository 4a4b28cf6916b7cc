--- Frozen backends and servers, networks that drop packets, peers that break the protocol: rows 5, 6, 8 and 9 of the
--- faults, at random moments.

local bad_server = require "spec.support.bad_server"
local errors = require "dbrun.error"
local fake = require "spec.support.fake"
local fs = require "dbrun.fs"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local resident = require "spec.support.resident"
local rounds = require "spec.support.faults.rounds"
local servers = require "spec.support.servers"
local stalls = require "spec.support.faults.stalls"
local task = require "dbrun.task"
local world = require "spec.support.faults.world"

local LATE <const> = { timeout = true, pool = true }
local LATE_OR_LOST <const> = { timeout = true, pool = true, connect = true }

--- Lets stopped processes run again, at the latest at the end of the block.
local function thaw(pids)
    return function()
        for _, pid in ipairs(pids) do process.kill(pid, "CONT") end
    end
end

-- ---- servers that send wrong replies ----

local function message(kind, body)
    return kind .. string.pack(">I4", #body + 4) .. body
end

local READY <const> = message("Z", "I")
local HELLO <const> = message("R", "\0\0\0\0") .. message("S", "client_encoding\0UTF8\0")
    .. message("S", "DateStyle\0ISO, MDY\0") .. message("S", "standard_conforming_strings\0on\0")
    .. message("K", "\0\0\0\1\0\0\0\2") .. READY
local COLUMN <const> = message("T", "\0\1c\0" .. string.pack(">I4I2I4i2i4I2", 0, 0, 25, -1, -1, 0))
local ROW <const> = message("D", "\0\1\0\0\0\5hello")
local ANSWER <const> = message("1", "") .. message("2", "") .. COLUMN .. ROW:rep(3) .. message("C", "SELECT 3\0")
    .. READY
local ERROR <const> = message("E", "SERROR\0C22012\0Mdivision by zero\0\0") .. READY
local KINDS <const> = "123ACDEGHIKNSTVWZcdnst"

local function position(text) return math.random(#text) end

--- The replies of the faulty servers.
local DAMAGE <const> = {
    function(text) return text:sub(1, position(text) - 1) end,
    function(text)
        local at <const> = position(text)
        return text:sub(1, at - 1) .. string.char(math.random(0, 255)) .. text:sub(at + 1)
    end,
    function(text)
        local at <const> = position(text)
        return text:sub(1, at) .. text:sub(position(text))
    end,
    function(text)
        local kind <const> = math.random(#KINDS)
        local body <const> = {}
        for i = 1, math.random(0, 40) do body[i] = string.char(math.random(0, 255)) end
        return message(KINDS:sub(kind, kind), table.concat(body)) .. text
    end,
    function(text)
        local kind <const> = math.random(#KINDS)
        return KINDS:sub(kind, kind) .. string.pack(">I4", math.random(0, 0x7fffffff)) .. text
    end,
    function() return message("E", "SERROR\0Mno state at all\0\0") .. READY end,
    function(text)
        local garbage <const> = {}
        for i = 1, math.random(500) do garbage[i] = string.char(math.random(0, 255)) end
        return table.concat(garbage) .. text
    end,
    function(text) return text .. text end,
    function(text) return READY .. text end,
}

local function damaged()
    local text = math.random(3) == 1 and ERROR or ANSWER
    for _ = 1, math.random(2) do
        if #text > 1 then text = DAMAGE[math.random(#DAMAGE)](text) end
    end
    return text
end

local ASK <const> = {
    function(e) return e:query "select c from t" end, function(e) return e:exec "select c from t" end,
    function(e) return e:value("select c from t where i = $1", 1) end,
    function(e)
        for row in e:rows "select c from t" do assert(row) end
    end,
    function(e) return e:columns "select c from t" end,
    function(e) return e:pipeline(function(p) p:query "select 1" p:query "select 2" end) end,
    function(e) return e:copy_in("t", { "c" }, { { "a" }, { "b" } }) end,
    function(e)
        for row in e:copy_out "t" do assert(row) end
    end,
    function(e) return e:transaction(function(tx) return tx:query "select c from t" end) end,
    function(e) return e:execute_many("insert into t values ($1)", { { 1 }, { 2 } }) end,
}

--- The most additional memory for a hundred faulty servers.
local ROOM <const> = (os.getenv "ASAN_OPTIONS" and 1024 or 64) << 20

local function lie(w)
    local texts <const> = { math.random(10) == 1 and damaged() or HELLO }
    for i = 2, 6 do texts[i] = math.random(2) == 1 and damaged() or ANSWER end
    local peer <close> = math.random(4) == 1 and fake.drown(texts) or fake.say(texts)
    local url <const> = "postgresql://dbrun@/d?sslmode=disable&gssencmode=disable&host=" .. peer.dir
    local opts <const> = world.options(w.kind, url, { size = 1, timeout = 0.2, connect_timeout = 0.2,
        command_timeout = 0.2, statement_cache = math.random(0, 1) * 9 })
    local e <close> = require "dbrun.db".engine(opts)
    for _ = 1, 3 do
        local ask <const> = ASK[math.random(#ASK)]
        local began <const> = task.now()
        local waited <const> = stalls.waited()
        local ok <const>, problem <const> = pcall(ask, e)
        local now <const> = task.now()
        local late <const> = now - began - 2 - (stalls.waited() - waited) - w.stalls:between(began, now)
        if late > 0 then error(("%.2f s after its deadlines"):format(late), 0) end
        if not ok then
            if not errors.is(problem) then error("not a structured error: " .. tostring(problem), 0) end
            if not utf8.len(tostring(problem)) then error("not UTF-8", 0) end
            if tostring(problem):find("hush", 1, true) then error("prints the password", 0) end
            if not problem.outcome then error("no outcome: " .. tostring(problem), 0) end
        end
    end
    local limit <const> = task.now() + 5
    while true do
        local st <const> = e:stats()
        if st.leased + st.opening + st.resetting + st.waiting == 0 then break end
        if task.now() > limit then error("a place of the pool is lost", 0) end
        task.sleep(0.01)
    end
end

--- The number of threads of this program.
local function threads()
    return #fs.list "/proc/self/task"
end

rounds.describe(describe, it, {
    {
        row = 5, what = "a frozen backend, a frozen server: the deadline fires, the loop stays alive",
        run = function(kind, each)
            local server <close> = servers.postgres()
            local w <close> = world.new(kind, server.url, { timeout = 0.4, connect_timeout = 0.4,
                command_timeout = 0.3 })
            each(w, function()
                w:fill()
                local frozen <const> = {}
                local _ <close> = setmetatable({}, { __close = thaw(frozen) })
                local pids <const> = w:backends()
                for i = 1, math.random(3) do frozen[i] = pids[i] end
                if math.random(3) == 1 then frozen[#frozen + 1] = server.pid end
                for _, pid in ipairs(frozen) do w.hand:after(math.random() * 0.01, "signal", "STOP", pid) end
                w:attempts(kind == "sync" and 2 or 6, LATE_OR_LOST)
                w.hand:wait()
                thaw(frozen)()
                -- A backend that was frozen during a statement ends it now, whatever happened to the task.
                pg.eventually(10, function()
                    return w.control:value [[select count(*) from pg_stat_activity where application_name = 'under test'
                        and state = 'active']] == 0
                end, "the end of what was frozen")
            end)
        end,
    },
    {
        row = 6, what = "a black hole and a reset at any byte: deadlines hold, the pool is whole again",
        run = function(kind, each)
            local server <const>, url <const>, name <const> = servers.shared_postgres(), servers.database()
            local proxy <close> = fake.proxy { to = server }
            local w <close> = world.new(kind, url, { url = proxy:address_of(server, { database = name }), timeout = 0.4,
                connect_timeout = 0.4, command_timeout = 0.3 })
            each(w, function()
                w:fill()
                local what <const> = math.random(3)
                if what == 1 then
                    proxy:hold(math.random(2) == 1 and "up" or "down")
                    w:attempts(2, LATE_OR_LOST)
                elseif what == 2 then
                    proxy:tell("later", math.random(0, 12), "hold", math.random(2) == 1 and "up" or "down")
                    w:attempts(kind == "sync" and 3 or 6, LATE_OR_LOST)
                else
                    proxy:tell("later", math.random(0, 12), "reset")
                    w:attempts(kind == "sync" and 3 or 6, LATE_OR_LOST)
                end
                proxy:tell "never"
                proxy:pass "up"
                proxy:pass "down"
                proxy:reset()
                task.sleep(0.02) -- the server reads the held bytes, and the last statement ends
                pg.eventually(10, function()
                    return w.control:value [[select count(*) from pg_stat_activity where application_name = 'under test'
                        and state = 'active']] == 0
                end, "the end of what was held")
            end)
        end,
    },
    {
        row = 8, what = "garbage, damaged and endless answers: an error in time, in bounded memory",
        run = function(kind, each)
            local w <close> = world.new(kind, (servers.database()))
            local before <const> = resident()
            each(w, function() lie(w) end)
            local more <const> = resident() - before
            assert(more < ROOM, ("%d MB more"):format(more >> 20))
        end,
    },
    {
        row = 9, what = "a login that computes longer than its deadline: nobody is held up, no thread stays",
        run = function(kind, each)
            -- So many rounds that they take several times the deadline on any machine: the threads end in this spec.
            local server <close> = bad_server.start [[
                my $take = sub { sysread $c, my $data, 65536; return $data };
                my $auth = sub { my ($kind, $data) = @_; print $c "R" . pack("NN", length($data) + 8, $kind) . $data };
                $take->();
                $auth->(10, "SCRAM-SHA-256\0\0");
                my ($nonce) = $take->() =~ /r=([^,]+)/;
                $auth->(11, "r=${nonce}more,s=c2FsdHNhbHRzYWx0,i=60000");
                sleep 5;]]
            local dir <const> = fs.mkdtemp()
            local _ <close> = setmetatable({}, { __close = function() fs.rmtree(dir) end })
            assert(process.run { "ln", "-s", server.socket, dir .. "/.s.PGSQL.5432" }.ok)
            local w <close> = world.new(kind, (servers.database()))
            local before <const> = threads()
            each(w, function()
                local opts <const> = world.options(kind, "postgresql://dbrun@/d?host=" .. dir,
                    { size = 2, timeout = 0.05, connect_timeout = 0.05, command_timeout = 0.05 })
                local bad <close> = require "dbrun.db".engine(opts)
                local stand_in <const> = setmetatable({ e = bad, opts = opts }, { __index = w })
                assert(not stand_in:attempt(LATE, "value"))
                -- Only a few compute at a time; more would leave no processor for the measured work.
                pg.eventually(60, function() return threads() <= before + 3 end, "the end of the threads")
            end)
        end,
    },
})

