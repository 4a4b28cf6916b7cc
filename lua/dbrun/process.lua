--- Child processes, signals, users.
---
--- `process.run{"initdb", "-D", dir}` waits for the end; `process.start{...}` gives a handle. A child
--- inherits standard input, output and error and no other descriptor. Waiting parks the task; a
--- cancelled wait ends the child (SIGTERM, and SIGKILL after 2 seconds).

local args = require "dbrun.args"
local core = require "dbrun.core"
local errors = require "dbrun.error"

local proc = core.process
local signals = proc.signals

local M = {}

---@class dbrun.process.Spec
---@field [integer] string|number program and arguments; the program is searched in PATH
---@field stdin? string|false text for its standard input; false (the default) = nothing to read
---@field stdin_from? "inherit"|"pipe"|string this program's own, a pipe for `child:write`, or a file
---@field stdout? "capture"|"inherit"|"null"|string run captures, start inherits; else a file to append to
---@field stderr? "capture"|"inherit"|"null"|"stdout"|string likewise
---@field env? table<string, string|number|false> changes to the environment; false removes a variable
---@field clear_env? boolean start from an empty environment
---@field cwd? string
---@field user? string name of the user to run as (root only)
---@field uid? integer
---@field gid? integer default: the group of the user
---@field timeout? number seconds; run only
---@field detached? boolean starts a new session and goes on after this program
---@field pdeathsig? string|integer signal for the child when this program dies

---@class dbrun.process.ExecSpec what is not said here is as in dbrun.process.Spec
---@field [integer] string|number
---@field env? table<string, string|number|false>
---@field clear_env? boolean
---@field cwd? string
---@field user? string
---@field uid? integer
---@field gid? integer

---@class dbrun.process.Result
---@field code integer exit status; 128 + number when a signal ended it
---@field signal? string name of that signal, such as "TERM"
---@field ok boolean code is 0
---@field stdout? string captured output
---@field stderr? string

local SIGNAL <const> = args.one_type_of("string", "number")

---@param fn string
---@param sig string|integer "TERM", "SIGTERM" or 15
---@return integer
local function signal_number(fn, sig)
    if math.type(sig) == "integer" and sig >= 0 and sig <= 64 then return sig end
    local n = type(sig) == "string" and signals[sig:upper():gsub("^SIG", "")]
    args.check(fn, "sig", sig, SIGNAL)
    if not n then errors.usage(fn, "'%s' is not a signal", tostring(sig)) end
    return n
end

local ENV_VALUE <const> = args.or_false(args.one_type_of("string", "number"))

---@param spec dbrun.process.Spec
---@return string[]? list of KEY=value, nil when the environment is passed on as it is
local function environment(fn, spec)
    if not spec.env and not spec.clear_env then return nil end
    local values, order = {}, {}
    local function set(key, value)
        if values[key] == nil then order[#order + 1] = key end
        values[key] = value
    end
    if not spec.clear_env then
        for _, line in ipairs(proc.environ()) do
            local key, value = line:match("^([^=]*)=(.*)$")
            if key then set(key, value) end
        end
    end
    for key, value in pairs(spec.env or {}) do
        if type(key) ~= "string" or key == "" or key:find("[=\0]") then
            errors.usage("process." .. fn, "'%s' is not the name of an environment variable", tostring(key))
        end
        args.check("process." .. fn, "env." .. key, value, ENV_VALUE)
        set(key, value and tostring(value) or false)
    end
    local list = {}
    for _, key in ipairs(order) do
        if values[key] then list[#list + 1] = key .. "=" .. values[key] end
    end
    return list
end

local function identity(fn, spec, out)
    local user
    if spec.user or spec.uid then
        user = proc.user(spec.user or spec.uid)
        if not user and spec.user then
            errors.fail("io", ("there is no user '%s' on this machine"):format(spec.user))
        end
    end
    if not user and not spec.uid then
        if spec.gid then errors.usage("process." .. fn, "gid without uid") end
        return
    end
    out.uid = spec.uid or user.uid
    out.gid = spec.gid or (user and user.gid)
    if not out.gid then
        errors.usage("process." .. fn, "uid %d has no entry in the user database: give a gid too", out.uid)
    end
    out.groups = user and not spec.gid and user.groups or { out.gid }
end

local function output_stream(fn, name, value, out)
    if value == "capture" then
        out[name] = "pipe"
    elseif value == "inherit" or value == "null" or (value == "stdout" and name == "stderr") then
        out[name] = value
    elseif type(value) == "string" and value:find("/", 1, true) then
        out[name], out[name .. "_path"] = "file", value
    else
        errors.usage("process." .. fn,
            "%s: 'capture', 'inherit', 'null' or the path of a file (with a '/') expected, got '%s'", name,
            tostring(value))
    end
end

local EXEC <const> = {
    env = "table", clear_env = "boolean", cwd = args.path, user = "string", uid = args.whole(0), gid = args.whole(0),
}
local START <const> = {
    stdin = args.or_false "string", stdin_from = "string", stdout = "string", stderr = "string", detached = "boolean",
    pdeathsig = args.one_type_of("string", "number"),
}
local RUN <const> = { timeout = args.seconds }
for key, rule in pairs(EXEC) do START[key] = rule end
for key, rule in pairs(START) do RUN[key] = rule end
local OPTIONS <const> = { exec = EXEC, start = START, run = RUN }

--- Refuses unknown keys; the program and its arguments stand at 1, 2 and so on.
local function check_options(fn, spec)
    args.check("process." .. fn, "spec", spec, "table")
    local named = {}
    for key, value in pairs(spec) do
        if math.type(key) ~= "integer" then named[key] = value end
    end
    args.options("process." .. fn, named, OPTIONS[fn])
end

--- The spec in the exact form that core.process takes.
local function normalize(fn, spec, output)
    check_options(fn, spec)
    local argv = {}
    for i, arg in ipairs(spec) do
        if type(arg) ~= "string" and type(arg) ~= "number" then
            errors.usage("process." .. fn, "argument %d is a %s", i, type(arg))
        end
        argv[i] = tostring(arg)
    end
    if #argv == 0 or argv[1] == "" then errors.usage("process." .. fn, "the name of the program is missing") end
    local out = {
        argv = argv, env = environment(fn, spec), cwd = spec.cwd, detached = spec.detached and true or false,
        pdeathsig = spec.pdeathsig and signal_number("process." .. fn, spec.pdeathsig) or 0, stdin = "null",
    }
    identity(fn, spec, out)
    if spec.stdin then
        out.stdin = "pipe"
    elseif spec.stdin_from == "inherit" or spec.stdin_from == "pipe" then
        out.stdin = spec.stdin_from
    elseif spec.stdin_from then
        out.stdin, out.stdin_path = "file", spec.stdin_from
    end
    output_stream(fn, "stdout", spec.stdout or output, out)
    output_stream(fn, "stderr", spec.stderr or output, out)
    return out
end

---@class dbrun.process.Child
---@field pid integer
local Child = {}
local child_meta = { __index = Child, __name = "dbrun.process.Child" }

--- Waits until the child has ended and its captured output is at its end.
---@param timeout? number seconds
---@return dbrun.process.Result? result nil after that time; the child runs on
function Child:wait(timeout)
    args.self("wait", self, child_meta, "a child", "child")
    args.optional("child:wait", "timeout", timeout, args.limit)
    if self.result then return self.result end
    if not self.handle:wait("end", timeout) then return nil end
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
function Child:kill(sig)
    args.self("kill", self, child_meta, "a child", "child")
    return self.handle:kill(signal_number("child:kill", sig or "TERM"))
end

--- Queues text for its standard input (`stdin_from = "pipe"`). Never waits.
---@param text string
function Child:write(text)
    args.self("write", self, child_meta, "a child", "child")
    args.check("child:write", "text", text, "string")
    self.handle:write(text)
end

--- Closes its standard input once everything is written.
function Child:close_stdin()
    args.self("close_stdin", self, child_meta, "a child", "child")
    self.handle:close_stdin()
end

--- The next line of its captured standard output, without the line's end.
---@param timeout? number seconds
---@return string? line nil at the end of the output, or after that time
---@return string? reason "end" or "timeout"
function Child:read_line(timeout)
    args.self("read_line", self, child_meta, "a child", "child")
    args.optional("child:read_line", "timeout", timeout, args.limit)
    if not self.handle:wait("line", timeout) then return nil, "timeout" end
    local line = self.handle:line()
    if not line then return nil, "end" end
    return (line:gsub("\r?\n$", ""))
end

--- Does the child still run?
---@return boolean
function Child:running()
    args.self("running", self, child_meta, "a child", "child")
    return not self.handle:wait("exit", 0)
end

--- Ends the child (SIGTERM, SIGKILL after 2 s) and waits for it; does nothing to a detached one.
function Child:close()
    args.self("close", self, child_meta, "a child", "child")
    if self.closed then return end
    self.closed = true
    local handle <close> = self.handle
    if self.detached or handle:wait("exit", 0) then return end
    handle:terminate()
    handle:wait("exit", 3)
end

child_meta.__close = Child.close

---@param spec dbrun.process.Spec
local function start(fn, spec, output)
    local normal = normalize(fn, spec, output)
    local handle = proc.start(normal)
    local child = setmetatable({
        handle = handle, pid = handle:pid(), detached = normal.detached,
        captures = { stdout = normal.stdout == "pipe", stderr = normal.stderr == "pipe" },
        result = false, closed = false,
    }, child_meta)
    if spec.stdin then
        handle:write(spec.stdin)
        handle:close_stdin()
    end
    return child
end

--- Starts a program and returns at once. `local child <close> = process.start{...}` ends the child with the block.
---@param spec dbrun.process.Spec
---@return dbrun.process.Child
function M.start(spec)
    return start("start", spec, "inherit")
end

--- Runs a program to its end. A program that fails raises no error: check `ok` or `code`. Raises kind `io` when it
--- cannot be started, and `timeout` when it was stopped after `timeout` seconds.
---@param spec dbrun.process.Spec
---@return dbrun.process.Result
function M.run(spec)
    if type(spec) == "table" and spec.detached == true then
        errors.usage("process.run", "a detached program is started, not run")
    end
    local child <close> = start("run", spec, "capture")
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
--- kind `io` when the program cannot be run. Nothing is closed: do that before.
---@param spec dbrun.process.ExecSpec argv, env, clear_env, cwd, user, uid, gid
function M.exec(spec)
    local normal <const> = normalize("exec", spec, "inherit")
    io.stdout:flush()
    io.stderr:flush()
    proc.exec(normal)
end

--- Sends a signal to any process; false when there is none with this number.
---@param pid integer
---@param sig? string|integer default "TERM"
---@return boolean sent
function M.kill(pid, sig)
    args.check("process.kill", "pid", pid, args.whole(1))
    return proc.kill(pid, signal_number("process.kill", sig or "TERM"))
end

---@class dbrun.process.Info
---@field state string one letter, as ps(1) prints it
---@field ppid integer
---@field start integer start time in clock ticks since boot; identifies the process together with the pid

--- The state of a process from /proc; nil when it does not exist (a zombie does: state "Z").
---@param pid integer
---@return dbrun.process.Info?
function M.info(pid)
    args.check("process.info", "pid", pid, args.integer)
    local f <close> = io.open(("/proc/%d/stat"):format(pid), "rb")
    local text = f and f:read("a")
    -- The name is in parentheses and may contain any byte, so the fields are counted after the last ')'.
    local rest = text and text:match("^.*%) (.*)$")
    if not rest then return nil end
    local fields = {}
    for word in rest:gmatch("%S+") do fields[#fields + 1] = word end
    return { state = fields[1], ppid = math.tointeger(fields[2]), start = math.tointeger(fields[20]) }
end

--- Does the process run? A zombie does not.
---@param pid integer
---@param started? integer `info(pid).start` of the process: a pid is used again
---@return boolean
function M.alive(pid, started)
    args.check("process.alive", "pid", pid, args.integer)
    args.optional("process.alive", "started", started, args.integer)
    local info = M.info(pid)
    if not info or info.state == "Z" or info.state == "X" then return false end
    return started == nil or info.start == started
end

---@return integer
function M.pid()
    return (proc.ids())
end

---@return integer
function M.ppid()
    return (select(2, proc.ids()))
end

--- The effective user.
---@return integer uid
---@return integer gid
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

--- The user of this name or number, from the system's user database.
---@param who? string|integer default: the effective user
---@return dbrun.process.User?
function M.user(who)
    args.optional("process.user", "who", who, args.one_type_of("string", "number"))
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
