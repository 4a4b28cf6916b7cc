--- Reads all signals of a job once a second, and decides: wait, go on, stop.
local ask <const> = require "dbrun.batch.signals.ask"
local db_params <const> = require "dbrun.db.params"
local errors <const> = require "dbrun.error"
local judge <const> = require "dbrun.batch.signals.judge"
local limits <const> = require "dbrun.batch.signals.limits"
local options <const> = require "dbrun.batch.signals.options"
local own <const> = require "dbrun.batch.signals.own"
local task <const> = require "dbrun.task"
local wal <const> = require "dbrun.batch.signals.wal"
local words <const> = require "dbrun.batch.signals.words"

local M = {}

local EVERY <const> = 1 -- seconds between two looks
local BEFORE <const> = 0.1 -- seconds between two looks that make an average before the first chunk
local AGAIN <const> = 30 -- seconds until a refused part is queried again

---A built-in signal: a file of this folder.
---@class dbrun.batch.Signal
---@field name string
---@field kind string of its limits
---@field default? number
---@field critical? boolean it may have a critical limit
---@field sees_sessions? boolean it needs the right to see other roles' sessions
---@field parts dbrun.batch.Part[]|fun(server: dbrun.batch.Server): dbrun.batch.Part[]
---@field new fun(health: dbrun.batch.Health): table
---@field read fun(self, answer, look: dbrun.batch.Look, limit: any, waiting: boolean): dbrun.batch.Reading

---The data of a look besides the server's answer.
---@class dbrun.batch.Look
---@field now number monotonic
---@field wal dbrun.batch.Wal
---@field pids table<integer, true>
---@field role string
---@field say fun(text: string)

---@class dbrun.batch.SignalState
---@field name string
---@field signal? table an instance; nil: a function of the job
---@field asked boolean the job asks for it, so it must be readable
---@field limit any
---@field critical any
---@field judge dbrun.batch.Judge
---@field out? boolean left out for good
---@field told? boolean the message that it cannot be read was given
---@field again? number when the server is asked again

---@class dbrun.batch.Health
---@field states dbrun.batch.SignalState[]
---@field replicas? table
---@field table? string
local Health = {}
local meta <const> = { __index = Health, __name = "dbrun.batch.Health" }

-- ---- which signals ----

local function state_of(self, name, limit, critical, asked)
    local old <const> = self.by_name[name]
    local state <const> = old or { name = name, judge = judge.new() }
    local signal <const> = options.BY_NAME[name]
    if signal and not state.signal then state.signal = signal.new(self) end
    limit, critical = limit or nil, critical or nil
    if state.limit ~= limit or state.critical ~= critical or state.asked ~= asked then -- else its message still holds
        state.limit, state.critical, state.asked = limit, critical, asked
        state.out, state.told, state.again = nil, nil, nil
    end
    return state
end

--- The built-in signals in their order, then the job's own.
local function names_of(throttle, critical)
    local list <const>, rest <const> = { table.unpack(options.ORDER) }, {}
    for _, given in ipairs { throttle, critical } do
        for name, value in pairs(given) do
            if type(value) ~= "boolean" and not options.BY_NAME[name] then rest[name] = true end
        end
    end
    local own_names <const> = {}
    for name in pairs(rest) do own_names[#own_names + 1] = name end
    table.sort(own_names)
    return table.move(own_names, 1, #own_names, #list + 1, list)
end

local function set(self, throttle, critical)
    throttle, critical = options.read("batch", "throttle", throttle), options.read("batch", "critical", critical)
    local states <const>, by_name <const> = {}, {}
    for _, name in ipairs(names_of(throttle, critical)) do
        local limit = throttle[name]
        if limit == nil then limit = options.DEFAULTS[name] end
        if name == "dead" and limit == nil and throttle.vacuum then limit = 0.2 end
        if limit or critical[name] then
            local asked <const> = throttle[name] ~= nil or critical[name] ~= nil
                or name == "replication_lag" and self.replicas ~= nil
            local state <const> = state_of(self, name, limit, critical[name], asked)
            states[#states + 1], by_name[name] = state, state
        end
    end
    self.states, self.by_name, self.vacuum = states, by_name, throttle.vacuum == true
end

---@class dbrun.batch.HealthOptions
---@field throttle? table
---@field critical? table
---@field blind? boolean go on without signals that cannot be read
---@field replicas? table engines of standbys that are queried directly
---@field oid? integer of the table
---@field table? string as people write it
---@field pids fun(): integer[] server processes of this process's running chunks
---@field say fun(text: string)
---@field now? fun(): number the monotonic clock

---@param o dbrun.batch.HealthOptions
---@return dbrun.batch.Health
function M.new(o)
    local self <const> = setmetatable({
        by_name = {}, blind = o.blind == true, replicas = o.replicas and next(o.replicas) and o.replicas or nil,
        oid = o.oid, table = o.table, pids = o.pids, say = o.say, clock = o.now or task.now, wal = wal.new(),
        waits = false,
    }, meta)
    set(self, o.throttle, o.critical)
    return self
end

---Changes the limits. If a signal that is requested now cannot be read, the job waits.
---@param throttle? table
---@param critical? table
---Raises an error of kind `usage` for an unknown name and a wrong value.
function Health:configure(throttle, critical)
    set(self, throttle, critical)
end

-- ---- what cannot be read ----

---@class dbrun.batch.Unread
---@field text string why
---@field remedy? string|false nil: the right that is missing; false: there is none

local function remedy_of(self, why)
    if why.remedy == nil then return "grant pg_monitor to " .. db_params.ident { self.server.role } end
    return why.remedy
end

---Handles a signal that cannot be read: refuses it at the start if the job asks for it; later it is a reason to wait; a
---default one is reported once.
---@param why dbrun.batch.Unread
---@return string? wait
local function cannot(self, state, why)
    local text <const>, remedy <const> = ("%s cannot be read: %s"):format(state.name, why.text), remedy_of(self, why)
    if state.asked and not self.blind then
        if self.starting then
            errors.fail("usage", text, (remedy and remedy .. "; or " or "") .. "blind = true goes on without")
        end
        return remedy and ("%s (%s)"):format(text, remedy) or text
    end
    if not state.told then
        state.told = true
        self.say(("%s; the job goes on without%s"):format(text, remedy and (" (%s)"):format(remedy) or ""))
    end
    return nil
end

-- ---- one look ----

local function parts_of(self, state)
    local parts <const> = state.signal and state.signal.parts or {}
    return type(parts) == "function" and parts(self.server) or parts
end

---The parts to query now, each once; nil: no query is needed.
local function parts_now(self, now, working)
    local list <const>, there <const>, any = {}, {}, false
    for _, state in ipairs(self.states) do
        if not state.out and not (state.again and now < state.again) then
            if state.again then state.again, self.stale = nil, true end
            any = any or state.signal ~= nil and state.signal.needs_wal or false
            for _, part in ipairs(parts_of(self, state)) do
                if not there[part.name] and (working or not part.while_working) then
                    there[part.name] = true
                    list[#list + 1] = part
                end
            end
        end
    end
    return (any or #list > 0) and list or nil
end

local function know(self, conn)
    local server <const> = ask.server(conn)
    if self.server and server.timeline ~= self.server.timeline then -- a failover: other standbys, other WAL
        self.wal:clear()
        for _, state in ipairs(self.states) do
            if state.signal and state.signal.restart then state.signal:restart() end
        end
    end
    self.server, self.conn, self.stale = server, conn, false
end

--- Runs the statement, and concurrently the queries to replicas.
local function answer_of(self, conn, parts, ours, now)
    local lag <const> = self.by_name.replication_lag
    local questions <const> = lag and not lag.out and lag.signal:questions(now) or {}
    local function look() return parts and ask.look(conn, parts, ours, self.oid) or { refused = {} } end
    if #questions == 0 then return look() end
    table.insert(questions, 1, look)
    return task.all(questions)[1]
end

---Why a built-in signal cannot be read from this answer.
---@return dbrun.batch.Unread?
local function refused(self, state, answer)
    for _, part in ipairs(parts_of(self, state)) do
        local e <const> = answer.refused[part.name]
        if e then
            local why <const> = { text = words.text(e.message) }
            if e.sqlstate ~= "42501" then why.remedy = false end -- no right would help
            return why
        end
    end
    if state.signal.sees_sessions and self.server.masked then
        return { text = ("the role %s may not see other roles' sessions"):format(words.name(self.server.role)) }
    end
    return nil
end

--- Limits of a signal may be relative to what it has seen.
local function number(signal, limit)
    if limit and signal.number then return signal:number(limit) end
    return limit
end

---@return dbrun.batch.Reading
local function read_ours(self, state, answer, look)
    local signal <const> = state.signal
    if state.again then return { wait = state.judge.text } end
    local why <const> = refused(self, state, answer)
    if why then
        local wait <const> = cannot(self, state, why)
        if wait then state.again = look.now + AGAIN else state.out = true end
        return { wait = wait }
    end
    local found <const> = signal:read(answer, look, number(signal, state.limit), state.judge.waiting)
    if found.unread then found.wait = cannot(self, state, found.unread) end
    return found
end

local function read_own(self, state, conn, which)
    local fn <const> = state[which]
    return fn and own.call(fn, { db = conn, name = state.name, table = self.table }) or nil
end

--- How a limit of the signal is shown, and what is computed from it.
local function shower(signal, raw)
    local show <const> = limits.KINDS[signal.kind].show
    if not signal.show then return show end
    local whole <const> = number(signal, raw)
    return function(limit) return limit == whole and signal:show(raw) or show(limit) end
end

local function look_at(self, state, conn, answer, look)
    if state.out then return {} end
    local signal <const>, limit <const> = state.signal, state.limit
    if signal then
        local found <const> = read_ours(self, state, answer, look)
        state.judge:look(found, number(signal, limit), shower(signal, limit))
        return found
    end
    local found <const> = { wait = read_own(self, state, conn, "limit"), critical = read_own(self, state, conn,
        "critical") }
    state.judge:look(found)
    return found
end

local function look_for_critical(self, now, found)
    local counts <const> = not self.waits or self.working
    for i, state in ipairs(self.states) do
        local signal <const>, limit <const> = state.signal, state.critical
        state.judge:look_critical(found[i], signal and number(signal, limit), signal and shower(signal, limit), now,
            counts)
    end
end

---Reads all signals: with one statement, or two on a new connection.
---@param conn table a leased connection, in no transaction
---Raises errors of the connection, and an error of kind `cancelled`.
function Health:sample(conn)
    if self.conn ~= conn or self.stale then know(self, conn) end
    local ours <const>, pids <const>, now <const> = self.pids(), {}, self.clock()
    for _, pid in ipairs(ours) do pids[pid] = true end
    self.working = #ours > 0
    local answer <const> = answer_of(self, conn, parts_now(self, now, self.working), ours, now)
    if answer.wal then self.wal:add(answer.wal, answer.clock) end
    local look <const> = { now = now, wal = self.wal, pids = pids, role = words.name(self.server.role), say = self.say }
    local found <const> = {}
    for i, state in ipairs(self.states) do found[i] = look_at(self, state, conn, answer, look) end
    look_for_critical(self, now, found)
    self.waits = self:verdict() ~= nil
end

---The first look, before there is a chunk.
---@param conn table a leased connection, in no transaction
---Raises an error of kind `usage` for a requested signal that cannot be read, and errors of the connection.
function Health:start(conn)
    self.starting, self.conn = true, nil
    local _ <close> = setmetatable({}, { __close = function() self.starting = false end })
    self:sample(conn)
    local active <const> = self.by_name.active
    for _ = 1, active and active.signal:looks_before(active.limit, active.critical) or 0 do
        task.sleep(BEFORE)
        self:sample(conn)
    end
end

-- ---- what it means ----

---Why no new chunk may begin now; nil: go on.
---@return string? text "standby b is 12 s behind, limit 5"
---@return string? name of the signal
function Health:verdict()
    for _, state in ipairs(self.states) do
        if state.judge.waiting then return state.judge.text, state.name end
    end
    return nil
end

---Whether a value is above three quarters of its limit, so that chunks must not grow.
---@return boolean
function Health:near()
    for _, state in ipairs(self.states) do
        if state.judge.near then return true end
    end
    return false
end

---Why the job must be paused: a critical value seen twice, five seconds apart.
---@return string? text
---@return string? name of the signal
function Health:critical()
    for _, state in ipairs(self.states) do
        if state.judge.critical then return state.judge.critical, state.name end
    end
    return nil
end

---Sessions that have waited too long for a chunk of this process, the longest first.
---@return { pid: integer, waited: number, text: string }[] pid: the server process whose chunk must end
function Health:blocking()
    local blocked <const> = self.by_name.blocked
    return blocked and self.working and blocked.signal.list or {}
end

---Seconds until the next look: one second, or less if a blocked session will have waited too long before.
---@return number
function Health:next_look()
    local blocked <const> = self.by_name.blocked
    return blocked and self.working and math.min(EVERY, blocked.signal:next_look(blocked.limit) or EVERY) or EVERY
end

---Records the time of a chunk's claim and commit.
---@param seconds number
function Health:took(seconds)
    local latency <const> = self.by_name.latency
    if latency then latency.signal:took(seconds) end
end

---Whether the calling worker should vacuum the table before its next chunk: true for one worker, at most once a minute.
---@return boolean
function Health:wants_vacuum()
    local dead <const> = self.by_name.dead
    return self.vacuum and dead ~= nil and not dead.out and dead.signal:wants_vacuum(self.clock())
end

return M
