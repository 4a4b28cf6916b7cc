--- The progress line.
local core = require "dbrun.core"
local process = require "dbrun.process"
local progress = require "dbrun.progress"
local tty = require "dbrun.tty"

--- A file that records its writes.
local function sheet()
    local out = { text = "" }
    function out.write(_, ...)
        out.text = out.text .. table.concat({ ... })
        return out
    end
    function out.flush() end
    return out
end

local function new(opts)
    local out, now = sheet(), 0
    opts.out, opts.clock = out, function() return now end
    local p = progress.new(opts)
    return p, out, function(t) now = t end
end

describe("progress on a terminal", function()
    it("is one line that is redrawn, with rate and remaining time", function()
        local p, out, at = new { label = "rows", total = 100000, unit = "rows", terminal = true }
        at(2)
        p:set(50000)
        local last = out.text:match("\r([^\r]*)$")
        assert.are.equal("rows:  50 %  50,000/100,000 rows  25,000/s  2.0 s left\27[K", last)
        assert.is_nil(out.text:find("\n"))
        at(4)
        p:set(100000)
        p:finish()
        assert.are.equal("rows: 100 %  100,000/100,000 rows  25,000/s  in 4.0 s\27[K\n", out.text:match("\r([^\r]*)$"))
    end)

    it("computes rate and remaining time from this run when an earlier one has done a part", function()
        local p, out, at = new { label = "rows", total = 100000, start = 90000, terminal = true }
        assert.are.equal("rows:  90 %  90,000/100,000\27[K", out.text:match("\r([^\r]*)$"))
        at(2)
        p:add(2000)
        assert.are.equal("rows:  92 %  92,000/100,000  1,000/s  8.0 s left\27[K", out.text:match("\r([^\r]*)$"))
        at(10)
        p:set(100000)
        p:finish()
        assert.are.equal("rows: 100 %  100,000/100,000  1,000/s  in 10 s\27[K\n", out.text:match("\r([^\r]*)$"))
    end)

    it("shows the reason of a wait, and leaves that time out of the rate and the remaining time", function()
        local p, out, at = new { label = "rows", total = 1000, terminal = true }
        local function last() return out.text:match("\r([^\r\27]*)[^\r]*$") end
        at(1)
        p:note "size 100"
        p:set(100)
        assert.equal("rows:  10 %  100/1,000  100/s  9.0 s left  size 100", last())
        p:wait "a standby is behind"
        assert.equal("rows:  10 %  100/1,000  waiting: a standby is behind", last())
        at(50)
        p:wait "a lock"
        assert.equal("rows:  10 %  100/1,000  waiting: a lock", last())
        at(101)
        p:wait()
        at(102)
        p:set(200)
        p:note()
        assert.equal("rows:  20 %  200/1,000  100/s  8.0 s left  size 100", last())
        at(110)
        p:set(1000)
        p:finish()
        assert.equal("rows: 100 %  1,000/1,000  100/s  in 1:50", last())
        p:wait "never"
        assert.equal("rows: 100 %  1,000/1,000  100/s  in 1:50", last())
    end)

    it("marks a total that is an estimate, and leaves it out when more was done", function()
        local p, out, at = new { label = "rows", total = 1000, about = true, terminal = true }
        local function last() return out.text:match("\r([^\r\27]*)[^\r]*$") end
        at(1)
        p:set(500)
        assert.equal("rows:  50 %  500/~1,000  500/s  1.0 s left", last())
        at(2)
        p:set(1500)
        assert.equal("rows: 1,500  750/s", last())
    end)

    it("is drawn at most ten times a second", function()
        local p, out, at = new { label = "x", total = 10000, terminal = true }
        for i = 1, 10000 do
            at(i / 10000)
            p:add()
        end
        local _, drawn = out.text:gsub("\r", "")
        assert.is_true(drawn >= 10 and drawn <= 11, drawn .. " times")
    end)

    it("is not wider than the terminal", function()
        local p, out, at = new { label = ("ä"):rep(200), total = 5, terminal = true, fd = -1 }
        at(1)
        p:set(1)
        p:finish()
        for line in out.text:gmatch("\r([^\r\27]*)\27") do
            assert.is_true(#line < tty.width(-1))
            assert.is_truthy(utf8.len(line), "cut inside of a character")
        end
    end)

    it("makes room for other lines", function()
        local p, out, at = new { label = "x", total = 2, terminal = true }
        at(1)
        p:line("warning: careful")
        assert.matches("\r\27%[Kwarning: careful\n\rx:", out.text)
        p:finish()
    end)
end)

describe("progress elsewhere", function()
    it("is a plain line now and then, and one at the end", function()
        local p, out, at = new { label = "rows", total = 100, terminal = false, interval = 5 }
        for i = 1, 100 do
            at(i / 10)
            p:add()
        end
        p:finish()
        assert.are.equal("rows:  50 %  50/100  10/s  5.0 s left\n" .. "rows: 100 %  100/100  10/s\n"
            .. "rows: 100 %  100/100  10/s  in 10 s\n", out.text)
        assert.is_nil(out.text:find("[\r\27]"))
    end)

    it("has no share and no remaining time without a total", function()
        local p, out, at = new { label = "read", unit = "rows", terminal = false }
        at(6)
        p:set(1234567)
        p:finish()
        assert.are.equal("read: 1,234,567 rows  205,761/s\nread: 1,234,567 rows  205,761/s  in 6.0 s\n", out.text)
    end)

    it("ends once, also with its block", function()
        local out
        do
            local p <close>, sheet_, at = new { label = "x", total = 1, terminal = false }
            out = sheet_
            at(1)
            p:add()
            p:finish()
        end
        local _, lines = out.text:gsub("\n", "")
        assert.are.equal(1, lines)
    end)

    it("accepts a total of 0", function()
        local p, out = new { label = "x", total = 0, terminal = false }
        p:finish()
        assert.are.equal("x: 100 %  0/0  in 0.0 s\n", out.text)
    end)
end)

describe("numbers and times", function()
    it("are printed in readable form", function()
        assert.are.equal("0", progress.number(0))
        assert.are.equal("999", progress.number(999))
        assert.are.equal("1,000", progress.number(1000))
        assert.are.equal("-1,234,567", progress.number(-1234567))
        assert.are.equal("0.4 s", progress.duration(0.44))
        assert.are.equal("10 s", progress.duration(9.96))
        assert.are.equal("1:00", progress.duration(59.7))
        assert.are.equal("3:05", progress.duration(185))
        assert.are.equal("2:00:07", progress.duration(7207))
    end)
end)

describe("a terminal", function()
    local function on_terminal(environment, code)
        if not process.run({ "script", "--version" }).ok then return nil end
        local command = ("%s '%s' -e '%s'"):format(environment, core.options.program, code)
        return process.run({ "script", "-qec", command, "/dev/null", timeout = 20, env = { SHELL = "/bin/sh" } }).stdout
    end

    it("gets colours, unless the user has disabled them or it cannot show them", function()
        local code = 'local tty = require "dbrun.tty"; print(tty.isatty(1), tty.colour(1), tty.painter(1)("x", "red"))'
        local out = on_terminal("env -u NO_COLOR TERM=xterm", code)
        if not out then return pending("script(1) is not installed") end
        assert.matches("true\ttrue\t\27%[31mx\27%[0m", out)
        assert.matches("true\tfalse\tx", on_terminal("env NO_COLOR=1 TERM=xterm", code))
        assert.matches("true\tfalse\tx", on_terminal("env -u NO_COLOR TERM=dumb", code))
    end)

    it("is distinguished from a pipe", function()
        local code = 'local tty = require "dbrun.tty"; print(tty.isatty(1), tty.colour(1), tty.dumb(1))'
        local r = process.run { core.options.program, "-e", code }
        assert.are.equal("false\tfalse\ttrue\n", r.stdout)
    end)
end)
