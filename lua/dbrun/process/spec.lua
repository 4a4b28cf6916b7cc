--- Checks a script's description of a child process, and converts it to the form that core.process takes.

local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local nearest <const> = require "dbrun.nearest"

local proc <const> = core.process
local signals <const> = proc.signals

local M <const> = {}

local MAX_OUTPUT <const> = 64 << 20

local SIGNAL <const> = {
    function(v) return type(v) == "string" or math.type(v) == "integer" end, "the name of a signal, or its number",
}

---@param fn string as scripts call it: "child:kill"
---@param sig string|integer "TERM", "SIGTERM" or 15
---@return integer
function M.signal_number(fn, sig)
    if math.type(sig) == "integer" and sig >= 0 and sig <= 64 then return sig end
    args.check(fn, "sig", sig, SIGNAL)
    local n = type(sig) == "string" and signals[sig:upper():gsub("^SIG", "")]
    if not n then errors.usage(fn, "'%s' is not a signal", tostring(sig)) end
    return n
end

-- ---- options ----

local INPUT <const> = {
    function(v) return v == false or type(v) == "string" or type(v) == "number" end, "a string, or false for nothing",
}
local STREAM <const> = {
    function(v) return args.path[1](v) or type(v) == "table" end, 'a string, or a table such as {file = "path"}',
}

--- The rule for the number of a user or group: the system has 32 bits for it, and the last one means "unchanged".
M.ID = args.whole(0, 0xfffffffe)

local EXEC <const> = {
    dry_run = args.or_false(args.one_of("run")),
    env = args.or_false "table", clear_env = "boolean", cwd = args.or_false(args.path), user = args.or_false(args.path),
    uid = args.or_false(M.ID), gid = args.or_false(M.ID),
}

local function with(known, more)
    local all <const> = {}
    for key, rule in pairs(known) do all[key] = rule end
    for key, rule in pairs(more) do all[key] = rule end
    return all
end

local START <const> = with(EXEC, {
    stdin = INPUT, stdin_from = args.or_false(STREAM), stdout = args.or_false(STREAM), stderr = args.or_false(STREAM),
    detached = "boolean", pdeathsig = args.or_false(SIGNAL),
    max_output = args.or_false(args.whole(0)),
})

local KNOWN <const> = { exec = EXEC, start = START, run = with(START, { timeout = args.any_seconds }) }

--- Program and arguments; all other keys must be options.
local function arguments(fn, spec)
    local options <const>, argv <const> = {}, {}
    local last = 0
    for key, value in next, spec do
        if math.type(key) == "integer" and key > 0 then
            last = math.max(last, key)
        elseif key ~= "n" or math.type(value) ~= "integer" then -- n: table.pack
            options[key] = value
        end
    end
    last = math.max(last, math.type(spec.n) == "integer" and spec.n or 0)
    if fn == "start" and options.timeout ~= nil then
        errors.fail("usage", "process.start: unknown option 'timeout'",
            "process.run has a timeout; of a started child, wait and read_line have")
    end
    args.options("process." .. fn, options, KNOWN[fn])
    for i = 1, last do
        local arg <const> = spec[i]
        if type(arg) ~= "string" and type(arg) ~= "number" then
            errors.usage("process." .. fn, "argument %d is %s", i, arg == nil and "nil" or "a " .. type(arg))
        end
        argv[i] = tostring(arg)
        if argv[i]:find "\0" then errors.usage("process." .. fn, "argument %d contains a NUL byte", i) end
    end
    if last == 0 or argv[1] == "" then errors.usage("process." .. fn, "the name of the program is missing") end
    return argv
end

-- ---- environment and user ----

--- List of KEY=value, nil when the environment is passed on as it is.
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
        if value and type(value) ~= "string" and type(value) ~= "number" then
            errors.usage("process." .. fn, "env: %s must be a string, a number, or false to remove it, got a %s", key,
                type(value))
        end
        value = value and tostring(value)
        if value and value:find "\0" then errors.usage("process." .. fn, "env: %s contains a NUL byte", key) end
        set(key, value)
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

-- ---- streams ----

--- The words for streams, and their names in core.process.
local WORDS <const> = {
    stdin_from = { inherit = "inherit", pipe = "pipe" },
    stdout = { capture = "pipe", inherit = "inherit", null = "null" },
    stderr = { capture = "pipe", inherit = "inherit", null = "null", stdout = "stdout" },
}
--- Similar words, and the one that is meant.
local MEANT <const> = {
    stdin_from = { null = "stdin = false", stdin = "inherit", devnull = "stdin = false" },
    stdout = { pipe = "capture", stdout = "inherit", stderr = "null", devnull = "null", none = "null" },
    stderr = { pipe = "capture", stderr = "inherit", devnull = "null", none = "null" },
}

--- A word that is almost one of those is refused as a file: otherwise a typo would make a file and lose the output.
local function check_word(fn, name, word)
    if not word:find "^%a+$" then return end
    local names <const> = {}
    for known in pairs(WORDS[name]) do names[#names + 1] = known end
    table.sort(names)
    local meant <const> = MEANT[name][word] or nearest.find(word, names)
    if meant then
        errors.fail("usage", ("process.%s: %s: '%s' is not known"):format(fn, name, word),
            ("did you mean '%s'? A file of that name is {file = \"%s\"}"):format(meant, word))
    end
end

local OUTPUT_FILE <const> = { file = args.path, append = args.path }
local FILE <const> = { stdin_from = { file = args.path }, stdout = OUTPUT_FILE, stderr = OUTPUT_FILE }

--- The stream's mode and path for core.process.
local function stream(fn, name, value)
    if type(value) == "string" then
        local way <const> = WORDS[name][value]
        if way then return way end
        check_word(fn, name, value)
        return "file", value
    end
    args.options(("process.%s: %s"):format(fn, name), value, FILE[name])
    if value.file and value.append or not (value.file or value.append) then
        errors.usage("process." .. fn, "%s: either file or append expected", name)
    end
    return value.append and "append" or "file", value.file or value.append
end

local function streams(fn, spec, default, out)
    out.stdin = "null"
    if spec.stdin and spec.stdin_from then
        errors.usage("process." .. fn, "stdin is a text, and stdin_from another source: only one of them can be")
    elseif spec.stdin then
        out.stdin = "pipe"
    elseif spec.stdin_from then
        out.stdin, out.stdin_path = stream(fn, "stdin_from", spec.stdin_from)
    end
    for _, name in ipairs { "stdout", "stderr" } do
        out[name], out[name .. "_path"] = stream(fn, name, spec[name] or default)
    end
    -- Opened twice, the file would be overwritten from its beginning.
    if out.stderr_path and out.stderr == out.stdout and out.stderr_path == out.stdout_path then
        out.stderr, out.stderr_path = "stdout", nil
    end
end

--- The spec as core.process takes it.
---@param fn "run"|"start"|"exec"
---@param spec dbrun.process.Spec
---@param second any what the caller gave behind the spec
---@return table
function M.normalize(fn, spec, second)
    args.check("process." .. fn, "spec", spec, "table")
    if type(second) == "table" then
        errors.fail("usage", ("process.%s: takes one table, got a second one"):format(fn),
            ('options stand in the same table: process.%s{"cat", cwd = "/tmp"}'):format(fn))
    end
    local argv <const> = arguments(fn, spec)
    local out <const> = {
        argv = argv, env = environment(fn, spec), cwd = spec.cwd or nil, detached = spec.detached or false,
        dry_run = spec.dry_run or nil,
        pdeathsig = spec.pdeathsig and M.signal_number("process." .. fn, spec.pdeathsig) or 0,
        limit = spec.max_output == nil and MAX_OUTPUT or math.tointeger(spec.max_output or 0), paced = fn == "start",
    }
    identity(fn, spec, out)
    streams(fn, spec, fn == "run" and "capture" or "inherit", out)
    return out
end

return M
