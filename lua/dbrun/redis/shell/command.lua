--- The command line `dbrun redis CMD ...`.
local cli = require "dbrun.cli"
local errors = require "dbrun.error"
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

---Writes bytes as they are.
local function write(text)
    local ok <const>, why <const> = io.stdout:write(text)
    if not ok then errors.fail("io", ("cannot write to standard output: %s"):format(why)) end
end

---The function that prints a reply.
local function printer(format, kind)
    if format == "json" then
        return function(reply) cli.write(cli.json(render.json(reply, kind.pairwise), { sort_keys = true }), "\n") end
    elseif format ~= "text" then
        return function(reply) write(render.raw(reply)) end
    end
    return function(reply)
        if kind.report and type(reply) == "string" then
            cli.report((reply:gsub("\r\n", "\n"):gsub("\n$", "")))
        else
            write(render.text(reply))
        end
    end
end

---Is there an error inside of a reply?
local function has_error(reply)
    if errors.is(reply) then return true end
    if type(reply) ~= "table" then return false end
    for i = 1, #reply do
        if has_error(reply[i]) then return true end
    end
    return false
end

local function main(argv, redis)
    local before <const>, words <const> = split(argv)
    local args <const>, help <const> = cli.parse(parser(), before)
    if not args then
        cli.write(help, "\n")
        return cli.OK
    elseif #words == 0 then
        errors.fail("usage", "which command?", "dbrun redis PING; more: dbrun redis --help")
    end
    local kind <const> = run.kind(words)
    if args.x then words[#words + 1] = io.stdin:read "a" end
    local print <const> = printer(args.format or (tty.isatty(1) and "text" or "raw"), kind)
    local client <const> = redis.get()
    if kind.stream then
        run.stream(client, words, kind, function(reply)
            print(reply)
            io.stdout:flush()
        end, function(why) cli.note("redis: messages may have been missed: ", why) end)
        return cli.OK
    end
    local reply <const> = run.call(client, words)
    print(reply)
    return has_error(reply) and cli.FAILED or cli.OK
end

---Runs the command.
---@param argv string[] the arguments
---@param redis table the module dbrun.redis
---@return integer status
function M.main(argv, redis)
    return cli.main("redis", function() return main(argv, redis) end)
end

return M
