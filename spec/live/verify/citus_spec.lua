-- The checks of Citus on a real cluster of three nodes. Debian does not package it: without it all is pending.
local extensions = require "spec.support.extensions"
local fs = require "dbrun.fs"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"

if not extensions.is_there "citus" then
    describe("dbrun verify, about Citus:", function()
        pending "citus is not installed: its specs are skipped"
    end)
    return
end

describe("dbrun verify, about Citus:", function()
    local nodes, root = {}, nil

    local function sql(text, i) return nodes[i or 1]:psql(text) end
    local function address(i) return ("127.0.0.1:%d"):format(nodes[i].tcp_port) end

    setup(function()
        for i = 1, 3 do
            nodes[i] = servers.postgres { tcp = true, settings = {
                shared_preload_libraries = "citus", ["citus.node_conninfo"] = "sslmode=prefer",
                max_prepared_transactions = 10, ["citus.recover_2pc_interval"] = -1, wal_level = "logical",
            } }
            sql("create extension citus", i)
        end
        sql(("select citus_set_coordinator_host('127.0.0.1', %d)"):format(nodes[1].tcp_port))
        for i = 2, 3 do sql(("select citus_add_node('127.0.0.1', %d)"):format(nodes[i].tcp_port)) end
        sql [[create role nobody login; create schema private]]
        sql "create table orders (customer int, n int, t text)"
        sql "select create_distributed_table('orders', 'customer', shard_count => 8)"
        sql "create table private.items (customer int)"
        sql "select create_distributed_table('private.items', 'customer', colocate_with => 'orders')"
        sql "create table countries (c text)"
        sql "select create_reference_table('countries')"
        sql "create table plain (n int); create table \"Odd's\" ()"
    end)
    teardown(function()
        for _, node in ipairs(nodes) do node:close() end
    end)
    before_each(function() root = fs.mkdtemp() end)
    after_each(function() fs.rmtree(root) end)

    local function told(name, facts, wanted, cause, opts)
        opts = opts or {}
        fs.write(root .. "/expect.lua", "return { " .. facts .. " }")
        local result = scripts.run("verify", { "--only", name, "--expect", root .. "/expect.lua",
            "--deadline", opts.deadline or "20", opts.strict and "--strict" or nil },
            { DATABASE_URL = nodes[opts.node or 1]:address { user = opts.user },
              REDIS_URL = "redis://127.0.0.1:1/0", DBRUN_MIGRATIONS_DIR = root })
        assert.equal(wanted, result.stdout:match("(%u%u%u%u)  " .. name:gsub("%p", "%%%0") .. " "), result.text)
        if cause then assert.matches(cause, result.stdout, 1, true) end
        return result.stdout
    end

    it("passes on a healthy cluster, on each node and without rights", function()
        told("postgres.citus", "", "PASS", "3 nodes", { strict = true })
        told("postgres.citus", "", "PASS", "3 nodes", { strict = true, node = 2 })
        told("postgres.citus", "", "PASS", "3 nodes", { user = "nobody" })
        told("postgres.citus_shards", "", "PASS", "16 shards", { strict = true })
        told("postgres.citus_shards", "", "WARN", "grant usage on schema ... to nobody;", { user = "nobody" })
    end)

    it("checks the expected distribution of tables", function()
        told("schema.distribution", [[{ table = "orders", distributed_by = "customer" },
            { table = "private.items", distributed_by = "customer", reference = false },
            { table = "countries", reference = true }]], "PASS", nil, { strict = true, user = "nobody" })
        local facts = [[{ table = "orders", distributed_by = "n" }, { table = "plain", reference = true },
            { table = "countries", reference = false }, { table = "gone", reference = true }]]
        told("schema.distribution", facts, "FAIL", nil, { strict = true })
        local text = told("schema.distribution", facts, "WARN",
            "orders is distributed by customer, expected: distributed by n")
        assert.matches("plain is a local table, expected: a reference table", text, 1, true)
        assert.matches("countries is a reference table, expected: no reference table", text, 1, true)
        assert.matches("gone is not there", text, 1, true)
        assert.matches("select undistribute_table('countries');", text, 1, true)
        text = told("schema.distribution", [[{ table = "countries", distributed_by = "c" },
            { table = "orders", reference = true }, { table = '"Odd\'s"', reference = true }]], "WARN")
        assert.matches("select undistribute_table('countries'); select create_distributed_table('countries', 'c');",
            text, 1, true)
        assert.matches("select undistribute_table('orders'); select create_reference_table('orders');", text, 1, true)
        assert.matches([[select create_reference_table('"Odd''s"');]], text, 1, true)
    end)

    it("sees a node that is down, and one that hangs", function()
        nodes[3]:kill "QUIT"
        finally(function() nodes[3]:start() end)
        told("postgres.citus", "", "FAIL", address(3) .. " is not reached by any node")
        local text = told("postgres.citus_shards", "", "WARN", "a node does not answer")
        assert.not_matches("grant", text, 1, true) -- to a superuser
        nodes[3]:start()
        nodes[3]:kill "STOP"
        told("postgres.citus", "", "FAIL", "one of them hangs", { deadline = "6" })
        nodes[3]:kill "CONT"
    end)

    it("sees nodes that are inactive, or have old metadata or another version", function()
        local where = (" where nodeport = %d"):format(nodes[3].tcp_port)
        finally(function() sql("update pg_dist_node set isactive = true, metadatasynced = true" .. where) end)
        sql("update pg_dist_node set isactive = false" .. where)
        told("postgres.citus", "", "FAIL", address(3) .. " is not active")
        sql("update pg_dist_node set isactive = true, metadatasynced = false" .. where)
        told("postgres.citus", "", "WARN", address(3) .. " has old metadata")
        sql("update pg_dist_node set metadatasynced = true" .. where)
        local version = sql("select extversion from pg_extension where extname = 'citus'", 3)
        sql("update pg_extension set extversion = '1.0-1' where extname = 'citus'", 3)
        local text = told("postgres.citus", "", "FAIL", address(3) .. " has Citus 1.0-1, this node " .. version)
        assert.not_matches("does not reach", text, 1, true)
        sql(("update pg_extension set extversion = '%s' where extname = 'citus'"):format(version), 3)
        told("postgres.citus", "", "PASS")
    end)

    it("sees prepared transactions that are left on workers", function()
        sql("begin; create table left_over (); prepare transaction 'it''s lost'", 2)
        finally(function() sql("rollback prepared 'it''s lost'", 2) end)
        told("postgres.citus", "", "PASS")
        local text = told("postgres.citus", "{ limit = 'postgres.prepared_transactions', warn = 0 }", "WARN",
            address(2) .. ": the prepared transaction 'it's lost' is open")
        assert.matches("rollback prepared 'it''s lost';", text, 1, true)
    end)

    it("sees shards on the wrong nodes, and one node that holds most", function()
        local node = ("'127.0.0.1', %d"):format(nodes[3].tcp_port)
        sql(("select citus_set_node_property(%s, 'shouldhaveshards', false)"):format(node))
        told("postgres.citus_shards", "", "WARN", ("select citus_drain_node(%s);"):format(node))
        sql(("select citus_set_node_property(%s, 'shouldhaveshards', true)"):format(node))
        local move = "update pg_dist_placement set groupid = 3 - groupid where shardid = (select min(shardid) "
            .. "from pg_dist_shard where logicalrelid = 'orders'::regclass)"
        sql(move)
        told("postgres.citus_shards", "", "FAIL", "co-located shards are on different nodes")
        sql(move)
        sql "insert into orders select 1, g, repeat('x', 100) from generate_series(1, 20000) g"
        told("postgres.citus_shards", "", "WARN", "times the average of all nodes")
        told("postgres.citus_shards", "{ limit = 'citus.balance', warn = 3 }", "PASS")
    end)
end)
