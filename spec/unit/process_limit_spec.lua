--- A task that writes to a child whose captured output is over its limit: the child then waits in its own write, and
--- reads no more.
local errors = require "dbrun.error"
local process = require "dbrun.process"
local task = require "dbrun.task"

local MIB <const> = 1 << 20
local BIG <const> = ("x"):rep(8 * MIB)

--- The error that fn raises; it must be one of kind io.
local function refused(fn, ...)
    local ok, e = pcall(fn, ...)
    assert.is_false(ok)
    assert.is_true(errors.is(e, "io"), tostring(e))
    return e
end

--- A child that writes `first`, and then copies its input to its standard output, or to both.
local function echo(what, first, limit)
    local out <const> = { stdout = "exec cat", stderr = "exec cat >&2", both = "exec tee /dev/stderr" }
    return process.start { "sh", "-c", ("printf '%s'; %s"):format(first or "", out[what]), stdin_from = "pipe",
        stdout = "capture", stderr = "capture", max_output = limit or 100000 }
end

describe("a write to a child whose captured output is over its limit", function()
    for what, stream in pairs { stdout = "output", stderr = "error", both = "%l+" } do
        it("fails, and the child is terminated: " .. what, function()
            local child <close> = echo(what)
            local e = refused(child.write, child, BIG, 30)
            assert.matches("'sh' wrote more than 100000 bytes to its standard " .. stream, e.message)
            assert.matches("max_output", e.hint)
            assert.equal("unknown", e.outcome)
            assert.is_true(e.written > 0 and e.written < #BIG)
            assert.equal(("%d of %d bytes were written"):format(e.written, #BIG), e.detail)
            assert.is_false(process.alive(child.pid))
            assert.equal(e.message, refused(child.wait, child).message)
            local later <const> = refused(child.write, child, "more")
            assert.equal(e.message, later.message)
            assert.same({ 0, "not_sent" }, { later.written, later.outcome })
        end)

        it("fails in many small writes, too: " .. what, function()
            local child <close> = echo(what)
            local e = refused(function() for _ = 1, 8000 do child:write(("x"):rep(1000), 30) end end)
            assert.matches("more than 100000 bytes to its standard " .. stream, e.message)
            assert.equal(e.written == 0 and "not_sent" or "unknown", e.outcome)
        end)

        it("fails when the output was read by lines, too: " .. what, function()
            local child <close> = echo(what, "first\\n")
            assert.equal("first", child:read_line(30))
            local e = refused(child.write, child, BIG, 30)
            assert.matches("'sh' wrote .*more than 100000 bytes to its standard " .. stream, e.message)
            assert.equal(e.message, refused(child.read_line, child).message)
        end)

        it("fails together with other tasks that wait for the child, and write to it: " .. what, function()
            local child <close> = echo(what)
            local tasks <const> = {
                task.spawn(pcall, child.wait, child, 30), task.spawn(pcall, child.write, child, BIG, 30),
                task.spawn(pcall, child.write, child, BIG, 30), task.spawn(pcall, child.write, child, "small", 30),
            }
            for _, t in ipairs(tasks) do
                local ok, e = t:join()
                assert.is_false(ok)
                assert.matches("more than 100000 bytes to its standard " .. stream, e.message)
                assert.equal("io", e.kind)
            end
        end)
    end

    it("fails in the same way while other tasks check whether the child runs", function()
        for _, by_line in ipairs { true, false } do
            local child <close> = echo("stdout")
            if by_line then child:read_line(0) end
            local writer <const> = task.spawn(pcall, child.write, child, BIG, 30)
            local askers <const> = {}
            for i = 1, 2 do
                askers[i] = task.spawn(pcall, function() while child:running() do task.sleep(0) end end)
            end
            local ok, e = writer:join()
            assert.is_false(ok)
            assert.matches("more than 100000 bytes", e.message)
            for _, asker in ipairs(askers) do
                local ended, its = asker:join()
                assert.equal(ended and "nil" or e.message, tostring(its and its.message))
            end
        end
    end)

    it("waits for a task that reads the lines, and fails when the captured rest is too large", function()
        local child <close> = echo("stdout", "first\\n", 3 * MIB)
        assert.equal("first", child:read_line(30))
        local writer <const> = task.spawn(pcall, child.write, child, ("0123456\n"):rep(MIB))
        for _ = 1, 300000 do
            local line <const> = child:read_line(30)
            if line ~= "0123456" then assert.equal("0123456", line) end -- a call of assert.equal takes 20 us
        end
        local status <const> = writer:status() -- it waits, or its child has just read data
        assert.is_true(status == "waiting" or status == "ready", status)
        local e = refused(child.wait, child, 30)
        assert.matches("more than 3 MiB to its standard output", e.message)
        local ok, its = writer:join()
        assert.is_false(ok)
        assert.equal(e.message, its.message)
    end)

    it("succeeds up to exactly the limit, and without one", function()
        for _, limit in ipairs { #BIG, 0 } do
            local child <close> = echo("both", nil, limit)
            child:write(BIG, 30)
            child:close_stdin()
            local r = child:wait(30)
            assert.is_true(r.stdout == BIG and r.stderr == BIG)
        end
    end)

    it("can be cancelled like any other wait", function()
        local child <close> = process.start { "sleep", "30", stdin_from = "pipe", stdout = "capture", max_output = 1 }
        local writer <const> = task.spawn(child.write, child, BIG)
        task.sleep(0.05)
        writer:cancel()
        local ok, e = pcall(writer.join, writer)
        assert.is_false(ok)
        assert.equal("cancelled", e.kind)
        assert.is_true(child:running())
    end)
end)
