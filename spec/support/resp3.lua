--- A connection in RESP3, whose replies have types, to compare with the values that the client makes of RESP2's flat
--- lists. A small perl program sends the commands; this module reads the replies.
---
---     local replies = resp3.ask(server.socket, { { "HSET", "h", "a", "1" }, { "HGETALL", "h" } })
---     replies[2].kind == "map", replies[2][1][1].value == "a"
local process = require "dbrun.process"

local M = {}

---@class spec.Resp3
---@field kind "string"|"integer"|"double"|"boolean"|"null"|"error"|"list"|"map"
---@field value any of a scalar; the elements of a list are at [1] and so on, those of a map as pairs

local ASK <const> = [[
use strict; use Socket; binmode STDIN; binmode STDOUT;
my ($path, $end) = @ARGV; local $/; my $commands = <STDIN>; alarm 30;
socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die $!; connect($s, sockaddr_un($path)) or die $!;
my $pid = fork; if (!$pid) { syswrite($s, $commands); exit 0 }
my $all = ""; my $part;
while (sysread($s, $part, 65536)) { $all .= $part; last if substr($all, -length($end) - 2) eq "$end\r\n" }
print $all;
]]

local read

local function read_list(text, at, n, each)
    local list = {}
    for i = 1, n do
        list[i], at = each(text, at)
    end
    return list, at
end

local function read_pair(text, at)
    local pair = {}
    pair[1], at = read(text, at)
    pair[2], at = read(text, at)
    return pair, at
end

local function scalar(kind, convert)
    return function(_, at, line)
        return { kind = kind, value = convert(line) }, at
    end
end

local function bulk(text, at, line)
    local n <const> = tonumber(line)
    if n < 0 then
        return { kind = "null" }, at
    end
    return { kind = "string", value = text:sub(at, at + n - 1) }, at + n + 2
end

local function list(text, at, line)
    local n <const> = tonumber(line)
    if n < 0 then
        return { kind = "null" }, at
    end
    local value
    value, at = read_list(text, at, n, read)
    value.kind = "list"
    return value, at
end

local DOUBLES <const> = { inf = math.huge, ["-inf"] = -math.huge }

local READ <const> = {
    ["+"] = scalar("string", tostring), ["-"] = scalar("error", tostring),
    [":"] = scalar("integer", math.tointeger), ["("] = scalar("string", tostring),
    [","] = scalar("double", function(line) return DOUBLES[line] or tonumber(line) + 0.0 end),
    ["#"] = scalar("boolean", function(line) return line == "t" end),
    ["_"] = scalar("null", function() return nil end),
    ["$"] = bulk, ["!"] = bulk, ["*"] = list, ["~"] = list,
    ["="] = function(text, at, line) -- "txt:" and the text
        local value, after <const> = bulk(text, at, line)
        value.value = value.value:sub(5)
        return value, after
    end,
    ["%"] = function(text, at, line)
        local value, after <const> = read_list(text, at, tonumber(line), read_pair)
        value.kind = "map"
        return value, after
    end,
}

---@return spec.Resp3
---@return integer
function read(text, at)
    local kind <const>, line <const>, after <const> = text:match("^(.)([^\r]*)\r\n()", at)
    return assert(READ[kind], "no type of RESP3: " .. tostring(kind))(text, after, line)
end

local function encode(command)
    local out = { ("*%d\r\n"):format(#command) }
    for _, word in ipairs(command) do
        out[#out + 1] = ("$%d\r\n%s\r\n"):format(#word, word)
    end
    return table.concat(out)
end

---The replies to the commands, all on one connection.
---@param socket string
---@param commands string[][]
---@return spec.Resp3[]
function M.ask(socket, commands)
    local out, finish <const> = { encode { "HELLO", "3" } }, "end of the replies"
    for _, command in ipairs(commands) do
        out[#out + 1] = encode(command)
    end
    out[#out + 1] = encode { "ECHO", finish }
    local result <const> = process.run {
        "perl", "-e", ASK, socket, finish, stdin = table.concat(out), timeout = 40,
    }
    assert(result.ok, result.stderr)
    local replies = {}
    local at = select(2, read(result.stdout, 1)) -- the reply to HELLO
    for i = 1, #commands do
        replies[i], at = read(result.stdout, at)
    end
    return replies
end

return M
