--- Peers that misbehave, for specs: a proxy with faults on command, and servers that send nothing, one
--- byte at a time, garbage, or given replies (spec/support/c/faultproxy.c).
---
---     local proxy <close> = fake.proxy{to = pg}          -- a server of spec.support.servers, or "unix:PATH"
---     local url = proxy:address_of(pg)                   -- the server's URL, through the proxy
---     proxy:cut("down", 0)                               -- the next reply is lost, its connection closed
---     local mute <close> = fake.mute()                   -- mute.path; fake.mute{tcp = true}: mute.port

local compiled = require "spec.support.compiled"
local folder = require "spec.support.servers.folder"
local fs = require "dbrun.fs"
local process = require "dbrun.process"

local M = {}

---@class spec.Fake
---@field path string? of its unix socket
---@field port integer? of 127.0.0.1, with tcp
---@field dir string the folder of the socket (a PostgreSQL URL names this as host)
local Fake = {}
local meta = { __index = Fake, __name = "spec.Fake" }

--- Ends it and all its connections.
function Fake:close()
    if self.closed then return end
    self.closed = true
    self.child:close()
    fs.rmtree(self.dir)
end

meta.__close = Fake.close

--- Sends a control line and waits until it is obeyed.
---@param ... string|integer words of the line
---@return string? answer what it printed, for `stats`
function Fake:tell(...)
    local line = table.concat({ ... }, " ")
    self.child:write(line .. "\n")
    local answer
    while true do
        local got = self.child:read_line(10)
        if got == "ok" then return answer end
        if got == nil or got == "error" then error(("faultproxy did not obey '%s'"):format(line)) end
        answer = got
    end
end

--- Delays each chunk in this direction.
---@param direction "up"|"down" up = towards the server
---@param seconds number
function Fake:delay(direction, seconds)
    self:tell("delay", direction, math.floor(seconds * 1000))
end

--- Passes one byte at a time, `seconds` apart; 0 ends it.
---@param seconds number
function Fake:drip(seconds)
    self:tell("drip", math.floor(seconds * 1000))
end

--- Closes connections: all now, or the one that sends the byte after `n` more in that direction.
---@param direction? "up"|"down"
---@param n? integer default 0
function Fake:cut(direction, n)
    if direction then return self:tell("cut", direction, n or 0) end
    self:tell("cut")
end

--- Closes all connections with a reset.
function Fake:reset() self:tell("reset") end

--- Passes nothing in this direction until pass().
---@param direction "up"|"down"
function Fake:hold(direction) self:tell("hold", direction) end

---@param direction "up"|"down"
function Fake:pass(direction) self:tell("pass", direction) end

--- Closes new connections at once until accept().
function Fake:refuse() self:tell("refuse") end

function Fake:accept() self:tell("accept") end

---@return {connections: integer, up: integer, down: integer}
function Fake:stats()
    local text = self:tell("stats")
    local out = {}
    for name, n in text:gmatch("(%a+) (%d+)") do out[name] = math.tointeger(tonumber(n)) end
    return out
end

--- What a `record` has received so far, on all its connections.
---@return string
function Fake:heard()
    return (self:tell("heard"):gsub("^heard ", ""):gsub("%x%x", function(two)
        return string.char(tonumber(two, 16))
    end))
end

--- The URL of a server of spec.support.servers, with this proxy in the server's place.
---@param server spec.Postgres|spec.Redis
---@param opts? table options of server:address
---@return string url
function Fake:address_of(server, opts)
    local stand_in = setmetatable({
        sockdir = self.dir, socket = self.path, port = self.port or 5432, tcp_port = self.port,
    }, { __index = server })
    local full = { tcp = self.port ~= nil }
    for name, value in pairs(opts or {}) do full[name] = value end
    return server.address(stand_in, full)
end

local function start(opts, words)
    local dir = fs.mkdtemp(folder.run() .. "/f-")
    local listen = opts.tcp and "tcp:0" or ("unix:%s/.s.PGSQL.5432"):format(dir)
    local spec = { compiled.program "faultproxy", opts.listen or listen, table.unpack(words) }
    if opts.own_network then table.move({ "unshare", "-n", table.unpack(spec) }, 1, #spec + 2, 1, spec) end
    spec.stdin_from, spec.stdout, spec.stderr, spec.pdeathsig = "pipe", "capture", "inherit", "KILL"
    return dir, process.start(spec)
end

local function new(opts, ...)
    opts = opts or {}
    local dir, child = start(opts, { ... })
    local line = child:read_line(10)
    local address = line and line:match("^listening (.+)$")
    if not address then
        child:close()
        fs.rmtree(dir)
        error("faultproxy did not start")
    end
    local self = setmetatable({ child = child, dir = dir }, meta)
    if not address:find "^/" then self.port = math.tointeger(tonumber(address)) else self.path = address end
    return self
end

--- Passes everything on to a server, with faults on command.
--- `own_network`: it runs in a separate network namespace (its unix socket is reachable from outside).
---@param opts {to: string|spec.Postgres|spec.Redis, tcp: boolean?, listen: string?, own_network: boolean?}
---@return spec.Fake
function M.proxy(opts)
    local to = opts.to
    if type(to) == "table" then
        to = "unix:" .. (to.socket or ("%s/.s.PGSQL.%d"):format(to.sockdir, to.port))
    end
    return new(opts, "proxy", to)
end

--- Accepts connections and sends nothing.
---@param opts? {tcp: boolean}
---@return spec.Fake
function M.mute(opts)
    return new(opts, "mute")
end

local function hex(text)
    return (text:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local function script(opts, mode)
    local words = {}
    for i, text in ipairs(opts) do words[i] = hex(text) end
    return new(opts, mode, table.unpack(words))
end

--- Answers the n-th chunk that it receives with the n-th text, and then sends nothing.
---@param opts {[integer]: string, tcp: boolean?}
---@return spec.Fake
function M.say(opts)
    return script(opts, "say")
end

--- As `say`; heard() returns everything that it received.
---@param opts {[integer]: string, tcp: boolean?}
---@return spec.Fake
function M.record(opts)
    return script(opts, "record")
end

--- As `say`, then repeats the last text forever.
---@param opts {[integer]: string, tcp: boolean?}
---@return spec.Fake
function M.drown(opts)
    return script(opts, "drown")
end

--- As `say`, but sends the first text at once.
---@param opts {[integer]: string, tcp: boolean?}
---@return spec.Fake
function M.greet(opts)
    return script(opts, "greet")
end

--- Repeats the text forever, from the first bytes that it receives.
---@param opts {[integer]: string, tcp: boolean?}
---@return spec.Fake
function M.flood(opts)
    return script(opts, "flood")
end

--- Sends random bytes forever.
---@param opts? {seed: integer, tcp: boolean?}
---@return spec.Fake
function M.garbage(opts)
    return new(opts, "garbage", tostring(opts and opts.seed or 1))
end

return M
