-- B5: `dbrun spec/bench/batch_plan.lua`: what many workers on many machines would reach with a batch job, computed from
-- costs that were measured on one (B1, B2, B8). What is simulated: the cores of the server, its WAL, the network, the
-- flush at a commit, and the job's row, under which ranges are given out one at a time.
local cli <const> = require "dbrun.command_line"

local CHUNKS_OF_RANGE <const> = 100

local function parser()
    local p <const> = cli.parser {
        name = "dbrun spec/bench/batch_plan.lua", description = "Plan a batch job for many workers.",
        examples = { "dbrun spec/bench/batch_plan.lua --workers 64 --cores 32 --wal-rate 400" },
        epilog = "Exit status: 0, 2 usage.",
    }
    local function number(name, what, default)
        p:option(name, ("%s (default %g)."):format(what, default)):convert(function(text)
            local value <const> = tonumber(text)
            if value and value > 0 then return value end
            return nil, ("%s: a number above 0 expected, got '%s'"):format(name, text)
        end)
        return default
    end
    local defaults <const> = {
        rows = number("--rows", "Rows of the table", 1e9), cores = number("--cores", "Cores of the server", 32),
        row = number("--row", "Microseconds of a core for a row", 10),
        chunk = number("--chunk", "Milliseconds of a core for claim, step and mark", 1.3),
        give = number("--give", "Milliseconds that the job's row is locked while a range is given out", 4),
        trip = number("--trip", "Milliseconds for a round trip", 0.3),
        flush = number("--flush", "Milliseconds for the flush of a commit", 1),
        wal = number("--wal", "Bytes of WAL for a row", 250),
        wal_rate = number("--wal-rate", "MiB of WAL that the server writes in a second", 400),
    }
    p:option("--workers", "Only so many workers: 64,128."):convert(cli.list)
    p:option("--size", "Only these sizes of a chunk: 1000,5000."):convert(cli.list)
    return p, defaults
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

--- Something that serves one at a time, or as many as it has places.
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
    --- The share of the time that it was busy; what still waits at the end counts as done.
    function self.share(now) return math.min(1, self.busy / now / places) end
    return self
end

--- How long a stretch of the job lasts with so many workers: the rest is as this one.
local function simulate(o, workers, size)
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

local function limit_of(r)
    local most <const> = math.max(r.cores, r.wal, r.job)
    if most < 0.9 then return "workers" end
    return most == r.cores and "cores" or most == r.wal and "WAL" or "job's row"
end

os.exit(cli.main("batch_plan", function()
    local p <const>, options <const> = parser()
    local args <const>, help <const> = cli.parse(p, arg)
    if not args then
        cli.print(help)
        return cli.OK
    end
    for name, value in pairs(options) do options[name] = args[name] or value end
    cli.print(("%.0e rows, %g cores, %g us a row and %g ms a chunk, job's row %g ms, %g ms a round trip, flush %g ms, "
        .. "%g bytes of WAL a row, %g MiB/s"):format(options.rows, options.cores, options.row, options.chunk,
        options.give, options.trip, options.flush, options.wal, options.wal_rate))
    cli.print "workers   rows of a chunk       rows/s       hours   cores     WAL   job's row   waits for it   limit"
    for _, workers in ipairs(args.workers or { "1", "4", "16", "64", "256" }) do
        for _, size in ipairs(args.size or { "10", "100", "1000", "5000" }) do
            local r <const> = simulate(options, math.tointeger(tonumber(workers)), math.tointeger(tonumber(size)))
            cli.print(("%7s %17s %12s %11.2f %6.0f%% %6.0f%% %10.1f%% %13.1f%%   %s"):format(workers, size,
                cli.count(math.floor(r.rate)), options.rows / r.rate / 3600, 100 * r.cores, 100 * r.wal, 100 * r.job,
                100 * r.waited, limit_of(r)))
        end
    end
    return cli.OK
end), true)
