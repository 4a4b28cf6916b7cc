--- The command lines of dbrun's own commands: options, exit statuses, tables, times, colours. A command is
--- `return command_line.main("name", fn)`: `fn` returns its exit status; an error becomes one readable message on
--- stderr and the status 1 or 2. Scripts use dbrun.cli.
local args = require "dbrun.args"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local host_option = require "dbrun.host_option"

local tty <const> = core.tty

local M = {}

--- Exit statuses (README): 0 ok, 1 the work failed, 2 wrong usage or configuration.
M.OK = 0
M.FAILED = 1
M.USAGE = 2

local HELP <const> = {}

local function add_help(parser)
    parser:add_help(false)
    parser:flag("-h --help", "Show this help and exit.")
        :action(function() error({ [HELP] = parser:get_help() }, 0) end)
end

local PARSER <const> = { name = "string", description = "string", examples = "table", epilog = "string" }

---Makes a parser. It raises errors of kind `usage`, and ends the parse at --help.
---@param spec { name: string, description: string, examples?: string[], epilog?: string }
---    name: what the user types, as in "dbrun seed"; examples: one command line each
---@return table parser an argparse parser; give it to command_line.parse
function M.parser(spec)
    args.check("command_line.parser", "spec", spec, "table")
    args.options("command_line.parser", spec, PARSER)
    args.check("command_line.parser", "name", spec.name, "string")
    args.check("command_line.parser", "description", spec.description, "string")
    args.optional_list("command_line.parser", "examples", spec.examples, "string")
    local argparse = require "dbrun.argparse"
    local parser = argparse { name = spec.name, description = spec.description }
    parser:help_max_width(100)
    local epilog = {}
    if spec.examples then
        epilog[#epilog + 1] = "Examples:"
        for _, example in ipairs(spec.examples) do epilog[#epilog + 1] = "   " .. example end
    end
    if spec.epilog then
        if #epilog > 0 then epilog[#epilog + 1] = "" end
        epilog[#epilog + 1] = spec.epilog
    end
    if #epilog > 0 then parser:epilog(table.concat(epilog, "\n")) end
    add_help(parser)
    return parser
end

---Adds a command to a parser made by command_line.parser.
---@param parser table
---@param name string
---@param description string
---@return table command an argparse command
function M.command(parser, name, description)
    args.check("command_line.command", "parser", parser, "table")
    args.check("command_line.command", "name", name, "string")
    args.check("command_line.command", "description", description, "string")
    local command = parser:command(name, description)
    command:help_max_width(100)
    add_help(command)
    return command
end

local PARSER_OF <const> = {}
local asked = false

---Returns the parser of a command, for completion, without running the command.
---@param main fun(argv: string[]): integer? of the command
---@return table? parser nil: it has none
function M.parser_of(main)
    args.check("command_line.parser_of", "main", main, "function")
    asked = true
    local ok, e = pcall(main, { "--help" })
    asked = false
    if ok or type(e) ~= "table" then return nil end
    return rawget(e, PARSER_OF)
end

---The first sub-command that has an option; nil if none has.
local function owner_of(parser, option)
    for _, command in ipairs(parser._commands) do
        for _, known in ipairs(command._options) do
            for _, alias in ipairs(known._aliases) do
                if alias == option then return command._name end
            end
        end
    end
end

---Lets every option of a parser and of its commands refuse an empty value, which a variable of the shell that is not
---set leaves: `--only "$NAME"` would mean all, `-o "$FILE"` no file.
local function refuse_empty(parser)
    for _, option in ipairs(parser._options) do
        local convert <const> = option._convert
        if option._maxargs > 0 and (convert == nil or type(convert) == "function") then
            option:convert(function(text)
                if text == "" then return nil, ("option '%s': its value is empty"):format(option._name) end
                if convert then return convert(text) end
                return text
            end)
        end
    end
    for _, command in ipairs(parser._commands) do refuse_empty(command) end
end

---Parses a command line.
---@param parser table made by command_line.parser
---@param argv string[]
---@return table? args nil when --help was asked for
---@return string? help the help text then
---Raises an error of kind `usage`.
function M.parse(parser, argv)
    args.check("command_line.parse", "parser", parser, "table")
    args.list("command_line.parse", "argv", argv, "string")
    if asked then error({ [PARSER_OF] = parser }, 0) end
    parser.error = function(at, message)
        local unknown = message:match "^unknown option '(%-[^']+)'"
        if unknown and host_option.is(unknown) then
            message = ("unknown option '%s', it is an option of dbrun: write it before the command's name")
                :format(unknown)
        elseif unknown and owner_of(at, unknown) then
            message = ("the option '%s' stands after the command: %s %s %s ..."):format(unknown,
                at:_get_fullname(), owner_of(at, unknown), unknown)
        end
        errors.raise {
            kind = "usage",
            message = (message:gsub("%s*\n%s*", ". ")), -- "Did you mean ...?" comes on a second line
            hint = ("%s --help"):format(at:_get_fullname()),
        }
    end
    refuse_empty(parser)
    local ok, result = pcall(parser.parse, parser, argv)
    if ok then return result end
    if type(result) == "table" and rawget(result, HELP) then
        host_option.no_host(argv)
        return nil, result[HELP]
    end
    if errors.is(result) then result.where = nil end -- argparse's line, or that of a script that asks for a command
    error(result, 0)
end

---Parses a command line that is empty or has only plain flags, without argparse: loading it takes longer than many
---scripts run.
---@param argv string[]
---@param flags table<string, true> names without "--"
---@param defaults table arguments that are set without a flag
---@return table? args nil: the command line has something else; use a parser
function M.plain(argv, flags, defaults)
    args.list("command_line.plain", "argv", argv, "string")
    args.check("command_line.plain", "flags", flags, "table")
    args.check("command_line.plain", "defaults", defaults, "table")
    local found = {}
    for _, word in ipairs(argv) do
        local name = word:match "^%-%-(%l+)$"
        if not name or not flags[name] or found[name] then return nil end
        found[name] = true
    end
    for name, value in pairs(defaults) do found[name] = value end
    return found
end

local function check_option(fn, parser, name, description)
    args.check(fn, "parser", parser, "table")
    args.check(fn, "name", name, "string")
    args.check(fn, "description", description, "string")
end

---Adds an option that takes a number of seconds.
---@param parser table
---@param name string "--wait"
---@param description string
---@param least? number smallest value allowed (default 0)
---@return table option
function M.seconds(parser, name, description, least)
    check_option("command_line.seconds", parser, name, description)
    args.optional("command_line.seconds", "least", least, "number")
    return parser:option(name, description):argname "S":convert(function(text)
        local n = tonumber(text)
        if n and n >= (least or 0) and n < 1e9 then return n end
        return nil, ("option '%s': expected a number of seconds%s, got '%s'"):format(name,
            least and (", at least %g"):format(least) or "", text)
    end)
end

---Adds an option that takes a whole number of at least 1.
---@param parser table
---@param name string "--steps"
---@param description string
---@return table option
function M.count_option(parser, name, description)
    check_option("command_line.count_option", parser, name, description)
    return parser:option(name, description):argname "N":convert(function(text)
        local n = math.tointeger(tonumber(text))
        if n and n >= 1 then return n end
        return nil, ("option '%s': expected a whole number of at least 1, got '%s'"):format(name, text)
    end)
end

---A converter that splits `a,b,c`.
---@param text string
---@return string[]? list nil: there is nothing in it
---@return string? message then
function M.list(text)
    args.check("command_line.list", "text", text, "string")
    local list = {}
    for item in text:gmatch "[^,%s]+" do list[#list + 1] = item end
    if #list == 0 then return nil, ("expected names with a comma between them, got '%s'"):format(text) end
    return list
end

-- ---- output ----

--- The coloured texts that command_line.style has made, in two generations, so that a program that prints many does not
--- keep them all. Only these are printed unescaped, because names and texts from outside can contain the same codes,
--- and worse ones.
local coloured, older, kept = {}, {}, 0
local MOST <const> = 50000

local function remember(text)
    if kept >= MOST then coloured, older, kept = {}, coloured, 0 end
    if not coloured[text] then kept = kept + 1 end
    coloured[text] = true
    return text
end

local CLEAR <const> = "\r\27[K"

--- A text for a terminal: colours of command_line.style stay, other control characters are escaped.
local function guarded(...)
    local text, out, from = table.concat({ ... }), {}, 1
    if ... == CLEAR then out[1], from = CLEAR, #CLEAR + 1 end
    if text:find("\r\n", 1, true) then text = text:gsub("\r\n", "\n") end
    for before, part, behind in text:gmatch("()(\27%[%d+m[^\27]*\27%[0m)()", from) do
        if coloured[part] or older[part] then
            out[#out + 1] = tty.printable(text:sub(from, before - 1)) .. part
            from = behind
        end
    end
    out[#out + 1] = tty.printable(text:sub(from))
    return table.concat(out)
end

local TEXT <const> = args.one_type_of("string", "number")

---Writes to standard output; raises when the disk is full or the pipe closed. On a terminal control characters are
---escaped; colours of command_line.style stay, and so does "\r\27[K", which clears the line, as the first argument.
---@param ... string|number
---Raises an error of kind `io`.
function M.write(...)
    args.each("command_line.write", "text", TEXT, ...)
    local ok, why
    if tty.isatty(1) then
        ok, why = io.stdout:write(guarded(...))
    else
        ok, why = io.stdout:write(...)
    end
    if ok then return end
    errors.fail("io", ("cannot write to standard output: %s"):format(why))
end

---command_line.write with a line end.
---@param ... string|number
function M.print(...)
    args.each("command_line.print", "text", TEXT, ...)
    M.write(...)
    M.write("\n")
end

---Writes a line that quotes a server or a file. Control characters are always escaped, because logs and reports are
---read on terminals too. Colours and the code that clears a line stay.
---@param ... string|number
---Raises an error of kind `io`.
function M.report(...)
    args.each("command_line.report", "text", TEXT, ...)
    local text = guarded(...)
    local ok, why = io.stdout:write(text, "\n")
    if not ok then errors.fail("io", ("cannot write to standard output: %s"):format(why)) end
end

---A name on one line: line ends in it are escaped too.
---@param text string
---@return string
function M.one_line(text)
    args.check("command_line.one_line", "text", text, "string")
    return (tty.printable(text):gsub("[\n\t]", { ["\n"] = "\\x0a", ["\t"] = "\\x09" }))
end

local CONTROLS <const> = {
    "\x7f", "\xc2[\x80-\x9f]", "\xd8\x9c", "\xe2\x80[\x8e\x8f\xa8-\xae]", "\xe2\x81[\xa6-\xa9]",
    "\xef\xbb\xbf",
}

---A value as JSON for a terminal: all control characters are escaped, not only those that JSON requires. A JSON parser
---reads the same value.
---@param value any
---@param options? { indent?: integer, sort_keys?: boolean } see json.encode
---@return string
function M.json(value, options)
    local text = require("dbrun.json").encode(value, options)
    local function escaped(c) return ("\\u%04x"):format(utf8.codepoint(c)) end
    for _, control in ipairs(CONTROLS) do text = text:gsub(control, escaped) end
    return text
end

---Writes a line for people to stderr, so that standard output has only the result.
---@param ... string|number
function M.note(...)
    args.each("command_line.note", "text", TEXT, ...)
    io.stderr:write(tty.printable(table.concat { ... }), "\n")
end

local function width_of(text)
    local plain <const> = text:find("\27", 1, true) and text:gsub("\27%[[%d;]*m", "") or text
    return utf8.len(plain) or #plain
end

---The width of a text on a terminal in columns: one per character, none for colour codes.
---@param text string
---@return integer
function M.width(text)
    args.check("command_line.width", "text", text, "string")
    return width_of(text)
end

local TABLE <const> = { indent = args.whole(0), gap = args.whole(0), right = "table" }

---Lines of a table whose columns are aligned.
---@param rows string[][]
---@param opts? { indent?: integer, gap?: integer, right?: table<integer, boolean> } right: columns to align right
---@return string[] lines without trailing blanks
function M.table(rows, opts)
    args.list("command_line.table", "rows", rows, "table")
    opts = args.options("command_line.table", opts, TABLE)
    local widths, own = {}, {}
    for r, row in ipairs(rows) do
        local of_row = {}
        for i, cell in ipairs(row) do
            local width <const> = width_of(cell)
            of_row[i] = width
            if not widths[i] or width > widths[i] then widths[i] = width end
        end
        own[r] = of_row
    end
    local lines, gap = {}, (" "):rep(opts.gap or 2)
    for r, row in ipairs(rows) do
        local cells, of_row, last = {}, own[r], #row
        for i, cell in ipairs(row) do
            local right = opts.right and opts.right[i]
            local pad = (right or i < last) and (" "):rep(widths[i] - of_row[i]) or ""
            cells[i] = right and pad .. cell or cell .. pad
        end
        local line = (" "):rep(opts.indent or 0) .. table.concat(cells, gap)
        -- The pattern looks for the end behind each blank, so it is only used on a line that ends with one.
        lines[r] = line:find("%s", -1) and line:gsub("%s+$", "") or line
    end
    return lines
end

---A span of time for people: "0.4 ms", "12 ms", "3.20 s", "2 min 05 s".
---@param seconds number
---@return string
function M.duration(seconds)
    args.check("command_line.duration", "seconds", seconds, args.span)
    if seconds < 0.00995 then return ("%.1f ms"):format(seconds * 1000) end
    if seconds < 0.9995 then return ("%.0f ms"):format(seconds * 1000) end
    if seconds < 59.995 then return ("%.2f s"):format(seconds) end
    local whole = math.floor(seconds + 0.5)
    if whole < 3600 then return ("%d min %02d s"):format(whole // 60, whole % 60) end
    return ("%d h %02d min"):format(whole // 3600, whole % 3600 // 60)
end

---A number with separated thousands: 100000 -> "100,000".
---@param n integer
---@return string
function M.count(n)
    args.check("command_line.count", "n", n, args.integer)
    local digits = ("%d"):format(n)
    local sign, rest = digits:match "^(-?)(%d+)$"
    rest = rest:reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", "")
    return sign .. rest
end

---"1 migration", "3 migrations".
---@param n integer
---@param one string
---@param many? string default: one .. "s"
---@return string
function M.plural(n, one, many)
    args.check("command_line.plural", "n", n, args.integer)
    args.check("command_line.plural", "one", one, "string")
    args.optional("command_line.plural", "many", many, "string")
    return ("%s %s"):format(M.count(n), n == 1 and one or many or one .. "s")
end

local CODES <const> = { bold = "1", dim = "2", red = "31", green = "32", yellow = "33", cyan = "36" }

---Functions that colour a text, or return it unchanged when `fd` is not a terminal with colours.
---@param fd integer 1 or 2
---@return table<string, fun(text: string): string> style bold, dim, red, green, yellow, cyan
function M.style(fd)
    args.check("command_line.style", "fd", fd, args.integer)
    local on = require("dbrun.tty").colour(fd)
    local style = {}
    for name, code in pairs(CODES) do
        style[name] = on and function(text)
            return remember("\27[" .. code .. "m" .. tty.printable(text) .. "\27[0m")
        end
            or function(text) return text end
    end
    return style
end

-- ---- the outermost frame ----

---The text of an error for people: the message, then its fields.
---@param name string of the script
---@param e table error object
---@return string
local function shown(name, e)
    if e.text then return ("%s: %s"):format(name, e.text) end
    -- A command has no script line of its own: a line in the error is in a file of the project that the command runs.
    local at <const> = e.where and "\n  at: " .. e.where or ""
    if e.kind == "usage" then
        local help = e.hint and (" (help: %s)"):format(e.hint) or ""
        return ("%s: %s%s%s"):format(name, e.message, help, at)
    end
    local lines = { ("%s: %s%s%s"):format(name, e.message,
        e.sqlstate and (" (SQLSTATE %s)"):format(e.sqlstate) or "", at) }
    for _, field in ipairs { "detail", "hint", "context" } do
        if e[field] then lines[#lines + 1] = ("  %s: %s"):format(field, (e[field]:gsub("\n", "\n    "))) end
    end
    if e.outcome == "unknown" then lines[#lines + 1] = "  outcome: " .. errors.UNKNOWN end
    return table.concat(lines, "\n")
end

local function on_error(e)
    if errors.is(e) then return e end
    return { bug = debug.traceback(tostring(e), 2) }
end

---Writes the editor stubs of this project anew if they are from another version of dbrun.
local function renew_stubs()
    local folder = require "dbrun.project".folder()
    if not core.options or not core.fs.stat(folder .. "/.dbrun/stubs") then return end
    local ok, e = pcall(require "dbrun.start.stubs".renew, folder)
    if not ok then M.note(("the stubs in .dbrun/stubs stay as they are: %s"):format(tostring(e))) end
end

---Runs a script: returns its exit status, turns errors into a message and a status.
---@param name string the script's short name, the prefix of messages
---@param fn fun(): integer? its work; nil counts as 0
---@return integer status
---Raises interruptions again: the host turns them into 129, 130 or 143.
function M.main(name, fn)
    args.check("command_line.main", "name", name, "string")
    args.check("command_line.main", "fn", fn, "function")
    if asked then return fn() end
    local refused <const> = core.options.dry_run and require "dbrun.dry.refuse".command(name)
    if refused then
        M.note(("%s: %s"):format(name, refused))
        return M.USAGE
    end
    renew_stubs()
    local ok, result = xpcall(fn, on_error)
    local flushed, why = io.stdout:flush()
    if ok and not flushed then
        M.note(("%s: cannot write to standard output: %s"):format(name, why))
        return M.FAILED
    end
    if ok then return result or M.OK end
    if result.bug then
        M.note(("%s: %s"):format(name, result.bug))
        return M.FAILED
    end
    -- With an SQLSTATE, a statement was cancelled on the server, which is not an interruption.
    if result.kind == "cancelled" and not result.sqlstate then error(result, 0) end
    M.note(shown(name, result))
    return (result.kind == "usage" or result.kind == "config") and M.USAGE or M.FAILED
end

---Runs a command and ends the program with its status. Scripts of the installation return this call (a tail call), so
---that errors do not name their line as the place of the call.
---@param main fun(...: any): integer
---@param ... any its arguments
function M.finish(main, ...)
    args.check("command_line.finish", "main", main, "function")
    os.exit(main(...), true)
end

return args.answer_for_names(M, "command_line", {
    argparse = "command_line.parser{...}", options = "command_line.parser{...}", error = "command_line.note(...)",
    warn = "command_line.note(...)", printf = "command_line.print((...):format(...))",
    colour = "command_line.style(fd)", color = "command_line.style(fd)",
    exit = "return the status from the function of command_line.main",
})
