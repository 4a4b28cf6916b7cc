--- Child processes in a dry run: they are listed, not run, and seem to end at once with status 0 and no output, unless
--- their spec has `dry_run = "run"`. The same holds for signals to other processes, os.execute and io.popen.
local child_words <const> = require "dbrun.dry.child_words"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local fs <const> = require "dbrun.fs"
local shown <const> = require "dbrun.dry.shown"
local tty <const> = require "dbrun.tty"
local unmade <const> = require "dbrun.dry.unmade"

local proc <const> = core.process

local M = {}

local MOST_BYTES <const> = 200 -- of a command line
local MOST_LINES <const> = 50 -- while it runs, and of the summary

-- ---- listing ----

---@type string[]
local list <const> = {}
---@type table<string, integer>
local times <const> = {}
local left_out = 0

local NO_OUTPUT <const> = 'not run, its output is empty; process.run { ..., dry_run = "run" } runs one that only reads'
local output_told = false

--- `speaks`: the script can read the child's output, and gets nothing. A line says so once.
local function note(text, speaks)
    text = shown.cut(text, MOST_BYTES)
    if times[text] then
        times[text] = times[text] + 1
        return
    elseif #list == MOST_LINES then
        left_out = left_out + 1
        if left_out == 1 then
            require "dbrun.dry".tell "process: more of them, which the end counts"
        end
        return
    end
    times[text], list[#list + 1] = 1, text
    local more <const> = speaks and not output_told and (" (%s)"):format(NO_OUTPUT) or ""
    output_told = output_told or speaks or false
    require "dbrun.dry".tell("process: " .. text .. more)
end

-- ---- a child that was not started ----

local NO_PROCESS <const> = 1 << 22 -- no process on Linux has a pid from here on
local children = 0

--- The child for dbrun.process: it has ended, without output.
local Handle <const> = {}
local handle_meta <const> = { __index = Handle, __close = function() end }

function Handle:pid() return self.number end

function Handle:write()
    if self.stdin ~= "pipe" then
        errors.fail("usage", ("process: the standard input of '%s' is not a pipe"):format(self.name),
            'start it with stdin_from = "pipe"')
    elseif self.closed then
        errors.fail("usage", ("process: the standard input of '%s' is closed"):format(self.name),
            "close_stdin() comes after the last write")
    end
end

function Handle:close_stdin() self.closed = true end
function Handle.wait() return true end
function Handle.status() return 0 end
function Handle.output() return "" end
function Handle.line() return nil end
function Handle.over() return nil end
function Handle.feed() end
function Handle.kill() return false end
function Handle.terminate() end
function Handle.close() end

local function in_folder(normal, path)
    return path:sub(1, 1) ~= "/" and normal.cwd and fs.join(normal.cwd, path) or path
end

--- Raises errors that would keep a child from starting. (If it has its own environment, the PATH there decides.)
local function check_program(normal)
    local name <const> = normal.argv[1]
    local printed <const> = tty.printable(name)
    local cwd <const> = normal.cwd and fs.stat(normal.cwd)
    if normal.cwd and not (cwd and cwd.kind == "folder") then
        errors.fail("io", ("cannot run '%s' in the folder '%s': %s"):format(printed, tty.printable(normal.cwd),
            cwd and "Not a directory" or "No such file or directory"))
    elseif name:find("/", 1, true) then
        local stat <const> = fs.stat(in_folder(normal, name))
        if not stat then
            errors.fail("io", ("cannot run '%s': No such file or directory"):format(printed), "is the path right?")
        elseif stat.kind == "folder" or not fs.access(in_folder(normal, name), "x") then
            errors.fail("io", ("cannot run '%s': Permission denied"):format(printed),
                "the file, or a folder above it, does not allow it for this user")
        end
    elseif not normal.env and not require "dbrun.stack.programs".which(name) then
        errors.fail("io", ("cannot run '%s': No such file or directory"):format(printed),
            "is it installed, and is its folder in PATH?")
    end
end

local function check_open(normal, path, fine)
    if path and not fine then
        errors.fail("io", ("cannot open '%s' for '%s': No such file or directory"):format(tty.printable(path),
            tty.printable(normal.argv[1])))
    end
end

--- Files for its output are not made, but their folder must exist.
local function check_streams(normal)
    check_open(normal, normal.stdin_path, normal.stdin_path and fs.exists(normal.stdin_path))
    for _, path in ipairs { normal.stdout_path or false, normal.stderr_path or false } do
        check_open(normal, path, path and fs.exists(fs.dirname(path)))
    end
end

-- ---- the functions of core.process ----

local real <const> = { start = proc.start, exec = proc.exec, kill = proc.kill }
---The children that really run.
---@type table<integer, boolean>
local running <const> = {}

--- With the files that it would read and write.
local function told_line(normal)
    local words <const> = { child_words.line_of(normal.argv) }
    local function add(sign, path)
        words[#words + 1] = path and sign .. " " .. child_words.line_of { path } or nil
    end
    add("<", normal.stdin_path)
    add(normal.stdout == "append" and ">>" or ">", normal.stdout_path)
    add(normal.stderr == "append" and "2>>" or "2>", normal.stderr_path)
    return table.concat(words, " ")
end

local function start(normal)
    if normal.dry_run == "run" then
        local handle <const> = real.start(normal)
        running[handle:pid()] = true
        return handle
    end
    check_program(normal)
    check_streams(normal)
    note(told_line(normal), normal.stdout == "pipe")
    unmade.add(normal.stdout_path)
    unmade.add(normal.stderr_path)
    children = children + 1
    return setmetatable({
        number = NO_PROCESS + children, name = tty.printable(normal.argv[1]), stdin = normal.stdin, closed = false,
    }, handle_meta)
end

--- process.exec ends this program; in a dry run, with status 0.
local function exec(normal)
    if normal.dry_run == "run" then
        require "dbrun.dry".finish()
        return real.exec(normal)
    end
    check_program(normal)
    note("exec " .. child_words.line_of(normal.argv))
    os.exit(0, true)
end

--- Signal 0 only checks whether the process exists.
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
    note(child_words.shell_line(check_command("execute", command)))
    return true, "exit", 0
end

--- A shell that does nothing replaces the command: it has no output, and its input is discarded.
local function told_popen(command, mode)
    command = check_command("popen", command)
    if mode ~= nil and mode ~= "r" and mode ~= "w" then
        error("bad argument #2 to 'popen' (invalid mode)", 3)
    end
    local file <const>, e <const>, code <const> = popen(mode == "w" and "exec cat >/dev/null" or ":", mode)
    if not file then
        return file, e, code
    end
    note(child_words.shell_line(command), mode ~= "w")
    return file
end

-- ---- the dry run ----

---Begins it: from now on only children with `dry_run = "run"` are started.
function M.install()
    proc.start, proc.exec, proc.kill = start, exec, kill
    unmade.install(function(from, to) note("rename " .. child_words.line_of { from, to }) end)
    if core.children then -- also for a script that has stored them in variables before
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
