-- The speed of a batch job with many workers on many machines, computed from costs that were measured on one (B1, B2,
-- B8). It simulates the cores of the server, its WAL, the network, the flush at a commit, and the lock on the job's
-- row, under which workers claim ranges one at a time.
local M = {}

local CHUNKS_OF_RANGE <const> = 100

--- The costs and their descriptions.
M.COSTS = {
    { "rows", "Rows of the table", 1e9 }, { "cores", "Cores of the server", 32 },
    { "row", "Microseconds of a core for a row", 10 },
    { "chunk", "Milliseconds of a core for claim, step and mark", 1.3 },
    { "give", "Milliseconds that the job's row is locked while a range is given out", 4 },
    { "trip", "Milliseconds for a round trip", 0.3 },
    { "flush", "Milliseconds for the flush of a commit", 1 },
    { "wal", "Bytes of WAL for a row", 250 },
    { "wal_rate", "MiB of WAL that the server writes in a second", 400 },
}

--- The costs without options.
---@return table<string, number>
function M.costs()
    local costs <const> = {}
    for _, cost in ipairs(M.COSTS) do costs[cost[1]] = cost[3] end
    return costs
end

-- ---- workers in the order of their time ----

local function push(heap, item)
    local i = #heap + 1
    heap[i] = item
    while i > 1 and heap[i // 2].at > item.at do
        heap[i], heap[i // 2] = heap[i // 2], item
        i = i // 2
    end
end

local function pop(heap)
    local first <const>, last <const> = heap[1], table.remove(heap)
    if #heap == 0 then return first end
    local i, n <const> = 1, #heap
    heap[1] = last
    while true do
        local child = 2 * i
        if child > n then return first end
        if child < n and heap[child + 1].at < heap[child].at then child = child + 1 end
        if heap[child].at >= last.at then return first end
        heap[i], heap[child] = heap[child], last
        i = child
    end
end

--- A resource that serves as many workers at a time as it has places.
local function server(places)
    local free <const> = {}
    for i = 1, places do free[i] = { at = 0 } end
    local self <const> = { busy = 0 }
    function self.serve(now, seconds)
        local place <const> = pop(free)
        local done <const> = math.max(now, place.at) + seconds
        place.at = done
        push(free, place)
        self.busy = self.busy + seconds
        return done
    end
    --- The share of the time in which it was busy; work that still waits at the end counts as done.
    function self.share(now) return math.min(1, self.busy / now / places) end
    return self
end

---@class bench.Plan
---@field rate number rows a second
---@field cores number share of the time in which they were busy
---@field wal number
---@field job number
---@field waited number share of the workers' time in which they waited for the job's row

--- Simulates a part of the job, which stands for the rest.
---@param o table<string, number> the costs
---@param workers integer
---@param size integer rows of a chunk
---@return bench.Plan
function M.simulate(o, workers, size)
    local cores <const>, wal <const>, job <const> = server(math.floor(o.cores)), server(1), server(1)
    local chunks <const> = math.ceil(math.min(o.rows / size, 4000 * math.sqrt(workers)))
    local heap <const>, waited, done = {}, 0, 0
    for i = 1, workers do push(heap, { at = i * 1e-3, left = i % CHUNKS_OF_RANGE }) end
    local now = 0
    while done < chunks do
        local worker <const> = pop(heap)
        now = worker.at
        if worker.left == 0 then
            worker.left = CHUNKS_OF_RANGE
            local held <const> = o.give / 1e3
            worker.at = job.serve(now, held)
            waited = waited + worker.at - now - held
        else
            worker.left = worker.left - 1
            local at = cores.serve(now, (o.chunk + size * o.row / 1e3) / 1e3)
            at = wal.serve(at, size * o.wal / (o.wal_rate * 1048576))
            worker.at = at + (3 * o.trip + o.flush) / 1e3
            done = done + 1
        end
        push(heap, worker)
    end
    return {
        rate = done * size / now, cores = cores.share(now), wal = wal.share(now), job = job.share(now),
        waited = waited / (now * workers),
    }
end

--- The resource that limits the speed.
---@param r bench.Plan
---@return "workers"|"cores"|"WAL"|"job's row"
function M.limit_of(r)
    local most <const> = math.max(r.cores, r.wal, r.job)
    if most < 0.9 then return "workers" end
    return most == r.cores and "cores" or most == r.wal and "WAL" or "job's row"
end

return M
