--- Child processes in a dry run: they are told, not run, and look as if they had ended at once with status 0 and no
--- output, unless their spec has `dry_run = "run"`. So are signals to other processes, os.execute and io.popen.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local fs <const> = require "dbrun.fs"
local mask <const> = require "dbrun.config.mask"
local tty <const> = require "dbrun.tty"

local proc <const> = core.process

local M = {}

local MOST_BYTES <const> = 200 -- of a command line
local MOST_LINES <const> = 50 -- of the summary

-- ---- what is told ----

---@type string[]
local list <const> = {}
---@type table<string, integer>
local times <const> = {}
local left_out = 0

local function cut(text)
    text = tty.printable(text):gsub("\n", "\\n"):gsub("\t", "\\t")
    return #text > MOST_BYTES and text:sub(1, (utf8.offset(text, 0, MOST_BYTES) or MOST_BYTES) - 1) .. "..." or text
end

local function note(text)
    text = cut(text)
    if times[text] then
        times[text] = times[text] + 1
        return
    elseif #list < MOST_LINES then
        times[text], list[#list + 1] = 1, text
    else
        left_out = left_out + 1
    end
    require "dbrun.dry".tell("process: " .. text)
end

--- The words of a command line as a shell would take them, without secrets.
local function line_of(words)
    local shown <const>, hide = {}, false
    for i, word in ipairs(words) do
        local is_option <const> = word:find "^%-%-?%a[%w_-]*$" ~= nil
        word = hide and not is_option and "***" or mask.by_value(word)
        hide = is_option and mask.by_name(word)
        shown[i] = word:find "^[%w@%%+=:,./_*-]+$" and word or "'" .. word:gsub("'", "'\\''") .. "'"
    end
    return table.concat(shown, " ")
end

--- A command of a shell: what looks like a secret is hidden, all else is as it was.
local function shell_line(command)
    local hide = false
    return (command:gsub("[^%s;|&()]+", function(word)
        local is_option <const> = word:find "^%-%-?%a[%w_-]*$" ~= nil
        local hidden <const> = hide and not is_option
        hide = is_option and mask.by_name(word)
        return hidden and "***" or mask.by_value(word)
    end))
end

-- ---- a child that was not started ----

local NO_PROCESS <const> = 1 << 22 -- Linux gives no process a number from here on
local children = 0

--- What dbrun.process holds of a child: it has ended, and said nothing.
local Handle <const> = {}
local handle_meta <const> = { __index = Handle, __close = function() end }

function Handle:pid() return self.number end
function Handle.wait() return true end
function Handle.status() return 0 end
function Handle.output() return "" end
function Handle.line() return nil end
function Handle.over() return nil end
function Handle.write() end
function Handle.feed() end
function Handle.close_stdin() end
function Handle.kill() return false end
function Handle.terminate() end
function Handle.close() end

--- A program that is not there is an error, as it would be. (With an environment of its own, its PATH decides.)
local function check_program(normal)
    local name <const> = normal.argv[1]
    local there
    if name:find("/", 1, true) then
        there = fs.access(name:sub(1, 1) ~= "/" and normal.cwd and fs.join(normal.cwd, name) or name, "x")
    else
        there = normal.env ~= nil or require "dbrun.stack.programs".which(name) ~= nil
    end
    if not there then
        errors.fail("io", ("'%s' cannot be run: there is no such program"):format(tty.printable(name)),
            not name:find("/", 1, true) and "it was searched in PATH" or nil)
    end
end

-- ---- the functions of core.process ----

local real <const> = { start = proc.start, exec = proc.exec, kill = proc.kill }
---The children that run.
---@type table<integer, boolean>
local running <const> = {}

local function start(normal)
    if normal.dry_run == "run" then
        local handle <const> = real.start(normal)
        running[handle:pid()] = true
        return handle
    end
    check_program(normal)
    note(line_of(normal.argv))
    children = children + 1
    return setmetatable({ number = NO_PROCESS + children }, handle_meta)
end

--- The program that takes this one's place ends it; in a dry run, with status 0.
local function exec(normal)
    if normal.dry_run == "run" then
        require "dbrun.dry".finish()
        return real.exec(normal)
    end
    check_program(normal)
    note("exec " .. line_of(normal.argv))
    os.exit(0, true)
end

--- Signal 0 only asks whether there is such a process.
local function kill(pid, signal)
    if signal == 0 or running[pid] then
        return real.kill(pid, signal)
    elseif pid >= NO_PROCESS or not real.kill(pid, 0) then
        return false
    end
    note(("kill -%s %d"):format(proc.signals[signal] or signal, pid))
    return true
end

-- ---- the functions of Lua ----

---@type function, function
local execute, popen

local function check_command(fn, command)
    if type(command) ~= "string" and type(command) ~= "number" then
        error(("bad argument #1 to '%s' (string expected, got %s)"):format(fn,
            command == nil and "no value" or type(command)), 4)
    end
    return tostring(command)
end

local function told_execute(command)
    if command == nil then
        return execute() -- is there a shell?
    end
    note(shell_line(check_command("execute", command)))
    return true, "exit", 0
end

--- A shell that does nothing takes the command's place: nothing to read, and what is written goes nowhere.
local function told_popen(command, mode)
    command = check_command("popen", command)
    local file <const>, e <const>, code <const> = popen(mode == "w" and "exec cat >/dev/null" or ":", mode)
    if file then
        note(shell_line(command))
    end
    return file, e, code
end

-- ---- the dry run ----

---Begins it: from now on no child is started that does not say so.
function M.install()
    proc.start, proc.exec, proc.kill = start, exec, kill
    if core.children then -- also for a script that has kept them in variables before
        execute, popen = core.children(told_execute, told_popen)
    else
        execute, popen = os.execute, io.popen
        rawset(os, "execute", told_execute)
        rawset(io, "popen", told_popen)
    end
end

---What was not run, for the summary.
---@return string[]
function M.lines()
    local lines <const> = {}
    for i, text in ipairs(list) do
        lines[i] = "processes  " .. text .. (times[text] > 1 and ("  %d times"):format(times[text]) or "")
    end
    if left_out > 0 then
        lines[#lines + 1] = ("processes  and %d more"):format(left_out)
    end
    return lines
end

return M
