--- A server that repeats the password it was sent, in every field of an error: at the login, or in reply to a later
--- statement. No printed field contains it, wherever libpq found the password.
local bad_server = require "spec.support.bad_server"
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local wire = require "spec.support.pg_message"

local function quoted(text)
    return '"' .. text:gsub(".", function(c) return ("\\x%02x"):format(c:byte()) end) .. '"'
end

--- Asks for the password in clear text; then the error.
local CODE <const> = [[
    my $m = sub { my ($kind, $body) = @_; return $kind . pack("N", length($body) + 4) . $body };
    sysread $c, my $d, 10000;
    print $c $m->("R", pack("N", 3));
    sysread $c, $d, 10000;
    my ($pw) = $d =~ /^p....(.*)\0$/s;
    my $error = sub { my ($how) = @_;
        return $m->("E", "S$how\0V$how\0C28P01\0Mwrong: $pw!\0"
            . join("", map { "$_$pw\0" } split //, "DHWstcndR") . "\0") };
    my $tell = $m->("N", "SNOTICE\0VNOTICE\0C00000\0M$pw\0\0");
    %s
    sysread $c, $d, 10000;]]
local AT_LOGIN <const> = [[print $c $error->("FATAL");]]
local LATER <const> = ([[print $c HELLO; while (sysread $c, $d, 10000) { print $c $tell . $error->("ERROR") . READY }]])
    :gsub("HELLO", quoted(wire.hello)):gsub("READY", quoted(wire.ready))

local SCRIPT <const> = [[
local db, errors = require "dbrun.db", require "dbrun.error"
local secret = os.getenv "SECRET"
for _, mode in ipairs { "async", "sync" } do
    local e <close> = db.engine { url = os.getenv "URL", mode = mode, size = 1, connect_timeout = 10,
        command_timeout = 10, on_notice = function(n) error(n.message) end }
    for _ = 1, 2 do
        local ok, problem = pcall(e.exec, e, "select 1")
        assert(not ok and errors.is(problem), tostring(problem))
        assert(problem.sqlstate == "28P01" and problem.message:find("***", 1, true), tostring(problem))
        for name, text in pairs(problem) do
            assert(type(text) ~= "string" or not text:find(secret, 1, true), mode .. " " .. name)
        end
        assert(not tostring(problem):find(secret, 1, true), mode)
    end
end
local again <const> = errors.new { kind = "query", message = secret, hint = secret, detail = "a " .. secret }
assert(not (again.message .. again.hint .. again.detail):find(secret, 1, true) or os.getenv "ELSEWHERE")
db.engine { url = os.getenv "URL", mode = "sync" }:exec "select 1"
]]

local password <const> = "it's \\ a%pässwörd"

for when, code in pairs { ["at the login"] = AT_LOGIN, ["later"] = LATER } do
    describe("a password that the server repeats " .. when, function()
        local bad, dir

        setup(function()
            bad = bad_server.start(CODE:format(code:gsub("%%", "%%%%")))
            dir = fs.dirname(bad.socket)
            assert(process.run { "ln", "-s", bad.socket, dir .. "/.s.PGSQL.5432" }.ok)
        end)
        teardown(function() getmetatable(bad).__close(bad) end)

        local function check(params, env)
            local all = { SECRET = password, ELSEWHERE = params == "" and when == "at the login" and "1" or nil,
                URL = "postgresql://joe@/d?sslmode=disable&gssencmode=disable&host=" .. dir .. params }
            for name, value in pairs(env or {}) do all[name] = value end
            local result = process.run { core.options.program, "--no-env", "-", stdin = SCRIPT, env = all,
                timeout = 60 }
            assert.equal(1, result.code)
            assert.matches("%*%*%*", result.stderr)
            assert.is_nil(result.stderr:find(password, 1, true), result.stderr)
            assert.is_nil(result.stderr:find("assert", 1, true), result.stderr)
            assert.equal("", result.stdout)
        end

        it("is in no error when it comes from the URL", function()
            local encoded = password:gsub("%W", function(c) return ("%%%02X"):format(c:byte()) end)
            check("&password=" .. encoded)
        end)

        it("is in no error when it comes from PGPASSWORD", function()
            check("", { PGPASSWORD = password })
        end)

        it("is in no error when it comes from a password file", function()
            local path = dir .. "/pgpass"
            fs.write(path, "*:*:*:*:" .. password:gsub("[\\:]", "\\%0") .. "\n")
            fs.chmod(path, tonumber("600", 8))
            check("", { PGPASSFILE = path })
        end)

        it("is in no error when it comes from a service file", function()
            fs.write(dir .. "/service", "[shop]\npassword=" .. password .. "\n")
            check("", { PGSERVICE = "shop", PGSERVICEFILE = dir .. "/service" })
        end)
    end)
end
