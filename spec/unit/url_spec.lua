local errors = require "dbrun.error"
local url = require "dbrun.url"

local AWKWARD <const> = "p@/:%#'\\ ?&=+,[]ä\u{10348}\""

local function keywords(text)
    local list = {}
    for i, pair in ipairs(url.conninfo_params(url.parse_postgres(text))) do
        list[i] = pair[1] .. "=" .. pair[2]
    end
    return table.concat(list, " | ")
end

---Parses a text that must be refused: the error has the kind config, begins with the label and contains no secret.
local function refused(parse, text)
    local ok, e = pcall(parse, text, "DATABASE_URL (.env line 3)")
    assert.is_false(ok, "this should have been refused: " .. tostring(text))
    assert.is_true(errors.is(e, "config"), tostring(e))
    assert.equal("DATABASE_URL (.env line 3): ", e.message:sub(1, 28))
    assert.is_nil(tostring(e):lower():find("hunter", 1, true), tostring(e))
    return e
end

local function seeded()
    local seed = tonumber(os.getenv "DBRUN_TEST_SEED") or os.time()
    math.randomseed(seed)
    return seed
end

local function random_text(length)
    local codes = {}
    for i = 1, length do
        local pick = math.random(4)
        codes[i] = pick == 1 and math.random(0x80, 0x7FF) or pick == 2 and math.random(0x10000, 0x10FFFF)
            or math.random(1, 0x7F)
    end
    return utf8.char(table.unpack(codes))
end

describe("a PostgreSQL URL", function()
    local cases = {
        { "nothing", "", "" },
        { "nothing but the scheme", "postgresql://", "" },
        {
            "everything", "postgresql://app:pw12@db:5433/shop",
            "host=db | port=5433 | user=app | password=pw12 | dbname=shop",
        },
        { "the short scheme", "postgres://db/shop", "host=db | dbname=shop" },
        { "a scheme in capitals", "PostgreSQL://db", "host=db" },
        { "asyncpg's scheme", "postgresql+asyncpg://app@db/shop", "host=db | user=app | dbname=shop" },
        { "psycopg2's scheme", "postgresql+psycopg2://app@db/shop", "host=db | user=app | dbname=shop" },
        { "psycopg's scheme", "postgresql+psycopg://db", "host=db" },
        { "a user alone", "postgresql://app@", "user=app" },
        { "a database alone", "postgresql:///shop", "dbname=shop" },
        { "a port alone", "postgresql://:5433", "port=5433" },
        { "an empty password", "postgresql://app:@db", "host=db | user=app" },
        {
            "encoded characters", "postgresql://a%40b:p%2F%3a%25@db/sh%20op",
            "host=db | user=a@b | password=p/:% | dbname=sh op",
        },
        {
            "an @ in the password that was not encoded", "postgresql://app:p@ss@db/shop",
            "host=db | user=app | password=p@ss | dbname=shop",
        },
        { "a colon and a hash in the password", "postgresql://app:a:b#c@db", "host=db | user=app | password=a:b#c" },
        {
            "a plus sign, which is no space", "postgresql://app:a+b@db?options=a+b",
            "host=db | user=app | password=a+b | options=a+b",
        },
        { "several hosts", "postgresql://a:1,b:2/x", "host=a,b | port=1,2 | dbname=x" },
        { "several hosts, one with a port", "postgresql://a,b:2/x", "host=a,b | port=,2 | dbname=x" },
        { "several hosts without ports", "postgresql://a,b", "host=a,b" },
        { "an IPv6 address", "postgresql://[::1]:5433/x", "host=::1 | port=5433 | dbname=x" },
        { "an IPv6 address with a zone", "postgresql://[fe80::1%25eth0]/x", "host=fe80::1%eth0 | dbname=x" },
        { "a socket folder as host", "postgresql://%2Frun%2Fpg:5433/x", "host=/run/pg | port=5433 | dbname=x" },
        {
            "a socket folder as option", "postgresql:///x?host=/run/pg&port=5433",
            "host=/run/pg | port=5433 | dbname=x",
        },
        { "an abstract socket", "postgresql://%40dbrun/x", "host=@dbrun | dbname=x" },
        {
            "options", "postgresql://db/x?sslmode=verify-full&application_name=a%26b",
            "host=db | dbname=x | application_name=a&b | sslmode=verify-full",
        },
        { "options without a path", "postgresql://db?connect_timeout=3", "host=db | connect_timeout=3" },
        {
            "an option with an equals sign", "postgresql://db?options=-c%20search_path=x",
            "host=db | options=-c search_path=x",
        },
        {
            "dbmate's search_path", "postgresql://db/x?search_path=app%2Cpublic",
            "host=db | dbname=x | options=-c search_path=app,public",
        },
        {
            "a search_path with blanks beside options",
            "postgresql://db/x?search_path=%22My%20App%22,public&options=-c%20a=b",
            [[host=db | dbname=x | options=-c a=b -c search_path="My\ App",public]],
        },
        {
            "options that win over the address", "postgresql://u:p@a:1/x?host=b&port=2&user=v&dbname=y&password=q",
            "host=b | port=2 | user=v | password=q | dbname=y",
        },
        {
            "an address beside the name", "postgresql://db/x?hostaddr=10.0.0.1",
            "host=db | dbname=x | hostaddr=10.0.0.1",
        },
        { "JDBC's ssl=true", "postgresql://db?ssl=true", "host=db | sslmode=require" },
        { "asyncpg's ssl=prefer", "postgresql+asyncpg://db?ssl=prefer", "host=db | sslmode=prefer" },
        { "an empty option", "postgresql://db?sslmode=", "host=db" },
        {
            "target_session_attrs", "postgresql://a,b?target_session_attrs=read-write",
            "host=a,b | target_session_attrs=read-write",
        },
        { "a service", "postgresql://?service=main", "service=main" },
        { "white space around it", " postgresql://db \n", "host=db" },
    }
    for _, case in ipairs(cases) do
        it("takes " .. case[1], function()
            assert.equal(case[3], keywords(case[2]))
        end)
    end

    local refusals = {
        { "no URL at all", "hunter2", "neither a URL" },
        { "another scheme", "mysql://hunter2@db", "unknown scheme 'mysql://'" },
        { "a scheme that only begins alike", "postgresqlx://db", "unknown scheme" },
        { "a JDBC URL", "jdbc:postgresql://db", "unknown scheme" },
        { "an unknown driver", "postgresql+hunter://db", "driver" },
        { "a port that is no number", "postgresql://app:hunter2@db:hunter", "the port is not a number" },
        { "port 0", "postgresql://db:0", "the port is not a number from 1 to 65535" },
        { "port 65536", "postgresql://db:65536", "the port" },
        { "a negative port", "postgresql://db:-1", "the port" },
        { "a port with a fraction", "postgresql://db:1.5", "the port" },
        { "a port in hexadecimal", "postgresql://db:0x1F", "the port" },
        { "an option port that is no number", "postgresql://db?port=hunter", "the port" },
        { "an unencoded / in a password", "postgresql://app:hunter/2@db/shop", "after the first '/'" },
        { "an unencoded ? in a password", "postgresql://app:hunter?2@db/shop", "'?' stands before the '@'" },
        { "a lone %", "postgresql://app:hunter%@db", "percent-encoding in the password" },
        { "a % with one digit", "postgresql://hunter%4:x@db", "percent-encoding in the user name" },
        { "an encoded NUL", "postgresql://app:hunter%00@db", "percent-encoding in the password" },
        { "an encoded byte that is no UTF-8", "postgresql://app:hunter%FF@db", "the password is not valid UTF-8" },
        { "a NUL", "postgresql://app:hunter\0@db", "NUL" },
        { "invalid UTF-8", "postgresql://app:hunter\xFF@db", "not valid UTF-8" },
        { "an option without a value", "postgresql://db?hunter", "name=value" },
        { "an unknown option", "postgresql://db?sslmod=require", "unknown connection parameter 'sslmod'" },
        {
            "an unknown option behind a password", "postgresql://db?password=hunter&hunter2=x",
            "unknown connection parameter",
        },
        { "a wrong sslmode", "postgresql://db?sslmode=hunter", "wrong value for 'sslmode': expected one of disable" },
        {
            "a wrong connect_timeout", "postgresql://db?connect_timeout=hunter",
            "'connect_timeout': expected an integer",
        },
        { "a wrong target_session_attrs", "postgresql://db?target_session_attrs=master", "'target_session_attrs'" },
        { "fewer ports than hosts", "postgresql://?host=a,b,c&port=1,2", "2 ports for 3 hosts" },
        { "fewer addresses than hosts", "postgresql://a,b?hostaddr=10.0.0.1", "2 hosts, but 1 addresses" },
        { "an open bracket", "postgresql://app:hunter@[::1/x", "not closed" },
        { "empty brackets", "postgresql://[]/x", "no address" },
        { "text behind a bracket", "postgresql://[::1]hunter/x", "after the ']'" },
        { "white space in a host", "postgresql://a b/x", "white space" },
        { "two paths", "postgresql://db/a/b", "second '/'" },
    }
    for _, case in ipairs(refusals) do
        it("refuses " .. case[1] .. " without repeating any of it that could be a secret", function()
            local e = refused(url.parse_postgres, case[2])
            assert.truthy(e.message:find(case[3], 1, true), e.message)
        end)
    end

    it("refuses what is not a string", function()
        local ok, e = pcall(url.parse_postgres, 5)
        assert.is_false(ok)
        assert.equal("url.parse_postgres: text must be a string, got 5", e.message)
    end)

    it("names the nearest parameter for an unknown one", function()
        for wrong, right in pairs { sslmod = "sslmode", aplication_name = "application_name", timeout_connect = false,
            conect_timeout = "connect_timeout", ["user-name"] = false, sslrootcrt = "sslrootcert" } do
            local e = refused(url.parse_postgres, "postgresql://db?" .. wrong .. "=1")
            assert.equal(right and ("did you mean '%s'?"):format(right) or nil, e.hint)
        end
    end)

    it("says what to use instead of another driver's parameter", function()
        local e = refused(url.parse_postgres, "postgresql+asyncpg://db?prepared_statement_cache_size=0")
        assert.equal("use DB_STATEMENT_CACHE", e.hint)
    end)

    it("is built with all parts encoded", function()
        assert.equal("postgresql://a%40b:p%2F%25@db:5433/sh%20op?sslmode=require", url.build_postgres {
            hosts = { { host = "db", port = 5433 } }, user = "a@b", password = "p/%", dbname = "sh op",
            params = { sslmode = "require" },
        })
        assert.equal("postgresql://", url.build_postgres {})
        assert.equal("postgresql://%2Frun%2Fpg,[::1]:1,b/", url.build_postgres {
            hosts = { { host = "/run/pg" }, { host = "::1", port = 1 }, { host = "b" } }, dbname = "",
        })
    end)

    it("is read back from its own text and from keywords, with any contents", function()
        local seed = seeded()
        local servers = { { host = "db" }, { host = "db", port = 1 }, { host = "::1", port = 65535 }, { port = 7 },
            { host = "/run/my pg" }, { host = "fe80::1%eth0" }, {} }
        for round = 1, 1000 do
            local where = ("seed %d, round %d"):format(seed, round)
            local hosts = {}
            for i = 1, math.random(3) do
                hosts[i] = servers[math.random(#servers)]
            end
            local address = { hosts = hosts, user = random_text(math.random(8)),
                password = random_text(math.random(12)), dbname = random_text(math.random(8)),
                params = { application_name = random_text(5) } }
            local expected = url.conninfo_params(address)
            assert.same(expected, url.conninfo_params(url.parse_postgres(url.build_postgres(address))), where)
            assert.same(expected, url.conninfo_params(url.parse_postgres(url.build_keywords(address))), where)
        end
    end)

    it("never fails except with its own error, for any bytes", function()
        local seed = seeded()
        local pieces = { "postgresql://", "host=", "a", ":", "@", "/", "?", "&", "=", "%", "%41", "[", "]", ",", "'",
            "\\", " ", "\0", "\xFF", "5432", "sslmode", "password=" }
        for round = 1, 5000 do
            local parts = { round % 2 == 0 and "postgresql://" or "" }
            for i = 2, math.random(1, 14) do
                parts[i] = pieces[math.random(#pieces)]
            end
            local ok, e = pcall(url.parse_postgres, table.concat(parts))
            assert.is_true(ok or errors.is(e, "config"), ("seed %d, round %d: %s"):format(seed, round, tostring(e)))
        end
    end)
end)

describe("a keyword=value string", function()
    local cases = {
        { "pairs", "host=db port=5433 dbname=shop", "host=db | port=5433 | dbname=shop" },
        { "spaces around the equals sign", "host = db  port= 5433", "host=db | port=5433" },
        { "quotes", "password='a b\\'c\\\\d' host=db", "host=db | password=a b'c\\d" },
        { "escapes without quotes", "password=a\\ b\\'c host=db", "host=db | password=a b'c" },
        { "an escaped space at the end", "password=a\\ ", "password=a " },
        { "quotes inside a value", "password=a'b host=db", "host=db | password=a'b" },
        { "an empty quoted value", "password='' host=db", "host=db" },
        { "a quoted value right before the next", "host='db'port=1", "host=db | port=1" },
        { "line feeds between pairs", "host=db\n\tport=1\n", "host=db | port=1" },
        { "the last of two values", "host=a host=b", "host=b" },
        { "several hosts with one port", "host=a,b port=1", "host=a,b | port=1,1" },
        { "a socket", "host='/run/my pg' dbname=x", "host=/run/my pg | dbname=x" },
        { "a percent sign, which means nothing here", "password=%41", "password=%41" },
        { "a URL as a value", "application_name=http://x", "application_name=http://x" },
    }
    for _, case in ipairs(cases) do
        it("takes " .. case[1], function()
            assert.equal(case[3], keywords(case[2]))
        end)
    end

    local refusals = {
        { "an open quote", "password='hunter2 host=db", "single quote is not closed in the value of 'password'" },
        { "an open quote behind an escape", "password='hunter2\\'", "not closed" },
        { "a word without a value", "host=db hunter2", "expected keyword=value" },
        { "an equals sign without a name", "=hunter2", "expected keyword=value" },
        { "an unknown keyword", "hots=db", "unknown connection parameter 'hots'" },
        { "a password that was not quoted", "password=my hunter2=x", "unknown connection parameter" },
        { "a wrong port", "port=hunter2 host=db", "the port" },
    }
    for _, case in ipairs(refusals) do
        it("refuses " .. case[1] .. " without repeating a secret", function()
            local e = refused(url.parse_postgres, case[2])
            assert.truthy(e.message:find(case[3], 1, true), e.message)
        end)
    end
end)

describe("a Redis URL", function()
    local function short(text)
        local r = url.parse_redis(text)
        local hosts = {}
        for i, server in ipairs(r.hosts) do
            hosts[i] = server.host .. ":" .. server.port
        end
        return table.concat({ r.scheme, table.concat(hosts, ","), r.path or "-", r.db, r.username or "-",
            r.password or "-", tostring(r.tls), r.service or "-" }, " | ")
    end

    local cases = {
        { "host, port and database", "redis://cache:6380/2", "redis | cache:6380 | - | 2 | - | - | false | -" },
        { "nothing but the scheme", "redis://", "redis | 127.0.0.1:6379 | - | 0 | - | - | false | -" },
        { "a password alone", "redis://:pw@cache", "redis | cache:6379 | - | 0 | - | pw | false | -" },
        { "user and password", "redis://me:pw@cache/0", "redis | cache:6379 | - | 0 | me | pw | false | -" },
        { "encoded characters", "redis://a%40:p%2F%25@cache", "redis | cache:6379 | - | 0 | a@ | p/% | false | -" },
        { "Valkey's name", "valkey://cache", "redis | cache:6379 | - | 0 | - | - | false | -" },
        { "Valkey's name and TLS", "valkeys://cache", "rediss | cache:6379 | - | 0 | - | - | true | -" },
        { "TLS", "rediss://cache", "rediss | cache:6379 | - | 0 | - | - | true | -" },
        { "IPv6", "redis://[::1]:1/3", "redis | ::1:1 | - | 3 | - | - | false | -" },
        { "a trailing slash", "redis://cache/", "redis | cache:6379 | - | 0 | - | - | false | -" },
        { "the database as an option", "redis://cache?db=4", "redis | cache:6379 | - | 4 | - | - | false | -" },
        { "a socket", "unix:///run/my%20redis.sock?db=1", "unix |  | /run/my redis.sock | 1 | - | - | false | -" },
        { "a socket with a password", "unix://:pw@/run/r.sock", "unix |  | /run/r.sock | 0 | - | pw | false | -" },
        {
            "a socket, user and password as options", "unix:///r?username=me&password=pw",
            "unix |  | /r | 0 | me | pw | false | -",
        },
        {
            "sentinels", "redis+sentinel://:pw@a,b:26380/main/2",
            "redis+sentinel | a:26379,b:26380 | - | 2 | - | pw | false | main",
        },
        { "a cluster", "redis+cluster://a:7000,b:7001", "redis+cluster | a:7000,b:7001 | - | 0 | - | - | false | -" },
        { "a cluster with TLS", "rediss+cluster://a", "rediss+cluster | a:6379 | - | 0 | - | - | true | -" },
        { "a scheme in capitals", "REDIS://cache", "redis | cache:6379 | - | 0 | - | - | false | -" },
    }
    for _, case in ipairs(cases) do
        it("takes " .. case[1], function()
            assert.equal(case[3], short(case[2]))
        end)
    end

    it("keeps other options unchanged", function()
        local params = url.parse_redis("rediss://c?ssl_ca_certs=%2Fca.pem&client_name=a").params
        assert.same({ ssl_ca_certs = "/ca.pem", client_name = "a" }, params)
    end)

    local refusals = {
        { "no URL", "hunter2:6379", "not a URL" },
        { "another scheme", "http://hunter2", "unknown scheme 'http://'" },
        { "a wrong port", "redis://cache:hunter2", "the port" },
        { "port 0", "redis://cache:0", "the port" },
        { "a database that is no number", "redis://cache/hunter2", "the number of the database" },
        { "a negative database", "redis://cache/-1", "the number of the database" },
        { "an unencoded / in a password", "redis://:hunter/2@cache", "after the first '/'" },
        { "a lone %", "redis://:hunter%@cache", "percent-encoding in the password" },
        { "several hosts without sentinel or cluster", "redis://a,b", "several hosts" },
        { "sentinels without a master", "redis+sentinel://a,b", "name of the master" },
        { "a socket without a path", "unix://", "path of the socket" },
        { "a socket with two slashes", "unix://run/redis.sock", "path of the socket" },
        { "an unknown option", "redis://cache?hunter=1", "unknown option" },
        { "an option of redis-py alone", "redis://cache?decode_responses=true", "decode_responses is redis-py's" },
        { "white space in a host", "redis://a b", "white space" },
        { "nothing", "", "not a URL" },
    }
    for _, case in ipairs(refusals) do
        it("refuses " .. case[1] .. " without repeating a secret", function()
            local e = refused(url.parse_redis, case[2])
            assert.truthy(e.message:find(case[3], 1, true), e.message)
        end)
    end

    it("names the existing options", function()
        assert.matches("^the options are alive_timeout, .*username$", refused(url.parse_redis, "redis://h?foo=1").hint)
        assert.equal("did you mean 'socket_timeout'?", refused(url.parse_redis, "redis://h?socket_timout=1").hint)
    end)

    it("is read back from its own text, with any contents", function()
        local seed = seeded()
        local shapes = {
            { scheme = "redis", tls = false, hosts = { { host = "c", port = 6379 } } },
            { scheme = "rediss", tls = true, hosts = { { host = "::1", port = 1 } } },
            { scheme = "unix", tls = false, hosts = {}, path = "/run/a b%/r.sock" },
            { scheme = "redis+cluster", tls = false, hosts = { { host = "a", port = 1 }, { host = "b", port = 2 } } },
            { scheme = "redis+sentinel", tls = false, hosts = { { host = "a", port = 1 } }, service = "m/s" },
        }
        for round = 1, 1000 do
            local address = { db = math.random(0, 99), username = random_text(math.random(6)),
                password = random_text(math.random(12)), params = { client_name = random_text(4) } }
            for name, value in pairs(shapes[math.random(#shapes)]) do
                address[name] = value
            end
            local first = address.hosts[1] or {}
            address.host, address.port = first.host, first.port
            assert.same(address, url.parse_redis(url.build_redis(address)), ("seed %d, round %d"):format(seed, round))
        end
    end)
end)

describe("percent-encoding", function()
    it("leaves only letters, digits and -._~ unchanged", function()
        local all = {}
        for byte = 1, 255 do
            all[byte] = string.char(byte)
        end
        local text = table.concat(all)
        local encoded = url.encode(text)
        assert.is_nil(encoded:find "[^%w._~%%-]")
        assert.equal(text, url.decode(encoded))
    end)

    it("keeps a password with every special character", function()
        local parsed = url.parse_postgres("postgresql://u:" .. url.encode(AWKWARD) .. "@h/d")
        assert.equal(AWKWARD, parsed.password)
        assert.equal(AWKWARD, url.parse_redis("redis://:" .. url.encode(AWKWARD) .. "@h").password)
    end)

    it("is refused when it is malformed", function()
        for _, text in ipairs { "%", "%4", "%4g", "a%%41", "%00", "%x1" } do
            assert.is_nil(url.decode(text))
        end
    end)
end)
