-- `dbrun spec/bench/batch_plan.lua`: computes the speed of a batch job with many workers from the costs of another
-- machine (lib/plan.lua). B5 does the same with the costs of one measured machine.
local home <const> = arg[0]:match "^(.*)/[^/]*$" or "."
package.path = home .. "/../?.lua;" .. package.path

local cli <const> = require "dbrun.command_line"
local plan <const> = require "bench.lib.plan"

local function parser()
    local p <const> = cli.parser {
        name = "dbrun spec/bench/batch_plan.lua", description = "Plan a batch job for many workers.",
        examples = { "dbrun spec/bench/batch_plan.lua --workers 64 --cores 32 --wal-rate 400" },
        epilog = "Exit status: 0, 2 usage.",
    }
    for _, cost in ipairs(plan.COSTS) do
        local name <const> = "--" .. cost[1]:gsub("_", "-")
        p:option(name, ("%s (default %g)."):format(cost[2], cost[3])):convert(function(text)
            local value <const> = tonumber(text)
            if value and value > 0 then return value end
            return nil, ("%s: a number above 0 expected, got '%s'"):format(name, text)
        end)
    end
    p:option("--workers", "Only so many workers: 64,128."):convert(cli.list)
    p:option("--size", "Only these sizes of a chunk: 1000,5000."):convert(cli.list)
    return p
end

os.exit(cli.main("batch_plan", function()
    local options <const> = plan.costs()
    local args <const>, help <const> = cli.parse(parser(), arg)
    if not args then
        cli.print(help)
        return cli.OK
    end
    for name, value in pairs(options) do options[name] = args[name] or value end
    cli.print(("%.0e rows, %g cores, %g us a row and %g ms a chunk, job's row %g ms, %g ms a round trip, flush %g ms, "
        .. "%g bytes of WAL a row, %g MiB/s"):format(options.rows, options.cores, options.row, options.chunk,
        options.give, options.trip, options.flush, options.wal, options.wal_rate))
    cli.print "workers   rows of a chunk       rows/s       hours   cores     WAL   job's row   waits for it   limit"
    for _, workers in ipairs(args.workers or { "1", "4", "16", "64", "256" }) do
        for _, size in ipairs(args.size or { "10", "100", "1000", "5000" }) do
            local r <const> = plan.simulate(options, math.tointeger(tonumber(workers)), math.tointeger(tonumber(size)))
            cli.print(("%7s %17s %12s %11.2f %6.0f%% %6.0f%% %10.1f%% %13.1f%%   %s"):format(workers, size,
                cli.count(math.floor(r.rate)), options.rows / r.rate / 3600, 100 * r.cores, 100 * r.wal, 100 * r.job,
                100 * r.waited, plan.limit_of(r)))
        end
    end
    return cli.OK
end), true)
