--- The prompt at a terminal: SQL and Lua. Where standard input is no terminal, the host reads it as lua does.
local banners = require "dbrun.prompt.banner"
local commands = require "dbrun.prompt.commands"
local core = require "dbrun.core"
local history = require "dbrun.prompt.history"
local names = require "dbrun.prompt.names"
local nearest = require "dbrun.nearest"
local reserved = require "dbrun.reserved"
local sessions = require "dbrun.prompt.session"
local statement_words = require "dbrun.prompt.complete.words".STATEMENTS
local statements = require "dbrun.sql.statements"
local tabs = require "dbrun.prompt.tab"
local words = require "dbrun.prompt.words"

local M = {}

--- Input that is not complete yet: SQL is in `reader`, Lua in `source`.
local function begin_anew(session) session.reader, session.source = nil, nil end

--- Runs a function of the prompt, or the input; false: it failed, and the error has been printed.
local function evaluate(session, fn, ...)
    local terminal <const> = session.terminal
    local results <const> = table.pack(terminal:evaluate(fn, ...))
    if results[1] then return true, results end
    if results[3] then
        terminal:report "interrupted!"
        terminal:evaluate(session.settle, session)
        session:look()
    else
        local e <const> = results[2]
        terminal:report(type(e) == "string" and e or sessions.error_text(e))
    end
    return false
end

local function run_command(session, name, argument)
    local command <const>, message <const> = commands.find(name)
    if not command then
        session:tell(message)
        return false
    end
    return evaluate(session, function()
        local ok <const>, e <const> = pcall(command.run, session, argument, name)
        if not ok and require "dbrun.error".is(e, "cancelled") then error(e, 0) end
        if not ok then session:tell(sessions.error_text(e)) end
    end)
end

local function run_statement(session, sql)
    local ok <const>, results <const> = evaluate(session, session.run, session, sql)
    return ok and results[2]
end

--- A command inside the text of a statement: \g runs the statement as it is, \r drops it.
local function command_inside(session, found)
    if found.inside and (found.command == "g" or found.command == "gx") then
        local sql <const> = session.reader:text():match "^(.-)%s*$"
        local expanded <const> = session.expanded
        session.reader = statements.new()
        session.expanded = expanded or found.command == "gx"
        local ok <const> = run_statement(session, sql)
        session.expanded = expanded
        return ok
    elseif found.inside and found.command == "r" then
        session.reader = statements.new()
        return true
    end
    return run_command(session, found.command, found.rest)
end

--- Runs the complete statements, until one fails.
local function run_statements(session)
    while session.reader and not session.ended do
        local found <const> = session.reader:next()
        if not found then break end
        local ok
        if found.command then
            ok = command_inside(session, found)
        else
            session.add_history(found.sql .. ";")
            ok = run_statement(session, found.sql)
        end
        if not ok then
            begin_anew(session)
            return false
        end
    end
    local reader <const> = session.reader
    if reader and not reader:is_open() and #reader.pending == 0 and not reader.buf:find("%S", reader.at) then
        session.reader = nil
    end
    return true
end

local ENDS <const> = { exit = true, quit = true }

--- Input that does not compile as Lua may be a mistyped SQL keyword.
local function mistyped(text)
    local word <const> = text:match "^%s*(%a+)%s+[%w*\"'(]"
    if not word or reserved.is(word) then return nil end
    return nearest.find(word:lower(), statement_words)
end

local function run_lua(session, text)
    local word <const> = text:match "^%s*(%a+)%s*;?%s*$"
    if word and session.lua[word] == nil then
        if ENDS[word] then return session:quit() end
        if word == "help" then return run_command(session, "?", "") end
    end
    local chunk <const>, message <const>, incomplete <const> = names.compile(text, session.lua)
    if incomplete then
        session.source = text
        return true
    end
    session.source = nil
    if text:find "%S" then session.add_history(text) end
    if not chunk then
        session.terminal:report(message)
        local first <const> = text:match "^%s*(%a+)%s+[^=(]+$"
        if first and core.redis.fact(first:upper()) then
            session:tell(("As a command of Redis: \\redis %s"):format(text:match "^%s*(.-)%s*$"))
            return false
        end
        local near <const> = mistyped(text)
        if near then session:tell(("As SQL it would begin with %s: did you mean that?"):format(near)) end
        if word == "end" then session:tell "END is Lua's word here: COMMIT ends a transaction." end
        return false
    end
    local ok <const>, results <const> = evaluate(session, chunk)
    session:look()
    return ok and evaluate(session, session.show, session, table.unpack(results, 2, results.n))
end

--- One line; false: something failed.
local function take_line(session, line)
    if session.reader then
        session.reader:feed(line .. "\n")
        return run_statements(session)
    elseif session.source then
        return run_lua(session, session.source .. "\n" .. line)
    end
    local kind <const> = words.kind(line, function(name) return session.lua[name] ~= nil end)
    if kind == "command" then
        session.add_history(line)
        return run_command(session, commands.parse(line))
    elseif kind == "sql" then
        session.reader = statements.new()
        session.reader:feed(line .. "\n")
        return run_statements(session)
    end
    return run_lua(session, line)
end

--- Runs lines one after the other, until something fails; then what a command has left to run (\e).
local function take_text(session, text)
    repeat
        session.fed = nil
        for line in (text .. "\n"):gmatch "(.-)\n" do
            if session.ended or take_line(session, line) == false then break end
        end
        text = session.fed
    until not text
end

local function prompt_of(session)
    if session.reader then return "-> " end
    if session.source then return _G._PROMPT2 ~= nil and tostring(_G._PROMPT2) or ">> " end
    return session:prompt()
end

--- Reads a line from the terminal, without libedit.
local function read_plain(session, prompt)
    io.stdout:write(prompt)
    io.stdout:flush()
    local ok <const>, line <const> = session.terminal:evaluate(io.read, "l")
    if ok then return line end
    return false
end

--- A paste of several lines runs nothing: it is held until Enter.
local function hold(session, held, before, paste, behind)
    local text <const> = before .. paste .. behind
    for line in (paste .. "\n"):match "^[^\n]*\n(.*)$":gmatch "([^\n]*)\n" do
        io.stdout:write("-> ", core.tty.printable(line), "\n")
    end
    session.held = held and held .. "\n" .. text or text
end

--- Reads a line and runs it.
local function turn(session)
    local terminal <const>, prompt <const> = session.terminal, session.held and "-> " or prompt_of(session)
    local line, paste, behind
    if terminal:is_edited() then line, paste, behind = terminal:read(prompt)
    else line = read_plain(session, prompt) end
    if line == nil then
        session:quit()
    elseif not line then
        io.stdout:write "\n"
        session.held = nil
        begin_anew(session)
    elseif paste then
        hold(session, session.held, line, paste, behind)
    else
        local text <const> = session.held and session.held .. "\n" .. line or line
        session.held = nil
        take_text(session, text)
    end
end

--- Ctrl-C discards the input at any point, also between reading a line and running it.
local function loop(session)
    while not session.ended do
        local ok <const>, e <const> = pcall(turn, session)
        if not ok then
            if type(e) ~= "string" or not e:find "interrupted!$" then error(e, 0) end
            session.terminal:report "interrupted!"
            session.held = nil
            begin_anew(session)
            evaluate(session, session.settle, session)
        end
    end
end

local function banner(session, version)
    if version then print(("dbrun %s, %s: SQL runs at `;`, Lua at Enter"):format(core.options.version, version)) end
    local ok <const>, results <const> = evaluate(session, banners.server)
    if ok then print(core.tty.printable(results[2])) end
    session.is_configured = banners.is_configured()
    print "\\? for help, \\q to end."
    if not session.terminal:is_edited() then
        print "Lines cannot be edited: libedit is not installed (apt-get install libedit2)."
    end
end

---Reads, runs and prints until the input ends.
---@param terminal any the terminal, from runtime/host/prompt.c
---@param version? string of Lua; nil: -v has printed it already
function M.run(terminal, version)
    local session <const> = sessions.new(terminal)
    function session:feed(text) self.fed = text end
    banner(session, version)
    local message
    session.add_history, message = history.open(function(text) terminal:remember(text) end)
    if message then session:tell(message) end
    session.tab = tabs.new(session)
    if session.is_configured then session.tab:refresh() end
    loop(session)
    session.tab:close()
    session:close()
    terminal:close()
    if not session.ended then io.stdout:write "\n" end
end

return M
