--- A listener whose connection breaks at random moments: no notification is repeated, out of order or damaged, and none
--- is missing without a reported gap. Row 18 of the faults.

local db = require "dbrun.db"
local fake = require "spec.support.fake"
local pg = require "spec.support.pg"
local servers = require "spec.support.servers"

local ROUNDS <const> = require "spec.support.faults.rounds".count
local WARM <const> = math.max(1, ROUNDS // 5)

pg.on_both(describe, function(_, open)
    local sender, seed

    setup(function()
        seed = math.tointeger(os.getenv "DBRUN_TEST_SEED") or os.time()
        math.randomseed(seed)
        sender = db.engine { url = pg.url(), mode = "sync" }
    end)

    teardown(function() sender:close() end)

    --- Sends numbered notifications, and checks those that a consumer receives.
    local function stream(listener)
        local self = { sent = 0, seen = 0, gaps = 0, missed = 0, excused = false }

        function self.send()
            self.sent = self.sent + 1
            local filler = ("x"):rep(self.sent * 37 % 200)
            sender:query("select pg_notify('numbers', $1)", ("%d %s"):format(self.sent, filler))
        end

        local function take_number(payload)
            local number, filler = payload:match "^(%d+) (x*)$"
            number = math.tointeger(tonumber(number))
            assert(#filler == number * 37 % 200, "damaged")
            assert(number > self.seen, "a notification came twice, or in the wrong order")
            assert(number == self.seen + 1 or self.excused, "a notification is missing without a gap")
            self.missed = self.missed + number - self.seen - 1
            self.seen, self.excused = number, false
        end

        --- Receives until the last sent notification arrives; one that is sent after a gap must arrive.
        function self.catch_up()
            while self.seen < self.sent do
                local ev = assert(listener:next(5), "no more notifications arrive")
                if ev.kind == "gap" then
                    self.gaps, self.excused = self.gaps + 1, true
                    self.send()
                else
                    take_number(ev.payload)
                end
            end
        end

        return self
    end

    local function soak(break_it)
        local proxy <close> = fake.proxy { to = servers.shared_postgres() }
        local e <close> = open { url = proxy:address_of(servers.shared_postgres(), {
            database = sender:value "select current_database()" }) }
        local listener <close> = e:listen "numbers"
        local numbers, descriptors = stream(listener), nil
        local ok, why = pcall(function()
            local round = 0
            -- A break at the end of a round leaves no gap in it: goes on until enough rounds have one.
            while round < ROUNDS or numbers.gaps <= ROUNDS / 4 do
                round = round + 1
                if round > 20 * ROUNDS then error(("only %d gaps"):format(numbers.gaps), 0) end
                for _ = 1, math.random(0, 3) do numbers.send() end
                break_it(listener, proxy)
                for _ = 1, math.random(0, 3) do numbers.send() end
                numbers.catch_up()
                if round == WARM then descriptors = pg.descriptors() end
            end
        end)
        assert(ok, ("seed %d: %s"):format(seed, tostring(why)))
        assert.is_true(pg.descriptors() <= descriptors + 1)
        assert.equal(0, pg.settled(e).open)
    end

    it("the server ends its process", function()
        soak(function(listener)
            local pid = listener:backend_pid()
            -- Half of the backends have ended before more is sent, the others end whenever they get the signal.
            if pid then sender:query("select pg_terminate_backend($1, $2)", pid, math.random(0, 1) * 5000) end
        end)
    end)

    it("the network cuts it, at any byte", function()
        soak(function(_, proxy) proxy:cut("down", math.random(0, 400)) end)
    end)

    it("the network resets it", function()
        soak(function(_, proxy) proxy:reset() end)
    end)
end)
