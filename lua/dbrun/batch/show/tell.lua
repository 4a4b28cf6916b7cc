--- What a run tells while it goes on: a line that is drawn again on a terminal, plain lines elsewhere, or JSON, a line an
--- event.
local cli = require "dbrun.command_line"
local progress = require "dbrun.progress"
local words = require "dbrun.batch.show.words"

local M = {}

---@class dbrun.batch.Teller
---@field on fun(event: table) takes an event of the run
---@field close fun(self) ends the line

---What JSON can hold of an event.
local function plain(event)
    local out <const> = { event = event.what }
    for key, value in pairs(event) do
        local kind <const> = type(value)
        if key ~= "what" and kind ~= "function" and kind ~= "userdata" and kind ~= "thread" then out[key] = value end
    end
    return out
end

---A line an event on standard output.
---@return dbrun.batch.Teller
function M.json()
    return {
        on = function(event)
            cli.write(cli.json(plain(event), { sort_keys = true }), "\n")
            io.stdout:flush()
        end,
        close = function() end,
    }
end

---What all workers wait for, when no one works.
local function waiting(self)
    local text, n = nil, 0
    for worker = 1, self.workers do
        local of <const> = self.waits[worker]
        if not of then return nil end
        text, n = text or of, n + 1
    end
    return n > 0 and text or nil
end

---What stands behind the numbers.
local function note(self)
    local parts <const> = {}
    if self.pass > 1 then parts[#parts + 1] = ("pass %d"):format(self.pass) end
    if self.size then parts[#parts + 1] = "size " .. cli.count(self.size) end
    local some, n
    for worker = 1, self.workers do
        if self.waits[worker] then some, n = some or self.waits[worker], (n or 0) + 1 end
    end
    if n then parts[#parts + 1] = ("%d of %d wait: %s"):format(n, self.workers, some) end
    if self.failed > 0 then parts[#parts + 1] = cli.plural(self.failed, "range") .. " failed" end
    return #parts > 0 and table.concat(parts, "  ") or nil
end

local on <const> = {}

function on.begin(self, event)
    self.workers, self.pass = event.workers or 1, event.pass or 1
    if event.resumed then
        self:line(("%s goes on where it was%s"):format(self.name, event.share and ", at " .. words.share(event.share)
            or ""))
    end
    local options <const> = {
        label = self.name, total = event.total or false, about = not event.counted, unit = "rows",
        start = event.done or 0,
    }
    for key, value in pairs(self.options) do options[key] = value end
    self.bar = progress.new(options)
    self:draw()
end

function on.chunk(self, event)
    self.waits[event.worker] = nil
    self.size = event.size or self.size
    self:draw()
    if self.bar then self.bar:add(event.rows) end
end

function on.wait(self, event)
    self.waits[event.worker] = cli.one_line(event.text)
    self:draw()
end

function on.go(self, event)
    self.waits[event.worker] = nil
    self:draw()
end

function on.pass(self, event)
    self.pass = event.pass
    self:line(("%s: pass %d, over what came behind"):format(self.name, event.pass))
end

function on.retry(self, event)
    local code <const> = event.sqlstate and (" (SQLSTATE %s)"):format(event.sqlstate) or ""
    self.waits[event.worker] = ("%s%s"):format(cli.one_line(event.text), code)
    self:draw()
end

function on.failed(self, event)
    self.failed = self.failed + 1
    local place <const> = event.key ~= nil and "key " .. words.key(event.key)
        or ("behind %s up to %s"):format(words.key(event.first), words.key(event.last))
    self:line(("%s: failed: %s: %s%s"):format(self.name, place, cli.one_line(event.message or ""),
        event.sqlstate and (" (SQLSTATE %s)"):format(event.sqlstate) or ""))
end

function on.message(self, event)
    self:line(("%s: %s"):format(self.name, cli.one_line(event.text)))
end

on["end"] = function(self) self:close() end

local Teller <const> = {}
Teller.__index = Teller

---A line of its own.
function Teller:line(text)
    if self.bar then return self.bar:line(text) end
    local out <const> = self.options.out
    if out then out:write(text, "\n") else cli.note(text) end
end

function Teller:draw()
    if not self.bar then return end
    self.bar:note(note(self))
    self.bar:wait(waiting(self))
end

function Teller:close()
    if self.bar then self.bar:finish() end
    self.bar = nil
end

---Progress on standard error.
---@param name string of the job
---@param options? dbrun.progress.Options where and how it is drawn
---@return dbrun.batch.Teller
function M.text(name, options)
    local self <const> = setmetatable({
        name = cli.one_line(name), options = options or {}, workers = 1, pass = 1, failed = 0, waits = {}, size = false,
    }, Teller)
    self.on = function(event)
        local take <const> = on[event.what]
        if take then take(self, event) end
    end
    return self
end

return M
