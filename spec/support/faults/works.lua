--- Small pieces of typical work with an engine: each writes its nonces in one transaction, or checks the nonce in its
--- reply. work:write() gives a nonce that must be in the ledger if the work succeeds, and must not be there if it
--- fails; work:spoil() gives one that must never be there; work:same(expected, got) compares.

local M <const> = {}

local PAD <const> = ("x"):rep(300)

---@class spec.Works.Kind
---@field steps integer statements that each have a deadline
---@field run fun(work: table, e: table)

---@type table<string, spec.Works.Kind>
M.kinds = {
    value = { steps = 1, run = function(work, e)
        local n <const> = work:nonce()
        work:same(n, e:value("select $1::int8", n))
    end },
    slow = { steps = 1, run = function(work, e)
        local n <const> = work:nonce()
        work:same(n, e:one("select $1::int8 as n from pg_sleep(0.006)", n).n)
    end },
    wide = { steps = 1, run = function(work, e)
        local n <const> = work:nonce()
        local rows <const> = e:query([[select $1::int8 + i as n, repeat('y', 200) as pad
            from generate_series(1, 300) i]], n)
        work:same(300, #rows)
        for i = 1, 300 do work:same(n + i, rows[i].n) end
    end },
    columns = { steps = 1, run = function(work, e)
        local n <const> = work:nonce()
        local columns <const>, count <const> = e:columns("select $1::int8 + i as n from generate_series(1, 200) i", n)
        work:same(200, count)
        for i = 1, 200 do work:same(n + i, columns.n[i]) end
    end },
    rows = { steps = 1, run = function(work, e)
        local n <const>, last <const> = work:nonce(), math.random(1500)
        local i = 0
        for row in e:rows("select $1::int8 + i as n, repeat('z', 50) from generate_series(1, 1000) i", n) do
            i = i + 1
            work:same(n + i, row.n)
            if i == last then break end
        end
        work:same(math.min(last, 1000), i)
    end },
    insert = { steps = 1, run = function(work, e)
        local n <const> = work:write()
        work:same(n, e:value("insert into ledger values ($1) returning n", n))
    end },
    insert_slow = { steps = 1, run = function(work, e)
        local n <const> = work:write()
        work:same(n, e:value("insert into ledger select $1 from pg_sleep(0.004) returning n", n))
    end },
    exec = { steps = 1, run = function(work, e)
        local a <const>, b <const> = work:write(), work:write()
        work:same(1, e:exec(("insert into ledger values (%d); insert into ledger values (%d)"):format(a, b)))
    end },
    copy_in = { steps = 2, run = function(work, e)
        local list <const> = {}
        for i = 1, 60 do list[i] = { work:write(), PAD } end
        work:same(60, e:copy_in("ledger", { "n", "pad" }, list))
    end },
    copy_out = { steps = 2, run = function(work, e)
        local n <const> = work:nonce()
        local i = 0
        for row in e:copy_out(("select %d + i as n, repeat('z', 90) as z from generate_series(1, 300) i"):format(n)) do
            i = i + 1
            work:same(n + i, row.n)
        end
        work:same(300, i)
    end },
    pipeline = { steps = 1, run = function(work, e)
        local n <const> = work:nonce()
        local a <const>, b <const> = work:write(), work:write()
        local results <const> = e:pipeline(function(p)
            p:query("insert into ledger values ($1)", a)
            p:query("select $1::int8 as n", n)
            p:query("insert into ledger values ($1) returning n", b)
        end)
        work:same(1, results[1].affected)
        work:same(n, results[2][1].n)
        work:same(b, results[3][1].n)
    end },
    execute_many = { steps = 3, run = function(work, e)
        local list <const> = {}
        for i = 1, 40 do list[i] = { work:write(), PAD } end
        work:same(40, e:execute_many("insert into ledger values ($1, $2)", list))
    end },
    transaction = { steps = 6, run = function(work, e)
        local n <const> = work:nonce()
        work.attempts = 0
        local got <const> = e:transaction({ retry = 3 }, function(tx)
            work.attempts = work.attempts + 1
            work.inside = true
            tx:query("insert into ledger values ($1)", work:write())
            pcall(tx.transaction, tx, function(inner)
                inner:query("insert into ledger values ($1)", work:spoil())
                error "rolled back"
            end)
            local v <const> = tx:value("select $1::int8 from pg_sleep(0.001)", n)
            tx:query("insert into ledger values ($1)", work:write())
            work.inside = false
            return v
        end)
        work:same(n, got)
    end },
    session = { steps = 4, run = function(work, e)
        local s <close> = e:session()
        local n <const> = work:write()
        work.inside = true
        work:same(n, s:value("insert into ledger values ($1) returning n", n))
        work:same(n, s:value("select n from ledger where n = $1", n))
        work.inside = false
        s:commit()
    end },
    undone = { steps = 3, run = function(work, e)
        local s <close> = e:session()
        local n <const> = work:spoil()
        work:same(n, s:value("insert into ledger values ($1) returning n", n))
    end },
    cursor = { steps = 6, run = function(work, e)
        local n <const> = work:nonce()
        e:transaction(function(tx)
            work.inside = true
            local i = 0
            for row in tx:cursor("select $1::int8 + i as n from generate_series(1, 30) i", n, { fetch = 12 }) do
                i = i + 1
                work:same(n + i, row.n)
            end
            work:same(30, i)
            work.inside = false
        end)
    end },
    lease = { steps = 3, run = function(work, e)
        local c <close> = e:acquire()
        local n <const> = work:nonce()
        work:same(n, c:value("select $1::int8", n))
        work:same(n + 1, c:value("select $1::int8 + 1", n))
        local m <const> = work:write()
        work:same(m, c:value("insert into ledger values ($1) returning n", m))
    end },
}

M.names = {}
for name in pairs(M.kinds) do M.names[#M.names + 1] = name end
table.sort(M.names)

--- The kinds of one statement, which an engine with `pipeline=` sends on shared connections.
M.shared = { "value", "slow", "wide", "columns", "insert", "insert_slow" }

---@param kind "async"|"shared"|"sync"
---@return string name of a random kind of work
function M.any(kind)
    local list <const> = kind == "shared" and math.random() < 0.7 and M.shared or M.names
    return list[math.random(#list)]
end

return M
