-- A job on two machines, one of which is repeatedly cut off from the server in the middle of a chunk: within 20 seconds
-- its range is free for others, and each row is processed once. Takes long: runs only when DBRUN_BATCH_CUTS sets the
-- number of cuts (make batch-storm).
local core = require "dbrun.core"
local process = require "dbrun.process"

local CUTS <const> = math.tointeger(tonumber(os.getenv "DBRUN_BATCH_CUTS")) or 0

--- The requirement that is missing to cut a network here.
local function missing()
    if CUTS == 0 then return "takes half a minute: make batch-storm" end
    if process.uid() ~= 0 then return "takes root, for network namespaces" end
    for _, name in ipairs { "unshare", "nsenter", "ip" } do
        if not process.run({ "sh", "-c", "command -v " .. name }).ok then return "takes " .. name end
    end
    local pair <const> = "ip link add near0 type veth peer name far0"
    if not process.run({ "unshare", "-n", "sh", "-c", pair }).ok then
        return "takes network namespaces, and the right to make them"
    end
end

--- In a separate network: the server and one machine at 10.99.0.1; the other machine, at 10.99.0.2, is cut off.
local INSIDE <const> = [[
package.path = "./?.lua;" .. package.path
local batch = require "spec.support.batch"
local catalog = require "dbrun.db.catalog"
local parts = require "dbrun.batch.state.sql"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local cuts <const> = tonumber(os.getenv "CUTS")
local ROWS <const>, SIZE <const> = 20000 * cuts, 20 -- the near machine does 12,000 while the other one is cut off

local function must(...)
    local result <const> = process.run { ... }
    assert(result.ok, table.concat({ ... }, " ") .. ": " .. result.stderr)
end

local peer <close> = process.start { "unshare", "-n", "sleep", "3600", pdeathsig = "KILL" }
local far <const> = ("nsenter -t %d -n "):format(peer.pid)
pg.eventually(10, function()
    return process.run({ "readlink", ("/proc/%d/ns/net"):format(peer.pid) }).stdout
        ~= process.run({ "readlink", "/proc/self/ns/net" }).stdout
end)
must("sh", "-c", ("ip link set lo up && ip link add near0 type veth peer name far0 netns %d && "
    .. "ip addr add 10.99.0.1/24 dev near0 && ip link set near0 up && "
    .. far .. "sh -c 'ip link set lo up; ip addr add 10.99.0.2/24 dev far0; ip link set far0 up'"):format(peer.pid))

local server <close> = servers.postgres {
    tcp = true, settings = { listen_addresses = "10.99.0.1" },
    hba = "local all all trust\nhost all all 10.99.0.0/24 trust",
}
local e <close> = pg.engine { url = server.url, size = 3 }

batch.counters(e, "t", ROWS)
batch.slow(e, "t", 0.03)
local source <const> = batch.job {
    name = "cuts", table = "t", run = "update t set n = n + 1 where :chunk", size = SIZE, max = SIZE,
}

--- The machine that is cut off.
local function far_one()
    return batch.start(source, {
        url = server:address { host = "10.99.0.1" }, words = { "nsenter", "-t", tostring(peer.pid), "-n" },
        chunks = true, run = { reconnect = 120 },
    })
end

--- The range that it has a chunk of under way, or has had.
local function range_of(pid)
    return e:value("select id from dbrun_batch_ranges where state = 'open' and owner like '%:' || $1 || '/%'",
        tostring(pid))
end

local OWNED <const> = "select 1 from dbrun_batch_ranges where id = $1 and owner like '%:' || $2 || '/%' "
    .. "and state = 'open'"
local FREE <const> = catalog.sql("select 1 from dbrun_batch_ranges r where r.id = :id and " .. parts.FREE
    .. " for no key update skip locked")

--- Would a worker that asks for a range get this one, or has one got it already?
local function is_free(id, pid)
    return not e:one(OWNED, id, tostring(pid)) or e:one(FREE, { id = id, me = "another" }) ~= nil
end

local near <close> = batch.start(source, { url = server.url })
local a = far_one()
local _ <close> = setmetatable({}, { __close = function() a:close() end })

local function cut(n)
    local range
    pg.eventually(30, function()
        for _ = 1, math.random(3, 10) do a:event "chunk" end
        range = range_of(a.pid)
        return range ~= nil
    end)
    must("sh", "-c", far .. "ip link set far0 down") -- both sides send into the void
    local began <const> = task.now()
    local lost <const> = n % 2 == 0
    if lost then a:kill() end
    pg.eventually(40, function() return is_free(range, a.pid) end)
    local took <const> = task.now() - began
    must("sh", "-c", far .. "ip link set far0 up")
    print(("free %.1f s after the cut%s"):format(took, lost and ", the machine was lost" or ""))
    assert(took <= 20, batch.ranges(e, "cuts"))
    if lost then
        a:close()
        a = far_one()
    end
end

math.randomseed(tonumber(os.getenv "SEED"))
for n = 1, cuts do cut(n) end
for _, worker in ipairs { a, near } do
    local result <const> = worker:finish(60 + 20 * cuts)
    assert(result.ended and result.ended.state == "done", result.text)
end
assert(batch.counted(e, "t") == "1: " .. ROWS, batch.counted(e, "t") .. "\n" .. batch.ranges(e, "cuts"))
]]

it("its range is free for other machines, and each row is processed once", function()
    local why <const> = missing()
    if why then return pending(why) end
    local seed <const> = os.getenv "DBRUN_TEST_SEED" or tostring(os.time())
    print("# DBRUN_TEST_SEED=" .. seed)
    local result <const> = process.run {
        "unshare", "-n", core.options.program, "--no-env", "-", stdin = INSIDE, timeout = 90 * CUTS + 60,
        env = { CUTS = tostring(CUTS), SEED = seed },
    }
    print((result.stdout:gsub("[^\n]+", "# %0")))
    assert(result.ok, "DBRUN_TEST_SEED=" .. seed .. ": " .. result.stdout .. result.stderr)
end)
