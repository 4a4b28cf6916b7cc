--- A program on a pseudo terminal, driven as a person would: input is sent only after the expected output is on the
--- screen, so no test depends on the machine's speed.
---
---     local term <close> = terminal.start("lua")
---     term:expect "> "
---     term:line "1 + 1"
---     term:expect "\n2\n"

local core <const> = require "dbrun.core"
local fs <const> = require "dbrun.fs"
local process <const> = require "dbrun.process"
local task <const> = require "dbrun.task"

local M <const> = {}

local LIMIT <const> = 30 -- seconds for one answer

---@class dbrun.spec.Terminal
---@field seen string what was on the screen before the last match
local Terminal = {}
Terminal.__index = Terminal

--- Starts a shell command in which `lua` is dbrun.
---@param command string
---@return dbrun.spec.Terminal
function M.start(command)
    local dir <const> = fs.mkdtemp(fs.join(fs.tempdir(), "dbrun-terminal-"))
    fs.symlink(core.options.program, fs.join(dir, "lua"))
    local screen <const> = fs.join(dir, "screen")
    fs.write(screen, "")
    -- exec: a shell that stays between would get each Ctrl-C too, and end with 130 for it when the program ends.
    local child = process.start {
        "script", "-qefc", "exec " .. command, screen, stdin_from = "pipe", stdout = "null", stderr = "stdout",
        pdeathsig = "KILL",
        env = { PATH = dir .. ":" .. os.getenv "PATH", SHELL = "/bin/sh", TERM = "dumb", LUA_INIT = false,
            LUA_PATH = false, LUA_CPATH = false },
    }
    return setmetatable({ dir = dir, screen = screen, child = child, at = 1, seen = "" }, Terminal)
end

--- Everything that was printed so far, with LF line ends.
---@return string
function Terminal:text()
    local text = fs.read(self.screen)
    return (text:gsub("^Script started[^\n]*\n", ""):gsub("\r", ""))
end

--- Waits until the pattern is on the screen after the last match; the next search starts after this one.
---@param pattern string
---@return string matched
function Terminal:expect(pattern)
    local deadline <const> = task.now() + LIMIT
    repeat
        local text = self:text()
        local from, to = text:find(pattern, self.at)
        if from then
            self.seen = text:sub(1, from - 1)
            self.at = to + 1
            return text:sub(from, to)
        end
        task.sleep(0.01)
    until task.now() > deadline
    error(("'%s' did not come within %d s; on the screen:\n%s"):format(pattern, LIMIT, self:text()), 2)
end

--- Types keys: `\3` is Ctrl-C, `\4` Ctrl-D.
---@param keys string
function Terminal:type(keys)
    self.child:write(keys)
end

--- Types a line.
---@param text string
function Terminal:line(text)
    self.child:write(text .. "\n")
end

--- Waits for the program's end.
---@param code integer the expected exit status
function Terminal:ends(code)
    local result <const> = self.child:wait(LIMIT)
    self.ended = result ~= nil
    if not result or result.code ~= code then
        local how <const> = result and "it ended with exit status " .. result.code or "it did not end"
        error(("%s instead of exit status %d; on the screen:\n%s"):format(how, code, self:text()), 2)
    end
end

--- Sends SIGHUP to the program, as closing a window does. After a SIGTERM `script` would go on waiting for it.
function Terminal:close()
    if not self.ended then self.child:kill "KILL" end
    self.child:close()
    fs.rmtree(self.dir)
end

Terminal.__close = Terminal.close

return M
