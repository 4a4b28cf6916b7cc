-- One run of dbrun's side of a workload, in a separate process: `child.lua FILE VARIANT SECONDS`.
-- Prints one line: {"ops":..,"seconds":..,"cpu_us_per_op":..,"errors":..,"checks":..}, and "bytes":.. when the
-- workload measures memory.
local home <const> = assert(arg[0]:match "^(.*)/[^/]*$" or ".")
package.path = home .. "/../?.lua;" .. package.path

local file <const>, variant <const>, seconds <const> = arg[1], arg[2], tonumber(arg[3])
local workload <const> = dofile(file)
local result <const> = workload.measure[variant](seconds)
print(require "dbrun.json".encode {
    ops = result.ops,
    seconds = result.seconds,
    cpu_us_per_op = result.cpu * 1e6 / math.max(result.ops, 1),
    errors = result.errors,
    checks = result.checks,
    bytes = result.bytes,
})
