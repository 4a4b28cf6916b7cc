--- The values from which checks warn or fail; { limit = "postgres.transactions", warn = 60 } in the expectations
--- changes them.
local M = {}

---@type table<string, { warn?: number, fail?: number, unit: string }>
M.DEFAULTS = {
    ["postgres.clock"] = { warn = 1, fail = 60, unit = "seconds between the clocks" },
    ["postgres.capacity"] = { warn = 0.9, unit = "share of max_connections in use by others" },
    ["postgres.replication"] = { warn = 30, fail = 600, unit = "seconds behind" },
    ["postgres.slots"] = { warn = 1 << 30, unit = "bytes that an unused replication slot keeps" },
    ["postgres.transactions"] = { warn = 300, unit = "seconds that a transaction is open" },
    ["postgres.wraparound"] = { warn = 0.5, fail = 0.9, unit = "share of the 2^31 transactions" },
    ["postgres.dead_rows"] = { warn = 0.3, unit = "share of a table's rows" },
    ["redis.memory"] = { warn = 0.8, fail = 0.98, unit = "share of maxmemory" },
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
    local measured = ctx.measured
    if measured and not (measured[name] and measured[name].value >= value) then
        measured[name] = { value = value, warn = warn, fail = fail }
    end
    if fail and value > fail then return "FAIL", fail end
    if warn and value > warn then return "WARN", warn end
    return "PASS"
end

return M
