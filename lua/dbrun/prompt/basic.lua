--- The commands of the prompt itself.
local fs = require "dbrun.fs"
local process = require "dbrun.process"

local function toggle(session, key, what)
    session[key] = not session[key]
    session:tell(("%s is %s."):format(what, session[key] and "on" or "off"))
end

local function set(session, key, what, argument)
    if argument == "on" or argument == "off" then session[key] = argument ~= "on"
    elseif argument ~= "" then error(("\\%s: expected on or off"):format(key == "timing" and "timing" or "x"), 0) end
    toggle(session, key, what)
end

local function again(session)
    if session.last_sql then return session:run(session.last_sql) end
    session:tell "No statement has been run yet."
end

local function output(session, argument)
    if session.output then session.output:close() end
    session.output = nil
    if argument == "" then return end
    local file <const>, message <const> = io.open(argument, "w")
    if not file then error(("\\o: %s"):format(message), 0) end
    session.output = file
end

local function set_to(name)
    local value <const> = os.getenv(name)
    return value and value:find "%S" and value
end

--- The editor gets the last statement; what it leaves is run.
local function edit(session)
    local dir <const> = fs.mkdtemp(fs.join(fs.tempdir(), "dbrun-edit-"))
    local path <const> = fs.join(dir, "statement.sql")
    fs.write(path, (session.last_sql or "") .. "\n")
    local editor <const> = set_to "VISUAL" or set_to "EDITOR" or "vi"
    local result <const> = process.run {
        "sh", "-c", editor .. ' "$1"', "sh", path, stdin_from = "inherit", stdout = "inherit", stderr = "inherit",
    }
    local text <const> = fs.read(path)
    fs.rmtree(dir)
    if result.code ~= 0 then
        error(("\\e: '%s' ended with status %d; nothing is run"):format(editor, result.code), 0)
    end
    session:feed(text)
end

local commands <const> = {
    q = { usage = "\\q", summary = "ends the prompt", run = function(session) session:quit() end },
    x = {
        usage = "\\x [on|off]", summary = "one line per column",
        run = function(session, argument) set(session, "expanded", "One line a column", argument) end,
    },
    timing = {
        usage = "\\timing [on|off]", summary = "show the time of each statement",
        run = function(session, argument) set(session, "timing", "The time of each statement", argument) end,
    },
    g = { usage = "\\g", summary = "runs the input, or the last statement again", run = again },
    o = { usage = "\\o [FILE]", summary = "results go to FILE; without it to the terminal again", run = output },
    e = { usage = "\\e", summary = "the last statement in $VISUAL or $EDITOR", run = edit },
}

return commands
