--- Servers that break the protocol, for specs: a small perl program listens on a unix socket and runs the
--- spec's code for each connection.
local fs = require "dbrun.fs"
local process = require "dbrun.process"

local M = {}

local LISTEN <const> = [[
use strict; use Socket; $| = 1; $SIG{PIPE} = "IGNORE"; $SIG{CHLD} = "IGNORE";
my ($path, $code) = @ARGV;
socket(my $server, PF_UNIX, SOCK_STREAM, 0) or die $!;
bind($server, sockaddr_un($path)) or die $!; listen($server, 100) or die $!;
my $behave = eval "sub { my (\$c) = \@_; $code }" or die $@;
my @children;
$SIG{TERM} = sub { kill "KILL", @children; exit 0 };
print "ready\n";
while (accept(my $c, $server)) {
    my $pid = fork;
    if (!$pid) {
        $SIG{TERM} = "DEFAULT"; close STDOUT; close STDERR; close $server;
        select($c); $| = 1; alarm 30; $behave->($c); exit 0;
    }
    push @children, $pid; close $c;
}
]]

---@class spec.BadServer
---@field url string
---@field socket string

---Starts one. `code` is perl that runs for each connection, with the socket in $c.
---@param code string
---@return spec.BadServer closable: `local server <close> = bad_server.start(...)`
function M.start(code)
    local dir <const> = fs.mkdtemp(fs.join(fs.tempdir(), "dbrun-bad-"))
    local socket <const> = dir .. "/s"
    local child <const> = process.start {
        "perl", "-e", LISTEN, socket, code, stdout = "capture", stderr = "stdout", pdeathsig = "KILL",
    }
    local line <const> = child:read_line(5)
    assert(line == "ready", "the bad server does not start: " .. tostring(line))
    local function stop()
        child:kill "TERM"
        child:wait(5)
        child:close()
        fs.rmtree(dir)
    end
    -- Without the name of the library a login is one command: most of these servers answer only the first command.
    return setmetatable({ url = "unix://" .. socket .. "?lib_name=", socket = socket }, { __close = stop })
end

return M
