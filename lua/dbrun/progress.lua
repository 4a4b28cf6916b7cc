--- Progress of long work: on a terminal one line, redrawn at most ten times a second, with rate and remaining time;
--- elsewhere a plain line every few seconds, so that a log stays readable.
---
---     local p <close> = progress.new{label = "observations", total = 100000, unit = "rows"}
---     for ... do p:add(1000) end
---
--- Work that continues an earlier run sets `start = 40000`: the rate and the remaining time count only this run. Work
--- that has to wait calls `p:wait "for the standby"`: both leave out that time.
---
--- Raises nothing else.

local args = require "dbrun.args"
local task = require "dbrun.task"
local tty = require "dbrun.tty"

local M = {}

---@class dbrun.progress.Options
---@field label string
---@field total? number|false the amount of work; without it there is no percentage and no remaining time
---@field about? boolean the total is an estimate: shown as "~1,000", and left out when more was done
---@field start? number what was done before this run; default 0
---@field unit? string such as "rows"
---@field out? file*|table default io.stderr; a table has the methods write and flush
---@field fd? integer descriptor of out; default 2
---@field terminal? boolean default: whether fd is one
---@field interval? number seconds between two lines without a terminal; default 5
---@field clock? fun(): number seconds; default task.now

local OUT <const> = {
    function(v) return io.type(v) == "file" or type(v) == "table" and v.write and v.flush end,
    "an open file, or a table with write and flush",
}
local AMOUNT <const> = {
    function(v) return type(v) == "number" and v >= 0 and v < math.huge end, "a number of at least 0",
}
local OPTIONS <const> = {
    label = "string", total = args.or_false "number", about = "boolean", start = AMOUNT, unit = "string", out = OUT,
    fd = args.integer, terminal = "boolean", interval = args.seconds, clock = "function",
}

---@class dbrun.progress.Progress
---Raises an error of kind `io` when its stream cannot be written.
local Progress = {}
local meta = { __index = Progress, __name = "dbrun.progress" }

local redraw_interval <const> = 0.1

--- 1234567 -> "1,234,567"
---@param n number
---@return string
---```lua
---print(progress.number(1234567))  --> 1,234,567
---```
function M.number(n)
    args.check("progress.number", "n", n, "number")
    local text = ("%.0f"):format(n)
    local sign, digits = text:match("^(%-?)(%d+)$")
    if not digits then return text end
    return sign .. digits:reverse():gsub("(%d%d%d)", "%1,"):gsub(",$", ""):reverse()
end

--- Seconds for people: "0.4 s", "12 s", "3:05", "2:00:07".
---@param s number
---@return string
---```lua
---print(progress.duration(12), progress.duration(185), progress.duration(7207))  --> 12 s  3:05  2:00:07
---```
function M.duration(s)
    args.check("progress.duration", "s", s, args.span)
    if s < 9.95 then return ("%.1f s"):format(s) end
    local whole = math.floor(s + 0.5)
    if whole < 60 then return ("%d s"):format(whole) end
    if whole < 3600 then return ("%d:%02d"):format(whole // 60, whole % 60) end
    return ("%d:%02d:%02d"):format(whole // 3600, whole % 3600 // 60, whole % 60)
end

--- The longest text of at most `width` bytes, cut between characters.
local function cut(text, width)
    if #text <= width then return text end
    while width > 0 and (text:byte(width + 1) & 0xC0) == 0x80 do width = width - 1 end
    return text:sub(1, width)
end

--- The line at a time of its clock.
local function text_of(self, now)
    local elapsed = now - self.started
    local worked = elapsed - self.waited - (self.waits_since and now - self.waits_since or 0)
    local unit = self.unit and (" " .. self.unit) or ""
    local rate = worked > 0 and (self.done - self.start) / worked or 0
    local total = self.total
    if self.about and total and self.done > total then total = false end
    local parts = {}
    if total then
        local share = total > 0 and self.done / total or 1
        parts[1] = ("%s: %3.0f %%  %s/%s%s%s"):format(self.label, math.min(share, 1) * 100, M.number(self.done),
            self.about and "~" or "", M.number(total), unit)
    else
        parts[1] = ("%s: %s%s"):format(self.label, M.number(self.done), unit)
    end
    if self.waits_for and not self.ended then
        parts[2] = "waiting: " .. self.waits_for
        return table.concat(parts, "  ")
    end
    if rate > 0 then parts[2] = ("%s/s"):format(M.number(rate)) end
    if self.ended then
        parts[#parts + 1] = "in " .. M.duration(elapsed)
        return table.concat(parts, "  ")
    end
    if total and rate > 0 and self.done < total then
        parts[#parts + 1] = M.duration((total - self.done) / rate) .. " left"
    end
    if self.noted then parts[#parts + 1] = self.noted end
    return table.concat(parts, "  ")
end

local function draw(self, now)
    self.drawn_at = now
    local text = tty.printable(text_of(self, now))
    if self.terminal then
        self.out:write("\r", cut(text, tty.width(self.fd) - 1), "\27[K")
    else
        self.out:write(text, "\n")
    end
    self.out:flush()
end

--- Adds `n` to the work done.
---@param n? number default 1
---```lua
---local bar = progress.new { label = "rows", total = 1000, out = io.tmpfile() } -- without `out`: standard error
---bar:add() -- one
---bar:add(99)
---bar:finish()
---```
function Progress:add(n)
    args.self("add", self, meta, "a progress line", "progress")
    args.optional("progress:add", "n", n, "number")
    return self:set(self.done + (n or 1))
end

--- Sets the work done.
---@param done number
---```lua
---local bar = progress.new { label = "rows", total = 1000, out = io.tmpfile() } -- without `out`: standard error
---bar:set(500)
---bar:finish()
---```
function Progress:set(done)
    args.self("set", self, meta, "a progress line", "progress")
    args.check("progress:set", "done", done, "number")
    if self.ended then return end
    self.done = done
    local now = self.clock()
    if now - self.drawn_at >= self.interval then draw(self, now) end
end

--- Sets a text that is shown at the end of the line from now on.
---@param text? string nil: removes it
---```lua
---local bar = progress.new { label = "rows", total = 1000, out = io.tmpfile() } -- without `out`: standard error
---bar:note "size 500"
---bar:add(500)
---bar:finish()
---```
function Progress:note(text)
    args.self("note", self, meta, "a progress line", "progress")
    args.optional("progress:note", "text", text, "string")
    self.noted = text or false
end

--- Shows what the work waits for, in place of rate and remaining time; both leave out the time until the next call. It
--- is drawn at once; without a terminal it is a separate line.
---@param text? string nil: the work goes on
---```lua
---local bar = progress.new { label = "rows", total = 1000, out = io.tmpfile() } -- without `out`: standard error
---bar:wait "the standby is 12 s behind"
---bar:wait() -- goes on
---bar:finish()
---```
function Progress:wait(text)
    args.self("wait", self, meta, "a progress line", "progress")
    args.optional("progress:wait", "text", text, "string")
    if self.ended or (text or false) == self.waits_for then return end
    local now = self.clock()
    if self.waits_since then self.waited = self.waited + now - self.waits_since end
    self.waits_for, self.waits_since = text or false, text and now or false
    draw(self, now)
end

--- Writes another line, such as a warning, without breaking the progress line.
---@param line string
---```lua
---local bar = progress.new { label = "rows", total = 1000, out = io.tmpfile() } -- without `out`: standard error
---bar:line "row 7 has no price" -- above the bar
---bar:finish()
---```
function Progress:line(line)
    args.self("line", self, meta, "a progress line", "progress")
    args.check("progress:line", "line", line, "string")
    if self.terminal and not self.ended then self.out:write("\r\27[K") end
    self.out:write(line, "\n")
    if self.terminal and not self.ended then draw(self, self.clock()) end
end

--- Writes the final state and the total time as a line that stays. Called by `<close>`, once.
---```lua
---local bar = progress.new { label = "rows", total = 1000, out = io.tmpfile() } -- without `out`: standard error
---bar:set(1000)
---bar:finish()
---```
function Progress:finish()
    args.self("finish", self, meta, "a progress line", "progress")
    if self.ended then return end
    self.ended = true
    draw(self, self.clock())
    if self.terminal then
        self.out:write("\n")
        self.out:flush()
    end
end

meta.__close = function(self)
    self:finish()
end

---A progress line on standard error: rate and remaining time, redrawn on a terminal.
---@param opts dbrun.progress.Options
---@return dbrun.progress.Progress
---```lua
---local bar = progress.new { label = "rows", total = 1000, out = io.tmpfile() } -- without `out`: standard error
---for _ = 1, 10 do bar:add(100) end
---bar:finish()
---```
function M.new(opts)
    args.check("progress.new", "the options", opts, "table")
    args.options("progress.new", opts, OPTIONS)
    args.check("progress.new", "label", opts.label, "string")
    local fd = opts.fd or 2
    local terminal = opts.terminal
    if terminal == nil then terminal = not tty.dumb(fd) end
    local clock = opts.clock or task.now
    local now = clock()
    local self = setmetatable({
        label = opts.label, total = opts.total or false, unit = opts.unit or false, ended = false,
        out = opts.out or io.stderr, fd = fd,
        terminal = terminal, clock = clock, started = now, start = opts.start or 0,
        done = opts.start or 0, about = opts.about or false,
        noted = false, waits_for = false, waits_since = false, waited = 0,
        interval = terminal and redraw_interval or opts.interval or 5, drawn_at = now,
    }, meta)
    if terminal then draw(self, now) end
    return self
end

args.answer_for_names(Progress, "a progress line", {
    update = "p:add(n), or p:set(n)", inc = "p:add(n)", increment = "p:add(n)", tick = "p:add(n)", step = "p:add(n)",
    advance = "p:add(n)", close = "p:finish()", stop = "p:finish()", write = "p:line(text)",
    print = "p:line(text)",
})

return args.answer_for_names(M, "progress", {
    start = "progress.new{label = ...}", bar = "progress.new{label = ...}", create = "progress.new{label = ...}",
})
