--- Child processes, signals, users.
---
--- `process.run{"initdb", "-D", dir}` waits for the end; `process.start{...}` gives a handle. A child
--- inherits standard input, output and error and no other descriptor. Waiting parks the task; a
--- cancelled wait ends the child (SIGTERM, and SIGKILL after 2 seconds).
---
--- Memory stays bounded: a write waits while the pipe is full, a child whose standard output is not read is blocked,
--- and captured output has a limit.
---
--- Raises an error of kind `io` when the system refuses.

local args = require "dbrun.args"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local spec_of = require "dbrun.process.spec"

local proc = core.process
local signals = proc.signals
local signal_number = spec_of.signal_number

local M = {}

---@class dbrun.process.Spec
---@field [integer] string|number program and arguments; the program is searched in PATH
---@field stdin? string|false text for its standard input; false (the default) = nothing to read
---@field stdin_from? "inherit"|"pipe"|string|dbrun.process.File this program's own, a pipe for `child:write`, or a file
---@field stdout? "capture"|"inherit"|"null"|string|dbrun.process.File run captures, start inherits; else a file
---@field stderr? "capture"|"inherit"|"null"|"stdout"|string|dbrun.process.File likewise
---@field max_output? integer|false bytes of stdout, and of stderr, that are captured at most, and of a line (default
---64 MiB); false = no limit
---@field env? table<string, string|number|false> changes to the environment; false removes a variable
---@field clear_env? boolean start from an empty environment
---@field cwd? string
---@field user? string name of the user to run as (root only)
---@field uid? integer
---@field gid? integer default: the group of the user
---@field timeout? number seconds; run only
---@field detached? boolean starts a new session and outlives this program
---@field pdeathsig? string|integer signal for the child when this program dies
---@field dry_run? "run" the child only reads: a dry run (--dry-run) runs it instead of only listing it

---@class dbrun.process.ExecSpec fields without a description are as in dbrun.process.Spec
---@field [integer] string|number
---@field dry_run? "run"
---@field env? table<string, string|number|false>
---@field clear_env? boolean
---@field cwd? string
---@field user? string
---@field uid? integer
---@field gid? integer

--- A file for a stream; a string that is not one of the words means the same as `file`. Paths are relative to this
--- program's working folder, not to `cwd`.
---@class dbrun.process.File
---@field file? string read, or written from its beginning: what it held is lost
---@field append? string for stdout and stderr: appended to what it holds

---@class dbrun.process.Result
---@field code integer exit status; 128 + number when a signal ended it
---@field signal? string name of that signal, such as "TERM"
---@field ok boolean code is 0
---@field stdout? string captured output
---@field stderr? string

---@class dbrun.process.Child
---Raises errors of kind `io`, `timeout` and `cancelled`.
---@field pid integer the number of its process
local Child = {}
local child_meta = { __index = Child, __name = "dbrun.process.Child" }

local function bytes(n)
    return n % (1 << 20) == 0 and ("%d MiB"):format(n >> 20) or ("%d bytes"):format(n)
end

--- Terminates the child, even a detached one, and waits for its end.
local function stop(child)
    child.closed = true
    local handle <close> = child.handle
    if handle:wait("exit", 0) then return end
    handle:terminate()
    handle:wait("exit", 3)
end

--- If an output is over its limit, ends the child and raises an error. The captured output is lost.
---@param want? "end"|"line" default: what a task asked for last
---@param write? table fields of the error about a write that this ends
local function check_output(child, want, write)
    local over, of
    if not child.problem then over, of = child.handle:over(want) end
    if over then
        local name <const> = over == 1 and "standard output" or "standard error"
        child.problem = of == "line" and over == 1 and {
            message = ("'%s' wrote a line of more than %s to its standard output, and was stopped"):format(child.name,
                bytes(child.limit)),
            hint = "max_output allows longer lines",
        } or {
            message = ("'%s' wrote more than %s to its %s, which is captured, and was stopped"):format(child.name,
                bytes(child.limit), name),
            hint = ("send it to a file (%s = {file = \"path\"}), or allow more with max_output%s"):format(
                over == 1 and "stdout" or "stderr",
                over == 1 and ", or read it line by line: process.start, child:read_line" or ""),
        }
        stop(child)
    end
    if child.problem then
        local e <const> = { kind = "io", message = child.problem.message, hint = child.problem.hint }
        for key, value in pairs(write or {}) do e[key] = value end
        errors.raise(e)
    end
end

--- Raises the reason why a write ended: its error, or an output over its limit.
---@param written? integer bytes of the text that the pipe took before the child stopped reading
local function write_failed(child, text, written, e)
    if written then
        check_output(child, nil, {
            written = written, outcome = written == 0 and "not_sent" or "unknown",
            detail = written > 0 and ("%d of %d bytes were written"):format(written, #text) or nil,
        })
    elseif child.problem and (errors.is(e, "io") or errors.is(e, "usage")) then -- another task has noticed it
        check_output(child, nil, { written = e.written, outcome = e.outcome, detail = e.detail })
    end
    error(e, 0)
end

--- Waits until the child has ended and its captured output is at its end. Raises kind `io`, and ends the child, when
--- the output is larger than `max_output`.
---@param timeout? number seconds
---@return dbrun.process.Result? result nil after that time; the child runs on
---```lua
---local child <close> = process.start { "sh", "-c", "exit 3" }
---print(child:wait(5).code)  --> 3
---```
function Child:wait(timeout)
    args.self("wait", self, child_meta, "a child", "child")
    args.optional("child:wait", "timeout", timeout, args.limit)
    if self.result then return self.result end
    if not self.problem and not self.handle:wait("end", timeout) then return nil end
    check_output(self, "end")
    local code, signo = self.handle:status()
    local result = { code = code or 128 + signo, signal = signo and (signals[signo] or tostring(signo)) }
    result.ok = result.code == 0
    if self.captures.stdout then result.stdout = self.handle:output(1) end
    if self.captures.stderr then result.stderr = self.handle:output(2) end
    self.result = result
    return result
end

--- Sends a signal; false when the child has ended already.
---@param sig? string|integer default "TERM"
---@return boolean sent
---```lua
---local child <close> = process.start { "sleep", "60" }
---child:kill "TERM"
---print(child:wait().signal)  --> TERM
---```
function Child:kill(sig)
    args.self("kill", self, child_meta, "a child", "child")
    return self.handle:kill(signal_number("child:kill", sig or "TERM"))
end

--- Writes to its standard input (`stdin_from = "pipe"`), and waits while the child does not read. Tasks that write at
--- once take turns, and each text stays in one piece. Raises kind `io` when the child no longer reads, and `timeout`
--- after that time. A child whose captured output is over `max_output` cannot read on: it is ended, with an error of
--- kind `io`. Once `read_line` is in use, a write waits for the tasks that read lines. The error's `written` is the
--- number of bytes that the pipe has taken: if it is 0, the outcome is `not_sent`, and the child can be written to
--- again; else the outcome is `unknown`, and later writes are refused, because the child would take them for the rest
--- of this text.
---@param text string|number
---@param timeout? number seconds
---```lua
---local child <close> = process.start { "cat", stdin_from = "pipe", stdout = "capture" }
---child:write("hello\n", 5) -- at most 5 s
---print(child:read_line(5))  --> hello
---```
function Child:write(text, timeout)
    args.self("write", self, child_meta, "a child", "child")
    if type(text) == "number" then text = tostring(text) end
    if type(text) ~= "string" then args.check("child:write", "text", text, "string") end
    if timeout ~= nil then args.check("child:write", "timeout", timeout, args.limit) end
    local ok, result <const> = pcall(self.handle.write, self.handle, text, timeout)
    if not ok then write_failed(self, text, nil, result) end
    if result then write_failed(self, text, result) end
end

--- Closes its standard input once the writes that wait are done.
---```lua
---local child <close> = process.start { "sort", stdin_from = "pipe", stdout = "capture" }
---child:write "b\na\n"
---child:close_stdin() -- sort begins at the end of its input
---print(child:read_line(), child:read_line())  --> a  b
---```
function Child:close_stdin()
    args.self("close_stdin", self, child_meta, "a child", "child")
    self.handle:close_stdin()
end

--- The next line of its captured standard output, without the line's end. From the first call on about 1 MiB is read
--- ahead, and then the child waits in its write. Raises kind `io`, and ends the child, when a line is longer than
--- `max_output`.
---@param timeout? number seconds
---@return string? line nil at the end of the output, or after that time
---@return string? reason "end" or "timeout"
---```lua
---local child <close> = process.start { "printf", "a\\nb\\n", stdout = "capture" }
---print(child:read_line(5), child:read_line(5))  --> a  b
---```
function Child:read_line(timeout)
    args.self("read_line", self, child_meta, "a child", "child")
    args.optional("child:read_line", "timeout", timeout, args.limit)
    self.by_line = true
    if not self.problem and not self.handle:wait("line", timeout) then return nil, "timeout" end
    check_output(self, "line")
    local line = self.handle:line()
    if not line then return nil, "end" end
    return (line:gsub("\r?\n$", ""))
end

--- Whether the child still runs. Raises kind `io`, and ends the child, when its captured output is larger than
--- `max_output` and no task reads it by lines.
---@return boolean
---```lua
---local child <close> = process.start { "true" }
---child:wait()
---print(child:running())  --> false
---```
function Child:running()
    args.self("running", self, child_meta, "a child", "child")
    if self.problem then return false end
    if not self.by_line then check_output(self, "end") end
    return not self.handle:wait("exit", 0)
end

--- Ends the child (SIGTERM, SIGKILL after 2 s) and waits for it; does nothing to a detached one.
---```lua
---local child <close> = process.start { "sleep", "60" } -- the end of the block closes it
---print(child:running())  --> true
---```
function Child:close()
    args.self("close", self, child_meta, "a child", "child")
    if self.closed then return end
    if not self.detached then return stop(self) end
    self.closed = true
    self.handle:close()
end

child_meta.__close = Child.close

---@param fn string
---@param spec dbrun.process.Spec
---@param second any
local function start(fn, spec, second)
    local normal = spec_of.normalize(fn, spec, second)
    local handle = proc.start(normal)
    local child = setmetatable({
        handle = handle, pid = handle:pid(), detached = normal.detached, name = normal.argv[1], limit = normal.limit,
        captures = { stdout = normal.stdout == "pipe", stderr = normal.stderr == "pipe" },
        result = false, closed = false, problem = false, by_line = false,
    }, child_meta)
    if spec.stdin then handle:feed(tostring(spec.stdin)) end
    return child
end

--- Starts a program and returns at once. `local child <close> = process.start{...}` ends the child with the block.
---@param spec dbrun.process.Spec
---@return dbrun.process.Child
---```lua
---local child <close> = process.start { "cat", stdin_from = "pipe", stdout = "capture" }
---child:write "hello\n"
---print(child:read_line(5))  --> hello
---```
function M.start(spec, ...)
    return start("start", spec, (...))
end

--- Runs a program to its end. A program that fails raises no error: check `ok` or `code`. Raises kind `io` when it
--- cannot be started, or when its output is larger than `max_output` (it is ended then), and `timeout` when it was
--- stopped after `timeout` seconds.
---@param spec dbrun.process.Spec
---@return dbrun.process.Result
---```lua
---local result = process.run { "sort", stdin = "b\na\n", timeout = 5 }
---print(result.ok, result.code, #result.stdout)  --> true  0  4
---```
function M.run(spec, ...)
    if type(spec) == "table" and spec.detached == true then
        errors.usage("process.run", "a detached program is started, not run")
    end
    local child <close> = start("run", spec, (...))
    local result = child:wait(spec.timeout)
    if result then return result end
    local said = child.captures.stderr and child.handle:output(2) or ""
    return errors.raise {
        kind = "timeout",
        message = ("'%s' did not end within %g s and was stopped"):format(tostring(spec[1]), spec.timeout),
        detail = said ~= "" and said:sub(-2000) or nil,
    }
end

--- Replaces this program by another one, which keeps the process number, terminal and streams. Does not return; raises
--- kind `io` when the program cannot be run. Nothing is closed: close connections and files before.
---@param spec dbrun.process.ExecSpec argv, env, clear_env, cwd, user, uid, gid, dry_run
---```lua
---local function psql() process.exec { "psql", "-d", config.sync_database_url } end -- does not return
---```
function M.exec(spec, ...)
    local normal <const> = spec_of.normalize("exec", spec, (...))
    io.stdout:flush()
    io.stderr:flush()
    proc.exec(normal)
end

local PID <const> = args.whole(1, 0x7fffffff)

--- Sends a signal to any process; false when there is none with this number.
---@param pid integer
---@param sig? string|integer default "TERM"
---@return boolean sent
---```lua
---local child <close> = process.start { "sleep", "60" }
---print(process.kill(child.pid, "TERM"), child:wait().signal)  --> true  TERM
---```
function M.kill(pid, sig)
    args.check("process.kill", "pid", pid, PID)
    return proc.kill(pid, signal_number("process.kill", sig or "TERM"))
end

---@class dbrun.process.Info
---@field state string one letter, as ps(1) prints it
---@field ppid integer
---@field start integer start time in clock ticks since boot; identifies the process together with the pid

--- The state of a process from /proc; nil when it does not exist (a zombie does: state "Z").
---@param pid integer
---@return dbrun.process.Info?
---```lua
---print(process.info(process.pid()).ppid == process.ppid())  --> true
---```
function M.info(pid)
    args.check("process.info", "pid", pid, args.integer)
    local f <close> = io.open(("/proc/%d/stat"):format(pid), "rb")
    local text = f and f:read("a")
    -- The name is in parentheses and can contain any byte, so the fields are counted after the last ')'.
    local rest = text and text:match("^.*%) (.*)$")
    if not rest then return nil end
    local fields = {}
    for word in rest:gmatch("%S+") do fields[#fields + 1] = word end
    return { state = fields[1], ppid = math.tointeger(fields[2]), start = math.tointeger(fields[20]) }
end

--- Whether the process runs. A zombie does not.
---@param pid integer
---@param started? integer `info(pid).start` of the process: a pid can be reused
---@return boolean
---```lua
---print(process.alive(process.pid()))  --> true
---```
function M.alive(pid, started)
    args.check("process.alive", "pid", pid, args.integer)
    args.optional("process.alive", "started", started, args.integer)
    local info = M.info(pid)
    if not info or info.state == "Z" or info.state == "X" then return false end
    return started == nil or info.start == started
end

---The number of this process.
---@return integer
---```lua
---print(math.type(process.pid()))  --> integer
---```
function M.pid()
    return (proc.ids())
end

---The name of this machine, as gethostname(2) gives it.
---@return string
---```lua
---print(#process.host_name() > 0)  --> true
---```
function M.host_name()
    return proc.host()
end

---The number of the process that started this one.
---@return integer
---```lua
---print(math.type(process.ppid()))  --> integer
---```
function M.ppid()
    return (select(2, proc.ids()))
end

--- The effective user.
---@return integer uid
---@return integer gid
---```lua
---local uid, gid = process.uid()
---print(math.type(uid), math.type(gid))  --> integer  integer
---```
function M.uid()
    local _, _, uid, gid = proc.ids()
    return uid, gid
end

---@class dbrun.process.User
---@field name string
---@field uid integer
---@field gid integer
---@field home string
---@field groups integer[]

local WHO <const> = {
    function(v) return type(v) == "string" or spec_of.ID[1](v) end, "a name, or " .. spec_of.ID[2],
}

--- The user of this name or number, from the system's user database.
---@param who? string|integer default: the effective user
---@return dbrun.process.User?
---```lua
---print(process.user("root").home)  --> /root
---```
function M.user(who)
    args.optional("process.user", "who", who, WHO)
    return proc.user(who or (M.uid()))
end

args.answer_for_names(Child, "a child", {
    join = "child:wait()", terminate = "child:kill()", stop = "child:kill()", poll = "child:running()",
    alive = "child:running()", readline = "child:read_line()", read = "child:read_line(), or child:wait().stdout",
    lines = "child:read_line() in a loop", communicate = "child:wait()", stdout = "child:wait().stdout",
    code = "child:wait().code",
})

local START_HINT <const>, RUN_HINT <const> = "process.start{...}", "process.run{...}"

return args.answer_for_names(M, "process", {
    spawn = START_HINT, popen = START_HINT, open = START_HINT, fork = START_HINT, execute = RUN_HINT, system = RUN_HINT,
    call = RUN_HINT, execFile = RUN_HINT, shell = 'process.run{"sh", "-c", command}',
    check_output = "process.run{...}.stdout", getpid = "process.pid()", getppid = "process.ppid()",
    getuid = "process.uid()", exit = "os.exit(code, true)", env = "os.getenv(name)", argv = "arg",
})
