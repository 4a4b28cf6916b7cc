-- A machine whose network is cut off in the middle of a chunk: another one takes its range within 20 seconds, and each
-- row is done once. Long: only when DBRUN_BATCH_CUTS says how often (make batch-storm).
local core = require "dbrun.core"
local process = require "dbrun.process"

local CUTS <const> = math.tointeger(tonumber(os.getenv "DBRUN_BATCH_CUTS")) or 0

--- What is missing before a network can be cut here.
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

--- In a network of its own: the server and one machine at 10.99.0.1; the other machine, at 10.99.0.2, is cut off.
local INSIDE <const> = [[
package.path = "./?.lua;" .. package.path
local batch = require "spec.support.batch"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local ROWS <const>, SIZE <const> = 3000, 20
local cuts <const> = tonumber(os.getenv "CUTS")

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

--- The range that the far machine has a chunk of under way, or has had.
local function range_of(name, pid)
    return e:one("select id from dbrun_batch_ranges where job = $1 and state = 'open' "
        .. "and owner like '%:' || $2 || '/%'", name, tostring(pid))
end

local function taken(name, id, pid)
    return e:value("select owner is null or owner not like '%:' || $2 || '/%' or job <> $3 "
        .. "from dbrun_batch_ranges where id = $1", id, tostring(pid), name)
end

local function round(n)
    local name <const> = "cut" .. n
    e:exec "drop table if exists t"
    batch.counters(e, "t", ROWS)
    batch.slow(e, "t", 0.03)
    local source <const> = batch.job {
        name = name, table = "t", run = "update t set n = n + 1 where :chunk", size = SIZE, max = SIZE,
    }
    local a <close> = batch.start(source, {
        url = server:address { host = "10.99.0.1" }, words = { "nsenter", "-t", tostring(peer.pid), "-n" },
        chunks = true, run = { reconnect = 120 },
    })
    for _ = 1, math.random(3, 10) do a:event "chunk" end
    local b <close> = batch.start(source, { url = server.url })
    task.sleep(0.5 + math.random())
    local range <const> = assert(range_of(name, a.pid), "the far machine has no range")
    must("sh", "-c", far .. "ip link set far0 down") -- both sides send into the void
    local began <const> = task.now()
    local lost <const> = n % 2 == 0
    if lost then a:kill() end
    pg.eventually(40, function() return taken(name, range.id, a.pid) end)
    local took <const> = task.now() - began
    must("sh", "-c", far .. "ip link set far0 up")
    for _, worker in ipairs { a, b } do
        local result <const> = (worker == b or not lost) and worker:finish(60)
        assert(not result or result.ended and result.ended.state == "done", result and result.text)
    end
    assert(batch.counted(e, "t") == "1: " .. ROWS, batch.counted(e, "t") .. "\n" .. batch.ranges(e, name))
    print(("taken %.1f s after the cut%s"):format(took, lost and ", the machine was lost" or ""))
    assert(took <= 20, batch.ranges(e, name))
end

math.randomseed(tonumber(os.getenv "SEED"))
for n = 1, cuts do round(n) end
]]

it("its range is taken by another machine, and each row is done once", function()
    local why <const> = missing()
    if why then return pending(why) end
    local seed <const> = os.getenv "DBRUN_TEST_SEED" or tostring(os.time())
    print("# DBRUN_TEST_SEED=" .. seed)
    local result <const> = process.run {
        "unshare", "-n", core.options.program, "--no-env", "-", stdin = INSIDE, timeout = 60 * CUTS + 30,
        env = { CUTS = tostring(CUTS), SEED = seed },
    }
    print((result.stdout:gsub("[^\n]+", "# %0")))
    assert(result.ok, "DBRUN_TEST_SEED=" .. seed .. ": " .. result.stdout .. result.stderr)
end)
