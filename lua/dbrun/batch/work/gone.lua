--- The message at the end of a job about partitions, or chunks of a hypertable, that were detached or dropped while it
--- ran: rows there that the job had not reached are not done.
local jobs = require "dbrun.batch.state.jobs"

local M = {}

local MOST <const> = 5 -- names in the message

---@param list {name: string, exists: boolean}[]
---@param walk dbrun.batch.Walk
---@return string
local function text_of(list, walk)
    local names <const> = {}
    for i = 1, math.min(#list, MOST) do
        names[i] = ("%s was %s"):format(list[i].name, list[i].exists and "detached" or "dropped")
    end
    if #list > MOST then names[#names + 1] = ("and %d more"):format(#list - MOST) end
    local word <const>, one <const> = walk.is_hypertable and "chunk" or "partition", #list == 1
    return ("%d %s of %s %s gone since the job began, and what it had not reached there is not done: %s"):format(
        #list, one and word or word .. "s", walk.shown, one and "is" or "are", table.concat(names, ", "))
end

---Reports which are gone, and records it in the job's log.
---@param run dbrun.batch.Run
function M.tell(run)
    local walk <const> = run.store.bounds.walk
    if walk.sql == false or not run.row.identity.leaves then return end
    local conn <close> = run.engine:acquire()
    local source <close> = run.definition.source_engine and run.definition.source_engine:acquire() or nil
    local list <const> = walk:gone(source or conn, run.row.identity)
    if #list == 0 then return end
    local text <const> = text_of(list, walk)
    run:tell("message", { text = text })
    local row <const> = jobs.find(conn, run.store.name, run.store.place)
    for _, event in ipairs(row and row.events or {}) do
        if event.what == "partitions" and event.text == text then return end -- another process has recorded it
    end
    if row then jobs.event(conn, row.name, "partitions", text, run.store.place) end
end

return M
