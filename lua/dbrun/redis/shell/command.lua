--- The command line `dbrun redis CMD ...`.
local cli = require "dbrun.command_line"
local errors = require "dbrun.error"
local host_option = require "dbrun.host_option"
local outputs = require "dbrun.output"
local render = require "dbrun.redis.shell.render"
local run = require "dbrun.redis.shell.run"
local tty = require "dbrun.tty"

local M = {}

local EXAMPLES <const> = {
    "dbrun redis GET greeting                  a value: in quotes on a terminal, its bytes elsewhere",
    "dbrun redis HGETALL user:7                numbered on a terminal, a line for each elsewhere",
    "dbrun redis --format json HGETALL user:7",
    "dbrun redis -x SET picture < cat.png      the last argument comes from standard input",
    "dbrun redis SUBSCRIBE news                messages, until Ctrl-C",
    "dbrun --read-only redis KEYS 'user:*'     what may write is refused",
}

local EPILOG <const> = [[
Options stand before the command: all behind it goes to the server as it is.
JSON: a string that is not UTF-8 is {"base64": "..."}, nil is null.
Exit status: 0 ok, 1 the server answered with an error or could not be reached, 2 wrong usage, 130 interrupted.]]

local function parser()
    local p = cli.parser {
        name = "dbrun redis", description = "Run one command of Redis and print its reply.",
        examples = EXAMPLES, epilog = EPILOG,
    }
    p:usage "Usage: dbrun redis [-h] [--format FORMAT] [-x] CMD [ARGUMENT] ..."
    p:option("--format", "text: as on a terminal; raw: the bytes; json."):choices { "text", "raw", "json" }
    p:flag("-x", "Read the last argument from standard input, byte by byte.")
    return p
end

---Splits off the options before the command.
local function split(argv)
    local at, before = 1, {}
    while argv[at] and argv[at]:find "^%-." do
        local word <const> = argv[at]
        at = at + 1
        if word == "--" then break end
        before[#before + 1] = word
        if word == "--format" and argv[at] then
            before[#before + 1] = argv[at]
            at = at + 1
        end
    end
    return before, table.move(argv, at, #argv, 1, {})
end

---The text of a reply.
local function text_of(reply, format, kind)
    if format == "json" then
        return cli.json(render.json(reply, kind.pairwise), { sort_keys = true }) .. "\n"
    elseif format ~= "text" then
        return render.raw(reply)
    elseif kind.report and type(reply) == "string" then
        return tty.printable((reply:gsub("\r\n", "\n"):gsub("\n$", ""))) .. "\n"
    end
    return render.text(reply)
end

---Whether a reply contains an error.
local function has_error(reply)
    if errors.is(reply) then return true end
    if type(reply) ~= "table" then return false end
    for i = 1, #reply do
        if has_error(reply[i]) then return true end
    end
    return false
end

---Sends the command, and prints the replies.
local function run_in(output, words, kind, format, client)
    if kind.stream then
        run.stream(client, words, kind, function(reply)
            output:write(text_of(reply, format, kind))
            output:flush()
        end, function(why) cli.note("redis: messages may have been missed: ", why) end)
        return cli.OK
    end
    local reply <const> = run.call(client, words)
    output:write(text_of(reply, format, kind))
    output:finish()
    return has_error(reply) and cli.FAILED or cli.OK
end

local function main(argv, redis)
    local before <const>, words <const> = split(argv)
    local args <const>, help <const> = cli.parse(parser(), before)
    if not args then
        host_option.no_host(argv)
        cli.write(help, "\n")
        return cli.OK
    elseif #words == 0 then
        errors.fail("usage", "which command?", "dbrun redis PING; more: dbrun redis --help")
    end
    local kind <const> = run.kind(words)
    if args.x then words[#words + 1] = io.stdin:read "a" end
    local output <close> = outputs.stdout()
    local format <const> = args.format or (output.terminal and "text" or "raw")
    local ok <const>, result <const> = pcall(run_in, output, words, kind, format, redis.get())
    if ok then return result end
    if output.broken and output.pipe then return outputs.BROKEN end
    -- The first word is the command's name.
    if errors.is(result) then result.message = result.message:gsub("^redis: ", "") end
    error(result, 0)
end

---Runs the command.
---@param argv string[] the arguments
---@param redis table the module dbrun.redis
---@return integer status
function M.main(argv, redis)
    return cli.main("redis", function() return main(argv, redis) end)
end

return M
