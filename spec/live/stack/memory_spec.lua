--- The remains of killed servers are removed with their data: also their shared memory.
local compiled = require "spec.support.compiled"
local fs = require "dbrun.fs"
local own = require "spec.support.stack"
local process = require "dbrun.process"
local segments = require "dbrun.stack.segments"
local task = require "dbrun.task"

local stack <const>, ok <const>, new_folder <const>, clean_up <const> =
    own.stack, own.ok, own.new_folder, own.clean_up

describe("dbrun stack leaves no shared memory behind", function()
    after_each(clean_up)

    local function listed()
        return fs.read("/proc/sysvipc/shm"):gmatch "(%s*%-?%d+%s+(%d+)%s+%d+%s+%d+%s+(%d+)[^\n]*)"
    end

    -- Process numbers are reused: an older segment can have a creator with the same number.
    local before <const> = {}
    for _, id in listed() do before[id] = true end

    local function segments_of(pids)
        local list = {}
        for line, id, creator in listed() do
            if pids[creator] and not before[id] then list[#list + 1] = line end
        end
        return list
    end

    ---The processes that noted their segment in an unfinished cluster.
    local function noted(data, pids)
        for _, name in ipairs(fs.exists(data) and fs.list(data) or {}) do
            local file = data .. "/" .. name .. "/postmaster.pid"
            local f <close> = io.open(file, "rb")
            local pid = f and (f:read "a"):match "^%-?(%d+)"
            if pid then pids[pid] = true end
        end
    end

    it("when an `up` is killed while it creates the cluster", function()
        local folder = new_folder()
        local pids = {}
        local child = process.start { own.dbrun, own.script, "up", cwd = folder, stdout = "null", stderr = "null" }
        local deadline = task.now() + 20
        while not next(pids) and task.now() < deadline do
            noted(folder .. "/.dbrun/stack/data", pids)
            task.sleep(0.002)
        end
        assert.is_truthy(next(pids))
        task.sleep(0.02)
        child:kill("KILL")
        child:wait(5)
        ok(stack(folder, "up"))
        ok(stack(folder, "reset", "--force"))
        assert.are.same({}, segments_of(pids))
    end)

    it("when a killed server is never started again", function()
        local folder = new_folder()
        ok(stack(folder, "up"))
        local pid = own.pid_of(folder)
        local mapped <const> = fs.read(("/proc/%d/maps"):format(pid))
        assert.is_truthy(mapped:find("/pg_dynshmem/", 1, true)) -- removed with the data; files in /dev/shm stay
        assert.is_nil(mapped:find("/dev/shm/PostgreSQL", 1, true))
        process.kill(pid, "KILL")
        require("dbrun.stack.daemon").wait_gone(pid, nil, 10)
        assert.equal(1, #segments_of { [tostring(pid)] = true })
        ok(stack(folder, "reset", "--force"))
        assert.are.same({}, segments_of { [tostring(pid)] = true })
    end)

    it("when its memory is released a moment after it has ended", function()
        local folder <const> = new_folder()
        local server <const> = process.start {
            compiled.program "segment", stdin_from = "pipe", stdout = "capture",
        }
        local key <const>, id <const> = server:read_line(10):match "^(%-?%d+) (%d+)$"
        local note <const> = { server.pid, folder, os.time(), 5432, folder, "", ("%9d %9d"):format(key, id), "ready" }
        fs.write(folder .. "/postmaster.pid", table.concat(note, "\n") .. "\n")
        local pids <const> = { [tostring(server.pid)] = true }
        assert.equal(1, #segments_of(pids))
        local g <close> = task.group()
        g:spawn(function()
            task.sleep(0.3)
            server:close_stdin()
        end)
        segments.remove(folder)
        assert.are.same({}, segments_of(pids))
        assert.is_true(server:wait(10).ok)
    end)
end)
