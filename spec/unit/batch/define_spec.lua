-- The definition of a job, without a database.
local db = require "dbrun.db"
local define = require "dbrun.batch.define"
local fs = require "dbrun.fs"

describe("the definition of a job", function()
    local function with(options)
        local all = { name = "orders-cents", table = "orders", run = "update orders set cents = 1 where :chunk" }
        for key, value in pairs(options or {}) do all[key] = value ~= db.null and value or nil end
        return all
    end
    local function of(options) return define.of("run", with(options)) end

    local function error_of(fn, ...)
        local ok <const>, e <const> = pcall(fn, ...)
        assert.is_false(ok, "it was taken")
        assert.equal("usage", e.kind)
        return e.message, e.hint or ""
    end

    it("has defaults, and records which values were given", function()
        local d <const> = of { size = 50, throttle = { blocked = 2 }, key = "id", params = { a = 1 } }
        assert.same({ 50, 10, 20000, 100000, 0.5, 2.0, 1, 0.2, "stop", 100, 2 }, { d.size, d.min, d.max, d.look,
            d.target, d.timeout, d.duty, d.lock_timeout, d.on_error, d.max_failed, d.passes })
        assert.same({ "id" }, d.key)
        assert.equal("run", d.kind)
        assert.is_true(d.assigned.size and d.assigned["throttle.blocked"])
        assert.is_nil(d.assigned.min)
        assert.is_nil(d.rate)
    end)

    it("has limits that follow the size", function()
        assert.equal(50000, of({ size = 50000 }).max)
        assert.equal(200000, of({ size = 200000 }).look)
        assert.equal(5, of({ size = 5 }).min)
    end)

    it("refuses invalid values", function()
        local function is(message, hint, options)
            local said <const>, help <const> = error_of(of, options)
            assert.matches(message, said, 1, true)
            assert.matches(hint, help, 1, true)
        end
        is("batch.job: name is missing", "identity in the database", { name = db.null })
        is("name must be 1 to 63 letters", "", { name = "a b" })
        is("name must be 1 to 63 letters", "", { name = ("x"):rep(64) })
        is("table is missing", 'table = "orders"', { table = db.null })
        is("table and source are given", "", { source = { open = print, text = "a list", hash = "" } })
        is("source is none", "batch.list", { table = db.null, source = {} })
        is("run is missing", ":chunk", { run = db.null })
        is("unknown option 'siez'", "did you mean 'size'?", { siez = 1 })
        is("key has the column 'a' twice", "", { key = { "a", "a" } })
        is("key must be a column, or a list", "", { key = {} })
        is("duty must be a number above 0 and up to 1, got 1.5", "", { duty = 1.5 })
        is("target must be a number of seconds above 0", "", { target = 0 })
        is("rate must be rows a second, above 0", "", { rate = 0 })
        is("timeout is 0.1 s, less than target, which is 0.5 s", "4 * target", { timeout = 0.1 })
        is("min is 20, more than size, which is 10", "between min and max", { min = 20, size = 10 })
        is("size is 10, more than max, which is 5", "between min and max", { size = 10, max = 5 })
        is("look is 10, fewer than size, which is 20", "keys are looked at", { size = 20, look = 10 })
        is('on_error must be "stop", "skip" or "split", got "halt"', "", { on_error = "halt" })
        is('nulls must be "skip"', "", { nulls = "keep" })
        is('hours must be times and a time zone', "", { hours = "22-06" })
        is("there is no signal 'replication_lagg'", "did you mean 'replication_lag'?",
            { throttle = { replication_lagg = 5 } })
        is("critical.slots must be a number of bytes", "", { critical = { slots = -1 } })
        is("settings cannot have statement_timeout", "timeout = SECONDS", { settings = { statement_timeout = 1 } })
        is("settings.work_mem must be a string, a number or a boolean, got a table", "",
            { settings = { work_mem = {} } })
        is("params has 'after', which is a name of dbrun's own", "keys, look, range", { params = { after = 1 } })
        is("params has the name 'a-b'", ":limit", { params = { ["a-b"] = 1 } })
        is("params.f must be a value for PostgreSQL, got a function", "", { params = { f = print } })
    end)

    it("refuses SQL that cannot be done in chunks", function()
        local function is(message, hint, run, options)
            options = options or {}
            options.run = run
            local said <const>, help <const> = error_of(of, options)
            assert.matches(message, said, 1, true)
            assert.matches(hint, help, 1, true)
        end
        is("run has no :chunk: it would touch every row in every chunk", "where :chunk", "update t set a = 1")
        is("run has no :chunk", "", "update t set a = ':chunk' /* :chunk */ where a::chunk = 1")
        is("run has the parameter :b, which has no value", "params = { b = ... }",
            "delete from t where :chunk and a = :b")
        is("run has the parameter :dayz, which has no value", "did you mean :days?",
            "delete from t where :chunk and a = :dayz", { params = { days = 1 } })
        is("run has the parameter $1", "params = { name = value }", "delete from t where :chunk and a = $1")
        is("run cannot have :upto", "are in :chunk and :range", "delete from t where :chunk and a = :upto")
        is("where cannot have :chunk", "has where in it", "delete from t where :chunk", { where = ":chunk" })
        is("where has a ')' that is not its own", "", "delete from t where :chunk", { where = "a) or (b" })
        is("where has a '(' without its ')'", "", "delete from t where :chunk", { where = "(a" })
        is("where has a ';' that is not its own", "", "delete from t where :chunk", { where = "a; drop table t" })
        is("run may not have COMMIT", "leave it out", "commit -- :chunk")
        is("run may not have SAVEPOINT", "leave it out", { "savepoint a", "delete from t where :chunk" })
        is("run has several statements", "a list", "delete from t where :chunk; delete from u")
        is("run may not be VACUUM", "a function(tx, chunk)", { "delete from t where :chunk", "vacuum t" })
        is("run may not be SET", "SET LOCAL", { "set work_mem = '1GB'", "delete from t where :chunk" })
        is("run has a statement without SQL", "", { "-- nothing", "delete from t where :chunk" })
    end)

    it("accepts SQL that has its chunk anywhere", function()
        of { run = "with x as (select * from t where :range) delete from u using x where u.id = x.id;" }
        of { run = { "set local work_mem = '1GB'", "create temp table m on commit drop as select 1 from t where :chunk",
            "insert into u select * from m" } }
        of { run = "delete from t where :chunk and a < :started - make_interval(days => :days)", params = { days = 90 },
            where = "b <> ')' -- ) $1" }
        of { run = "merge into t using u on t.id = u.id and :chunk when matched then delete" }
    end)

    it("accepts options of its kind", function()
        local function work() return function() return 0 end end
        local d <const> = define.of("archive", { name = "a", table = "t", to = "u" }, {
            options = { to = "string" }, hashed = { "to" }, work = work,
        })
        assert.equal("u", d.to)
        assert.equal(work, d.work)
        assert.matches("batch.archive: to must be a string", (error_of(define.of, "archive",
            { name = "a", table = "t", to = 1 }, { options = { to = "string" }, work = work })), 1, true)
        assert.matches("it has a run of its own", (error_of(define.of, "purge", { name = "a", table = "t", run = "x" },
            { run = "delete from t where :chunk" })), 1, true)
    end)

    it("has a hash of its work, but not of its speed", function()
        local hash <const> = of().hash
        assert.equal(hash, of({ size = 5, throttle = { blocked = 1 }, params = { a = 1 }, name = "other" }).hash)
        for option, value in pairs { table = "u", key = "id", where = "a", run = "delete from t where :chunk",
            as = "o" } do
            assert.not_equal(hash, of({ [option] = value }).hash, option)
        end
        local dir <const> = fs.mkdtemp()
        local function from_file(text)
            fs.write(dir .. "/f.lua", text)
            return of({ run = dofile(dir .. "/f.lua") }).hash
        end
        local one <const> = from_file "return function() return 1 end"
        assert.equal(one, from_file "return function() return 1 end")
        assert.not_equal(one, from_file "return function() return 2 end")
        fs.rmtree(dir)
    end)

    it("can be printed as a description", function()
        local d <const> = of { key = { "a", "b" }, where = "c", run = function() return 0 end }
        assert.same({ "orders", "a, b", "c" }, { d.texts.table, d.texts.key, d.texts.where })
        assert.matches("function at .*define_spec.lua:%d+", d.texts.run)
    end)

    describe("the values in force", function()
        it("are those that were set, otherwise those of the file, otherwise defaults", function()
            local d <const> = of { size = 50, rate = 7, hours = "22:00-06:00 UTC",
                throttle = { blocked = 2, slots = 5 } }
            local values <const>, sources <const> = define.values(d, { size = "200", ["throttle.slots"] = "off",
                ["critical.active"] = "2x", rate = "off", target = "0.25" })
            assert.same({ 200, "set", nil, "set" }, { values.size, sources.size, values.rate, sources.rate })
            assert.same({ 1.0, "default", 20000, "default" }, { values.timeout, sources.timeout, values.max,
                sources.max })
            assert.same({ "22:00-06:00 UTC", "file" }, { values.hours, sources.hours })
            assert.same({ blocked = 2, slots = false }, values.throttle)
            assert.same({ active = "2x" }, values.critical)
            assert.same({ "file", "set" }, { sources["throttle.blocked"], sources["throttle.slots"] })
            assert.equal(2, d.throttle.blocked)
            assert.equal(5, d.throttle.slots)
        end)

        it("adapt to a size that was set", function()
            local values <const> = define.values(of { size = 50, min = 20, max = 100, look = 500 }, { size = "600" })
            assert.same({ 600, 600, 600, 20 }, { values.size, values.max, values.look, values.min })
            assert.equal(3, define.values(of { min = 10 }, { size = "3" }).min)
        end)

        it("are texts for commands without the file", function()
            assert.same({ size = "50", duty = "0.5", ["throttle.x"] = "function", ["throttle.slots"] = "off" },
                define.file_values(of { size = 50, duty = 0.5, throttle = { x = print, slots = false } }))
        end)

        it("are checked when they are set", function()
            for _, pair in ipairs { { "size", "5" }, { "target", "0.1" }, { "rate", "off" }, { "hours", "off" },
                { "throttle.active", "2x" }, { "critical.slots", "off" }, { "on_error", "split" } } do
                define.check_set(pair[1], pair[2])
            end
            local function is(message, name, text)
                local said <const>, hint <const> = error_of(define.check_set, name, text)
                assert.matches(message, said .. "\n" .. hint, 1, true)
            end
            is("size must be a whole number from 1 to 1000000000, got \"0\"", "size", "0")
            is("duty must be a number above 0 and up to 1, got \"x\"", "duty", "x")
            is("rate must be rows a second, above 0, or off, got \"nan\"", "rate", "nan")
            is("size must be", "size", "0x10")
            is("did you mean 'target'?", "tarhet", "1")
            is("did you mean 'slots'?", "throttle.slotts", "1")
            is("throttle.slots must be", "throttle.slots", "-1")
            is("throttle.slots must be", "throttle.slots", "soon")
            is("there is no signal 'mine'", "throttle.mine", "off")
            define.check_set("throttle.mine", "off", { ["throttle.mine"] = "function" })
            is("these can: duty, hours", "wherever", "1")
        end)
    end)

    describe("hours", function()
        local hours <const> = define.hours
        local function at(text, day, h, m)
            return hours.at(assert(hours.parse(text)), day, h * 3600 + (m or 0) * 60)
        end

        it("say whether a job may work, and until when it must wait", function()
            local NIGHT <const> = "22:00-06:00 Europe/Berlin"
            assert.is_nil(at(NIGHT, 1, 22))
            assert.is_nil(at(NIGHT, 7, 5, 59))
            assert.equal("outside of 22:00-06:00 Europe/Berlin, which begins in 3:12 h", (at(NIGHT, 3, 18, 48)))
            assert.equal(16 * 3600, select(2, at(NIGHT, 3, 6)))
            local WEEK <const> = "mon-fri 20:00-06:00, sat, sun 00:00-24:00 UTC"
            assert.is_nil(at(WEEK, 6, 12))
            assert.is_nil(at(WEEK, 2, 3))
            assert.is_nil(at(WEEK, 5, 23))
            assert.matches("begins in 15:00 h", (at(WEEK, 1, 5)))
            assert.matches("begins in 67:00 h", (at("fri-mon 00:00-01:00 UTC", 2, 5)))
            assert.matches("begins in 167:00 h", (at("tue 00:00-01:00 UTC", 2, 1)))
        end)

        it("refuse anything else", function()
            for _, text in ipairs { "22:00-06:00", "x", "25:00-26:00 UTC", "mon- 10:00-11:00 UTC", "10:00-10:00 UTC",
                "sat UTC", "10:00-11:00, UTC", "funday 10:00-11:00 UTC", "10:00-11:60 UTC", "" } do
                assert.is_nil(hours.parse(text), text)
            end
        end)
    end)
end)
