--- Starts a job, with its row and first range; or resumes it, if it exists and has not changed.
local barriers = require "dbrun.batch.state.barrier"
local catalog = require "dbrun.db.catalog"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local jobs = require "dbrun.batch.state.jobs"
local walks = require "dbrun.batch.walk"

local M = {}

---@class dbrun.batch.Start
---@field name string
---@field kind string
---@field source string
---@field texts table the definition that the hash covers
---@field hash string
---@field identity table
---@field file_values table
---@field estimate? integer
---@field last? string[] the last key; nil for an empty table
---@field parts fun(tx: table): {first?: string[], last: string[]}[] the ranges at the start, up to the last key
---@field follow? boolean goes on when the end is reached
---@field adopt? boolean takes a changed definition

local INSERT <const> = [[
insert into %s as j (name, kind, source, definition, hash, identity, started, pass_started, last, barrier, file_values,
                     estimate, events, state, ended)
values (:name, :kind, :source, :texts::jsonb, :hash, :identity::jsonb, {clock_timestamp}(), {clock_timestamp}(),
        :last::text[], :barrier::jsonb, :file_values::jsonb, :estimate, %s,
        case when :empty then 'done' else 'running' end, case when :empty then {clock_timestamp}() end)
on conflict (name) do nothing returning name]]

local FIRST <const> = "insert into %s (job, pass, first, position, last) "
    .. "values (:job, 1, :first::text[], :first::text[], :last::text[])"

local function create(tx, place, start)
    local json <const> = require("dbrun.db").json
    local empty <const> = not start.last and not start.follow
    local barrier <const>, last = barriers.read(tx, start.name), start.last
    if start.follow then barrier.last, last = last, nil end -- valid when all transactions open now have ended
    local made <const> = tx:value(catalog.sql(INSERT:format(place.jobs, jobs.with_event "'[]'::jsonb")), {
        name = start.name, kind = start.kind, source = start.source, texts = json(start.texts), hash = start.hash,
        identity = json(start.identity), last = last or core.null, barrier = json(barrier),
        file_values = json(start.file_values), estimate = start.estimate or core.null, what = "started",
        who = jobs.who(), text = core.null, empty = empty,
    })
    for _, part in ipairs(made and last and start.parts(tx) or {}) do
        tx:query(FIRST:format(place.ranges), { job = start.name, first = part.first or core.null, last = part.last })
    end
    return made ~= nil
end

---The differences between the definition that the job was started with and the present one.
local function changed(before, now)
    local list <const> = {}
    for key, text in pairs(now) do
        if before[key] ~= text then list[#list + 1] = key end
    end
    for key in pairs(before) do
        if now[key] == nil then list[#list + 1] = key end
    end
    table.sort(list)
    return #list > 0 and table.concat(list, ", ") or "the definition"
end

local function check_same(row, start)
    if row.kind ~= start.kind then
        errors.fail("usage",
            ("the job '%s' was started as a %s, and is a %s now"):format(row.name, row.kind, start.kind),
            "give it another name, or: dbrun batch forget " .. row.name)
    end
    local differs <const> = walks.differs(row.identity, start.identity)
    if differs then
        errors.fail("usage", ("the job '%s' cannot go on where it was: %s"):format(row.name, differs),
            ("its positions may name other rows now. After a look: dbrun batch forget %s starts it anew"):format(
                row.name))
    end
    if row.hash ~= start.hash and not start.adopt then
        errors.fail("usage", ("the job '%s' has changed since it was started: %s"):format(row.name,
            changed(row.definition, start.texts)),
            "--adopt goes on with the new text from where it is; dbrun batch forget starts anew")
    end
end

local ADOPT <const> = "update %s set hash = :hash, definition = :texts::jsonb, events = %s where name {=} :name"
local GO_ON <const> = [[
update %s set state = 'running', reason = null, file_values = :file_values::jsonb, events = %s where name {=} :name]]

local function resume(tx, place, start)
    local row <const> = tx:one(catalog.sql(("select * from %s where name {=} $1 for no key update"):format(place.jobs)),
        start.name)
    if not row then return nil end -- forgotten at this moment
    check_same(row, start)
    local json <const> = require("dbrun.db").json
    if row.hash ~= start.hash then
        tx:query(catalog.sql(ADOPT:format(place.jobs, jobs.with_event())), {
            hash = start.hash, texts = json(start.texts), name = start.name, what = "adopted", who = jobs.who(),
            text = changed(row.definition, start.texts),
        })
    end
    if row.state == "stopped" then
        tx:query(catalog.sql(GO_ON:format(place.jobs, jobs.with_event())), {
            name = start.name, what = "resumed", who = jobs.who(), text = core.null,
            file_values = json(start.file_values),
        })
        row.state, row.reason = "running", nil
    end
    return row
end

---Starts or resumes the job.
---@param conn table a leased connection
---@param place dbrun.batch.Place
---@param start dbrun.batch.Start
---@return dbrun.batch.JobRow row
---@return boolean resumed it was there already
---Raises an error of kind `usage` when the definition has changed.
function M.open(conn, place, start)
    for _ = 1, 5 do
        local made, row = false, nil
        conn:transaction({ isolation = "read committed", read_only = false }, function(tx)
            made = create(tx, place, start)
            if not made then row = resume(tx, place, start) end
        end)
        row = row or jobs.find(conn, start.name, place)
        if row then return row, not made end
    end
    errors.fail("usage", ("the job '%s' is forgotten again and again while it starts"):format(start.name))
end

return M
