--- One engine under one fault: does work with it, and checks that the reported outcome of each piece of work is true.

local db <const> = require "dbrun.db"
local errors <const> = require "dbrun.error"
local hand <const> = require "spec.support.faults.hand"
local stalls <const> = require "spec.support.faults.stalls"
local task <const> = require "dbrun.task"
local works <const> = require "spec.support.faults.works"

local M <const> = {}

local SECRET <const> = "hush-%2F-hush"
local SECRETS <const> = { "hush-%2F-hush", "hush-/-hush" }
local OUTCOMES <const> = { not_sent = true, failed = true, unknown = true }

---@class spec.World
---@field kind "async"|"shared"|"sync"
---@field e table the engine under test
---@field control table an engine that the fault does not touch
---@field hand spec.Hand
---@field opts table of e
---@field worst number the longest pause of the loop, in seconds
local World <const> = {}
local meta <const> = { __index = World }

M.ALL = { "async", "shared", "sync" }

--- Options of an engine of this kind; its URL carries a password, which the server does not ask for.
---@return table
function M.options(kind, url, opts)
    local all <const> = { size = 3, timeout = 1, connect_timeout = 1, command_timeout = 1,
        application_name = "under test" }
    for key, value in pairs(opts or {}) do all[key] = value end
    all.url = (all.url or url):gsub("dbrun@", function() return "dbrun:" .. SECRET .. "@" end, 1)
    all.mode = kind == "sync" and "sync" or "async"
    if kind ~= "sync" then all.overflow = all.overflow or 0 end
    if kind == "shared" then all.pipeline = all.pipeline or 8 end
    return all
end

---@param kind "async"|"shared"|"sync"
---@param direct string URL of the server itself, without the proxies that fail
---@param opts? table of the engine; `url` if it does not go to the server directly
---@return spec.World closable
function M.new(kind, direct, opts)
    local self <const> = setmetatable({ kind = kind, nonces = 0, entries = {}, counts = {} }, meta)
    self.opts = M.options(kind, direct, opts)
    self.control = db.engine { url = direct, size = 2, timeout = 20, connect_timeout = 20, command_timeout = 20,
        application_name = "control" }
    self.control:exec "drop table if exists ledger"
    self.control:exec "create table ledger (n int8, pad text)"
    self.hand = hand.start(direct)
    self.stalls = stalls.start()
    self.e = db.engine(self.opts)
    self.worst = 0
    if kind ~= "sync" then self.ticker = task.spawn(self.tick, self) end
    return self
end

--- Ticks while the engine works, and notes the longest pause of the loop that the machine did not cause.
function World:tick()
    local last, waited = task.now(), stalls.waited()
    while not self.closed do
        task.sleep(0.01)
        local now <const>, waited_now <const> = task.now(), stalls.waited()
        local pause = now - last - 0.01 - (waited_now - waited)
        if pause > 0.1 then pause = pause - self.stalls:between(last, now) end
        self.worst = math.max(self.worst, pause)
        last, waited = now, waited_now
    end
end

--- Checks from now on what is stored on another server.
---@param url string
function World:observe(url)
    self.control:close()
    self.control = db.engine { url = url, size = 2, timeout = 20, connect_timeout = 20, command_timeout = 20,
        application_name = "control" }
end

function World:close()
    self.closed = true
    if self.ticker then self.ticker:join() end
    self.e:close()
    self.control:close()
    self.hand:close()
    self.stalls:close()
end

meta.__close = World.close

---@return integer unique
function World:nonce()
    self.nonces = self.nonces + 1
    return self.nonces * 10000
end

-- ---- one piece of work ----

local Work <const> = {}
local work_meta <const> = { __index = Work }

function Work:nonce() return self.world:nonce() end

function Work:write()
    local n <const> = self.world:nonce()
    self.written[#self.written + 1] = n
    return n
end

function Work:spoil()
    local n <const> = self.world:nonce()
    self.spoilt[#self.spoilt + 1] = n
    return n
end

function Work.same(_, expected, got)
    if expected ~= got then
        error(("wrong answer: %s instead of %s"):format(tostring(got), tostring(expected)), 2)
    end
end

local function fail(fmt, ...) error(fmt:format(...), 0) end

--- Runs fn(...); what it raises fails the round, also where the fault throws errors away.
---@return any ... what fn returned
function World:must(fn, ...)
    local result <const> = table.pack(pcall(fn, ...))
    if not result[1] then
        self.wrong = self.wrong or tostring(result[2])
        error(result[2], 0)
    end
    return table.unpack(result, 2, result.n)
end

--- Checks that the error is structured, names its cause, has a possible outcome, and contains no secret.
local function check_error(problem, work, allowed)
    local text <const> = tostring(problem)
    if not errors.is(problem) then fail("%s: not a structured error: %s", work.name, text) end
    local kind <const> = problem.kind
    if not (allowed[kind] or problem.sqlstate and allowed[problem.sqlstate]) then
        fail("%s: unexpected %s (%s): %s", work.name, kind, tostring(problem.outcome), text)
    end
    local own <const> = kind == "cancelled" or text:find("task.timeout", 1, true)
    if own and not problem.outcome then -- before the statement began, or between two of them
        work.outcome = "not_sent"
    elseif not OUTCOMES[problem.outcome] then fail("%s: outcome %s: %s", work.name, tostring(problem.outcome), text) end
    if work.inside and problem.outcome == "unknown" then
        fail("%s: unknown before COMMIT was sent: %s", work.name, text)
    end
    if type(problem.message) ~= "string" or #problem.message < 5 then fail("%s: no message: %s", work.name, text) end
    if not own and (type(problem.hint) ~= "string" or #problem.hint < 5) then
        fail("%s: does not say what to do: %s", work.name, text)
    end
    if type(problem.retryable) ~= "boolean" then fail("%s: retryable: %s", work.name, tostring(problem.retryable)) end
    if not utf8.len(text) then fail("%s: not UTF-8: %q", work.name, text) end
    for _, secret in ipairs(SECRETS) do
        if text:find(secret, 1, true) then fail("%s: prints the password", work.name) end
        for key, value in pairs(problem) do
            if type(value) == "string" and value:find(secret, 1, true) then
                fail("%s: password in %s", work.name, key)
            end
        end
    end
end

--- The most seconds that a piece of work with this many statements can take.
function World:limit(steps)
    local opts <const> = self.opts
    local wait <const> = self.kind == "sync" and opts.connect_timeout or math.max(opts.timeout, opts.connect_timeout)
    return wait + (steps + 1) * opts.command_timeout -- one more: a ping before, or a reset after
end

--- Does one piece of work; errors that are not in `allowed` (kinds and SQLSTATEs), wrong answers and hangs raise.
---@param allowed? table<string, boolean> default: none
---@param name? string of works.kinds; default: random
---@return boolean ok
---@return any problem
function World:attempt(allowed, name)
    name = name or works.any(self.kind)
    local kind <const> = works.kinds[name]
    local work <const> = setmetatable({ world = self, name = name, written = {}, spoilt = {} }, work_meta)
    self.entries[#self.entries + 1] = work
    local began <const>, waited <const> = task.now(), stalls.waited()
    local ok <const>, problem <const> = pcall(kind.run, work, self.e)
    self:must(self.judge, self, work, ok, problem, task.now() - began, stalls.waited() - waited, allowed or {})
    return ok, problem
end

--- Checks that the work ended in time, and that its error, if any, is an allowed one.
function World:judge(work, ok, problem, took, waited, allowed)
    local limit <const> = self:limit(works.kinds[work.name].steps) * 1.1 + 0.1
    if took > limit then
        local now <const> = task.now()
        if took > limit + waited + self.stalls:between(now - took, now) then
            fail("%s: took %.3f s, at most %.3f s were allowed: %s", work.name, took, limit, tostring(problem))
        end
    end
    if ok then
        work.outcome = "done"
    else
        check_error(problem, work, allowed)
        work.outcome = problem.outcome or work.outcome
        if problem.outcome == "unknown" and (work.attempts or 1) > 1 then
            fail("%s: ran %d times, and its outcome is unknown", work.name, work.attempts)
        end
    end
    local count <const> = ok and "done" or work.outcome .. "/" .. (problem.sqlstate or problem.kind)
    self.counts[count] = (self.counts[count] or 0) + 1
end

--- Does several pieces of work at once; on the sync engine one after the other.
---@param n integer
---@return integer succeeded
function World:attempts(n, allowed, name)
    local done = 0
    local list <const> = {}
    for i = 1, n do
        list[i] = function()
            if self:attempt(allowed, name) then done = done + 1 end
        end
    end
    if self.kind == "sync" then
        for _, fn in ipairs(list) do fn() end
    else
        task.all(list)
    end
    return done
end

-- ---- afterwards ----

--- Checks that succeeded work is stored exactly once, and failed or unsent work not at all. Work with an unknown
--- outcome must be stored completely or not at all.
function World:verify()
    local there <const> = {}
    for _, row in ipairs(self.control:query "select n, count(*) as times from ledger group by n") do
        there[row.n] = row.times
    end
    for _, work in ipairs(self.entries) do
        local first
        for i, n in ipairs(work.written) do
            local times <const> = there[n] or 0
            -- A body that ran several times wrote other nonces each time: only the last ones count.
            if work.outcome == "done" and times ~= 1 and not work.attempts then
                fail("%s: reported as done, but %d of %d is there %d times", work.name, i, #work.written, times)
            elseif (work.outcome == "failed" or work.outcome == "not_sent") and times ~= 0 then
                fail("%s: reported as %s, but %d of %d is there", work.name, work.outcome, i, #work.written)
            elseif times > 1 then
                fail("%s: ran twice", work.name)
            end
            first = first or times
            if work.outcome ~= "elsewhere" and times ~= first and (work.attempts or 1) == 1 then
                fail("%s: half of it is there", work.name)
            end
        end
        if work.outcome == "done" and work.attempts then
            local n <const> = work.written[#work.written]
            if there[n] ~= 1 then fail("%s: reported as done, but it is not there", work.name) end
        end
        for _, n in ipairs(work.spoilt) do
            if there[n] then fail("%s: what was rolled back is there", work.name) end
        end
    end
end

--- Checks that the connection gives right answers within its time limit; pauses of the machine do not count.
function World:answers(lease)
    local n <const> = self:nonce()
    local began <const>, waited <const> = task.now(), stalls.waited()
    local ok <const>, got <const> = pcall(lease.value, lease, "select $1::int8", n)
    if ok and got == n then return end
    local stood <const> = (stalls.waited() - waited) + self.stalls:between(began, task.now())
    if not ok and errors.is(got, "timeout") and stood > self.opts.command_timeout / 2 then
        print(("# no answer, while the machine stood still for %.3f s"):format(stood))
        return
    end
    fail("after the fault: %s instead of %d (the machine stood still for %.3f s)", tostring(got), n, stood)
end

--- Checks that the pool is idle within two seconds, that all its connections can be checked out at once, and that each
--- gives right answers.
function World:whole()
    task.sleep(0.002) -- no pre-ping for a connection that was returned less than a millisecond ago
    local began <const>, waited <const> = task.now(), stalls.waited()
    while true do
        local st <const> = self.e:stats()
        if st.leased + st.opening + st.resetting + st.waiting == 0 and st.open == st.idle then break end
        local now <const> = task.now()
        if now - began > 2 + (stalls.waited() - waited) + self.stalls:between(began, now) then
            fail("a place of the pool is lost: %d leased, %d opening, %d resetting, %d waiting, %d open, %d idle",
                st.leased, st.opening, st.resetting, st.waiting, st.open, st.idle)
        end
        task.sleep(0.005)
    end
    -- There is no pre-ping for a connection that was returned or reset less than a millisecond ago.
    task.sleep(0.002)
    local held <const> = {}
    for i = 1, self.opts.size do
        local ok <const>, lease <const> = pcall(self.e.acquire, self.e)
        if not ok then fail("place %d of %d cannot be had: %s", i, self.opts.size, tostring(lease)) end
        held[i] = lease
    end
    for _, lease in ipairs(held) do self:answers(lease) end
    for _, lease in ipairs(held) do lease:release() end
end

--- Process numbers of the engine's backends, seen from the control connection.
---@return integer[]
function World:backends()
    local pids <const> = {}
    for _, row in ipairs(self.control:query [[select pid from pg_stat_activity where backend_type = 'client backend'
            and application_name = 'under test' order by random()]]) do
        pids[#pids + 1] = row.pid
    end
    return pids
end

--- Opens all connections of the pool.
function World:fill()
    local held <const> = {}
    local ok <const>, problem <const> = pcall(function()
        for i = 1, self.opts.size do held[i] = self.e:acquire() end
    end)
    for _, lease in ipairs(held) do lease:release() end
    if not ok then error(problem, 0) end
end

return M
