--- The progress of a run: a redrawn line on a terminal, plain lines elsewhere, or JSON with one line per event.
local cli = require "dbrun.command_line"
local progress = require "dbrun.progress"
local words = require "dbrun.batch.show.words"

local M = {}

---@class dbrun.batch.Teller
---@field on fun(event: table) takes an event of the run
---@field state? string of the job when the run found it; nil for one that the run has started
---@field close fun(self) ends the line

---The part of an event that JSON can hold.
local function plain(event)
    local out <const> = { event = event.what }
    for key, value in pairs(event) do
        local kind <const> = type(value)
        if key ~= "what" and kind ~= "function" and kind ~= "userdata" and kind ~= "thread" then out[key] = value end
    end
    return out
end

---One line per event on standard output.
---@return dbrun.batch.Teller
function M.json()
    return {
        on = function(event)
            if event.still then return end
            cli.write(cli.json(plain(event), { sort_keys = true }), "\n")
            io.stdout:flush()
        end,
        close = function() end,
    }
end

---The text after the numbers.
local function note(self)
    local parts <const> = {}
    if self.pass > 1 then parts[#parts + 1] = ("pass %d"):format(self.pass) end
    if math.abs(self.rows - self.keys) > self.keys // 20 then parts[#parts + 1] = cli.count(self.rows) .. " changed" end
    if self.size then parts[#parts + 1] = "size " .. cli.count(self.size) end
    if self.failed > 0 then parts[#parts + 1] = cli.plural(self.failed, "range") .. " failed" end
    if self.again then parts[#parts + 1] = self.again end
    return #parts > 0 and table.concat(parts, "  ") or nil
end

local function code(event)
    return event.sqlstate and (" (SQLSTATE %s)"):format(event.sqlstate) or ""
end

local on <const> = {}

function on.begin(self, event)
    self.pass, self.counts, self.state = event.pass or 1, event.pass or 1, event.resumed and event.state or nil
    if event.state == "done" or event.state == "cancelled" then return end
    self.keys, self.rows, self.before = event.looked or 0, event.rows or 0, event.looked or 0
    local options <const> = {
        label = self.name, total = self.pass == 1 and event.total or false, about = not event.counted, unit = "rows",
        start = self.keys,
    }
    for key, value in pairs(self.options) do options[key] = value end
    if event.resumed then self:line(("%s goes on where it was"):format(self.name)) end
    self.bar = progress.new(options)
end

function on.chunk(self, event)
    self.size, self.again = event.size or self.size, nil
    self.rows = self.rows + event.rows
    self:go_on()
    if (event.pass or 1) == self.counts then self.own = self.own + (event.keys or event.rows) end
    self:draw()
end

---What all machines together have done.
function on.look(self, event)
    if event.pass == self.counts then
        self.others = math.max(self.others, event.looked - self.before - self.own)
    end
    self.rows = math.max(self.rows, event.rows)
    self:draw()
end

function on.wait(self, event)
    if event.still and not (self.bar and self.bar.terminal) then return end
    self.waits = true
    if self.bar then self.bar:wait(cli.one_line(event.text)) end
end

function on.go(self)
    self:go_on()
end

function on.pass(self, event)
    self.pass = event.pass
    self:line(("%s: pass %d, over late rows"):format(self.name, event.pass))
end

---On a terminal it is shown at once; elsewhere with the next line, because there may be many.
function on.retry(self, event)
    local text <const> = cli.one_line(event.holder or event.text) .. code(event)
    self.again = "again: " .. text
    if self.bar and self.bar.terminal then on.wait(self, { text = text }) end
end

function on.failed(self, event)
    self.failed = self.failed + 1
    local place <const> = event.key ~= nil and "key " .. words.key(event.key)
        or ("behind %s up to %s"):format(words.key(event.first), words.key(event.last))
    self:line(("%s: failed: %s: %s%s"):format(self.name, place, cli.one_line(event.message or ""), code(event)))
end

function on.message(self, event)
    self:line(("%s: %s"):format(self.name, cli.one_line(event.text)))
end

on["end"] = function(self) self:close() end

local Teller <const> = {}
Teller.__index = Teller

---A separate line.
function Teller:line(text)
    if self.bar then return self.bar:line(text) end
    local out <const> = self.options.out
    if out then out:write(text, "\n") else cli.note(text) end
end

function Teller:draw()
    self.keys = math.max(self.keys, self.before + self.own + self.others)
    if not self.bar then return end
    self.bar:note(note(self))
    self.bar:set(self.keys)
end

function Teller:go_on()
    if self.waits and self.bar then self.bar:wait() end
    self.waits = false
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
        name = cli.one_line(name), options = options or {}, pass = 1, counts = 1, failed = 0, keys = 0, rows = 0,
        before = 0, own = 0, others = 0, waits = false, size = false,
    }, Teller)
    self.on = function(event)
        local take <const> = on[event.what]
        if take then take(self, event) end
    end
    return self
end

return M
