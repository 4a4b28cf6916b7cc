--- The values from which checks warn or fail; { limit = "postgres.transactions", warn = 60 } in the expectations
--- changes them.
local M = {}

---`below`: it warns and fails below the values, not above them.
---@type table<string, { warn?: number, fail?: number, below?: boolean, unit: string }>
M.DEFAULTS = {
    ["postgres.clock"] = { warn = 1, fail = 60, unit = "seconds between the clocks" },
    ["postgres.capacity"] = { warn = 0.9, unit = "share of max_connections in use by others" },
    ["postgres.replication"] = { warn = 30, fail = 600, unit = "seconds behind" },
    ["postgres.slots"] = { warn = 10 << 30, unit = "bytes of WAL that a replication slot keeps" },
    ["postgres.transactions"] = { warn = 300, unit = "seconds that a transaction is open" },
    ["postgres.idle_in_transaction"] = { warn = 60, fail = 600, unit = "seconds that a session does nothing in one" },
    -- The default depends on the server: it warns at twice autovacuum_freeze_max_age, when vacuum has had enough time.
    ["postgres.wraparound"] = { fail = 0.7, unit = "share of the 2^31 transactions" },
    ["postgres.dead_rows"] = { warn = 2, unit = "times the dead rows at which autovacuum cleans the table" },
    ["postgres.locks"] = { warn = 10, fail = 60, unit = "seconds that a session waits for a lock" },
    ["postgres.prepared_transactions"] = { warn = 300, fail = 3600, unit = "seconds that one is open" },
    ["postgres.xmin_horizon"] = { warn = 50e6, fail = 200e6, unit = "transactions whose dead rows must stay" },
    ["postgres.sequences"] = { warn = 0.75, fail = 0.9, unit = "share of the numbers that are used" },
    ["postgres.archiving"] = { warn = 0, fail = 3600, unit = "seconds since the last success" },
    ["postgres.autovacuum"] = { warn = 0, unit = "tables that were never analyzed" },
    ["postgres.unchecked"] = { warn = 0, unit = "constraints not validated and triggers that are off" },
    ["postgres.replica_identity"] = { warn = 0, unit = "published tables whose rows cannot be told apart" },
    ["postgres.checksums"] = { fail = 0, unit = "blocks whose checksum was wrong" },
    ["postgres.collation"] = { warn = 0, unit = "collations that have another version" },
    ["postgres.pending_restart"] = { warn = 0, unit = "settings that wait for a restart" },
    ["postgres.encryption"] = { warn = 0, unit = "connections without TLS to a host that is not this one" },
    ["postgres.end_of_life"] = { warn = 0, unit = "days since the last release of its version" },
    ["timescale.overdue"] = { warn = 300, fail = 3600, unit = "seconds since a job was to start" },
    ["citus.balance"] = { warn = 1.5, unit = "times the average bytes of a node, on the fullest one" },
    ["postgres.certificates"] = { warn = 30, fail = 7, below = true, unit = "days that a certificate is still valid" },
    ["redis.certificates"] = { warn = 30, fail = 7, below = true, unit = "days that a certificate is still valid" },
    ["redis.memory"] = { warn = 0.8, fail = 0.98, unit = "share of maxmemory" },
    ["redis.eviction"] = { warn = 0, unit = "keys evicted per second" },
    ["redis.clients"] = { warn = 0.8, unit = "share of maxclients in use by others" },
    ["redis.latency"] = { warn = 0.05, fail = 1, unit = "seconds for a round trip" },
}

---@param ctx dbrun.verify.Context
---@param name string of the limit
---@param value number
---@param usual? number the value from which it warns, where that depends on the server's settings
---@return "PASS"|"WARN"|"FAIL" status
---@return number? limit the limit that was exceeded
function M.judge(ctx, name, value, usual)
    local default, own = M.DEFAULTS[name], ctx.expect.limits[name] or {}
    local warn, fail = own.warn or usual or default.warn, own.fail or default.fail
    local function worse(a, b) return default.below and a < b or not default.below and a > b end
    local measured = ctx.measured
    if measured and (not measured[name] or worse(value, measured[name].value)) then
        measured[name] = { value = value, warn = warn, fail = fail, below = default.below }
    end
    if fail and worse(value, fail) then return "FAIL", fail end
    if warn and worse(value, warn) then return "WARN", warn end
    return "PASS"
end

return M
