--- The command line `dbrun sql`.
local check = require "dbrun.sql.check"
local cli = require "dbrun.command_line"
local errors = require "dbrun.error"
local outputs = require "dbrun.output"
local texts = require "dbrun.sql.text"
local tty = require "dbrun.tty"
local variables = require "dbrun.sql.variables"

local M = {}

local EXAMPLES <const> = {
    "dbrun sql \"select 1\"",
    "dbrun sql -f report.sql --format csv -o report.csv",
    "dbrun sql \"select count(*) from notes where created_at > now() - make_interval(days => :days)\" -v days=7",
    "dbrun sql \"copy notes from stdin with (format csv, header)\" < notes.csv",
    "dbrun sql < dump.sql",
    "id=$(dbrun sql -t \"select max(id) from notes\")",
}

local EPILOG <const> = [[
The SQL comes from the argument, from -f FILE or from standard input. It runs on one connection, statement by
statement, and stops at the first error. On a database that DBRUN_PROTECTED names it may only read, unless
--target names it, too.
Exit status: 0 ok, 1 a statement failed, 2 wrong usage or configuration (then nothing ran of a file), 130 interrupted.]]

local FORMATS <const> = { "table", "vertical", "csv", "tsv", "json", "jsonl", "md" }

local function parser()
    local p = cli.parser {
        name = "dbrun sql", description = "Run SQL and print the results.", examples = EXAMPLES, epilog = EPILOG,
    }
    p:argument("sql", "One statement or several."):args "?"
    p:option("-f --file", "Read the SQL from this file; - is standard input."):argname "FILE":overwrite(false)
    p:option("--format", "How rows are printed."):choices(FORMATS):default "table"
    p:flag("-t --tuples-only", "Print values only: no names, no tags, separated by | (csv, tsv: no header).")
        :target "values"
    p:option("-o --output", "Write to this file; if a statement fails, it stays as it was."):argname "FILE"
        :overwrite(false)
    p:option("-v --variable", "A parameter: :NAME in the SQL. May be given several times."):argname "NAME=VALUE"
        :count "*":target "variables"
    p:flag("-1 --single-transaction", "One transaction around all: nothing is kept if one statement fails.")
        :target "single"
    p:option("--target", "The database, or host/database, that this is meant for; a protected one is read-only "
        .. "without."):argname "NAME"
    return p
end

---Where the SQL comes from.
local function text_of(args)
    if args.sql and args.file then
        errors.fail("usage", "the SQL is given as an argument and with -f", "dbrun sql --help")
    elseif args.sql then
        return texts.of_argument(args.sql)
    elseif args.file and args.file ~= "-" then
        return texts.of_file(args.file)
    elseif not args.file and tty.isatty(0) then
        errors.fail("usage", "which SQL?",
            "dbrun sql \"select 1\", dbrun sql -f FILE, dbrun sql < FILE; the prompt is: dbrun")
    end
    return texts.of_stdin()
end

local function check_values(args)
    if not args.values or args.format == "table" or args.format == "csv" or args.format == "tsv" then return end
    errors.fail("usage", ("-t prints values only, and --format %s names them"):format(args.format),
        "leave out one of both; -t --format csv and tsv work")
end

---The arguments; an SQL text that begins with a comment is not an option.
local function words_of(argv)
    local words <const> = {}
    for i, word in ipairs(argv) do words[i] = word:find "^%-%-%s" and " " .. word or word end
    return words
end

---A notice of the server, as psql prints it.
local function on_notice(run)
    return function(notice)
        run.output:flush()
        local place = run.text.name and run.statement and ("%s:%d: "):format(run.text.name, run.statement.line) or ""
        cli.note(place, notice.severity, ":  ", notice.message, notice.detail and "\nDETAIL:  " .. notice.detail or "",
            notice.hint and "\nHINT:  " .. notice.hint or "")
    end
end

---Checks the text before anything runs. False: the server's setting may change the result.
local function check_first(run, escapes)
    if not run.text.again then return end
    local script <const> = require "dbrun.sql.script"
    run.checked = check.text(run.text, run.rules, escapes)
    if run.checked.refused then script.refuse(run, run.checked.refused) end
    if run.checked.count == 0 then
        errors.fail("usage", "there is no SQL in the text", "dbrun sql \"select 1\"")
    end
    local unused <const> = run.rules.variables:unused()
    if unused then errors.fail("usage", ("option '-v': no statement has :%s"):format(unused)) end
end

local function run_in(run, args, output)
    local sessions <const> = require "dbrun.sql.session"
    run.on_notice, run.output, run.printer = on_notice(run), output,
        require("dbrun.sql.print").new(output, args.format, args.values)
    local session <close> = sessions.open(args.target, run.on_notice)
    run.session = session
    if session.conn.parameters.standard_conforming_strings == "off" then check_first(run, true) end
    require("dbrun.sql.script").run(run)
    output:finish()
end

---Prints an error of the SQL as psql does.
local function tell(e)
    cli.note(errors.format(e))
    return e.kind == "usage" and cli.USAGE or cli.FAILED
end

local function main(argv)
    local args <const>, help <const> = cli.parse(parser(), words_of(argv))
    if not args then
        cli.write(help, "\n")
        return cli.OK
    end
    check_values(args)
    local run <const> = {
        text = text_of(args), rules = { variables = variables.new(args.variables), single = args.single or false },
    }
    local ok, e = pcall(check_first, run)
    if ok then
        local output <close> = args.output and outputs.to_file(args.output) or outputs.stdout()
        ok, e = pcall(run_in, run, args, output)
        if not ok and output.broken and output.pipe then return outputs.BROKEN end
        if not ok and not output.temporary then pcall(output.flush, output) end -- earlier output comes first
    end
    if ok then return cli.OK end
    if not errors.is(e) or not e.from_sql then error(e, 0) end
    return tell(e)
end

---Runs the command.
---@param argv string[] the arguments
---@return integer status
function M.main(argv)
    return cli.main("sql", function() return main(argv) end)
end

return M
