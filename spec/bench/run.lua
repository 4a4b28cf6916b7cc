-- `dbrun spec/bench/run.lua`: measures dbrun against the installed peers and against the floors in C.
-- Prints one table and writes it as bench.json, bench.md and bench.svg. A missed target is not a failure;
-- a wrong answer or a failed program is.
local home <const> = arg[0]:match "^(.*)/[^/]*$" or "."
package.path = home .. "/../?.lua;" .. package.path

local cli <const> = require "dbrun.command_line"
local context <const> = require "bench.lib.context"
local json <const> = require "dbrun.json"
local picture <const> = require "bench.lib.picture"
local report <const> = require "bench.lib.report"
local runner <const> = require "bench.lib.runner"
local servers <const> = require "bench.lib.servers"
local shell <const> = require "bench.lib.shell"
local task <const> = require "dbrun.task"

local JSON_STYLE <const> = { indent = 2, sort_keys = true }

local function parser()
    local p <const> = cli.parser {
        name = "dbrun spec/bench/run.lua",
        description = "Measure dbrun against the installed peers and against plain C.",
        examples = { "dbrun spec/bench/run.lua --only P1,P3", "dbrun spec/bench/run.lua --long --only B2,B4" },
        epilog = "Exit status: 0 measured (targets met or not), 1 a run failed or gave a wrong answer, 2 usage.",
    }
    p:option("--only", "Only these workloads: P1,P3."):convert(cli.list)
    cli.count_option(p, "--pairs", "Alternating pairs for each comparison (default 5).")
    cli.seconds(p, "--seconds", "How long one run lasts (default 0.7).", 0.1)
    cli.seconds(p, "--within", "No pair begins that would end later than so many seconds from now (default 480).", 1)
    p:option("--output", "Folder for bench.json, bench.md and bench.svg.", "build/bench")
    p:option("--program", "The dbrun that is measured (default: the one that runs this)."):argname "FILE"
    p:flag("--long", "Runs of 2 s, batch jobs and their faults in full, no limit of time.")
    p:flag("--quick", "Two pairs of half a second: does it work, not how fast is it.")
    p:flag("--list", "Show the workloads and exit.")
    return p
end

--- The workloads of this folder in the order of the table.
---@return bench.Workload[]
local function load_workloads()
    local list <const> = {}
    for _, name in ipairs(shell.glob(home .. "/workloads", "*.lua")) do
        local file <const> = home .. "/workloads/" .. name
        local workload <const> = dofile(file)
        workload.file = file
        runner.check(workload)
        list[#list + 1] = workload
    end
    table.sort(list, function(a, b) return a.order < b.order end)
    return list
end

--- The workloads that --only names. Raises an error of kind `usage` for a name that does not exist.
local function select(all, only)
    if not only then return all end
    local wanted <const>, list <const> = {}, {}
    for _, id in ipairs(only) do wanted[id:upper()] = true end
    for _, w in ipairs(all) do
        if wanted[w.id] then list[#list + 1] = w end
        wanted[w.id] = nil
    end
    local unknown <const> = next(wanted)
    if unknown then
        require "dbrun.error".raise {
            kind = "usage", message = "there is no workload " .. unknown, hint = "--list shows them",
        }
    end
    return list
end

local function facts_of(ctx, args)
    local cpu <const> = (shell.read "/proc/cpuinfo" or ""):match "model name%s*:%s*([^\n]+)" or "unknown processor"
    local cores <const> = shell.first_line { "nproc" } or "?"
    local v <const> = ctx.servers and ctx.servers.versions
    return {
        date = os.date "!%Y-%m-%d", machine = ("%s, %s cores"):format(cpu, cores),
        versions = v and ("PostgreSQL %s, Redis %s"):format(v.postgresql, v.redis) or "no servers",
        pairs = args.pairs, seconds = args.seconds,
    }
end

--- Roughly the seconds that a round of a workload takes.
local function weight(w, args)
    return w.round or (#w.ours + #w.others) * (args.seconds + 0.5)
end

--- A workload's share of the remaining time; time that it does not need is left for those after it.
local function share(list, at, args, ends)
    if not ends then return nil end
    local all = 0
    for i = at, #list do all = all + weight(list[i], args) end
    return (ends - task.now()) * weight(list[at], args) / all
end

--- Runs the workloads one after the other. With --long each has all of its pairs.
local function measure(ctx, list, args, ends)
    local results <const>, fewest = {}, args.pairs
    for i, w in ipairs(list) do
        local pairs <const> = args.long and args.pairs or math.min(w.pairs or args.pairs, args.pairs)
        local r <const> = runner.run(ctx, w, { pairs = pairs, limit = share(list, i, args, ends), note = cli.note })
        results[i], fewest = r, r.pairs > 0 and not r.failure and math.min(fewest, r.pairs) or fewest
    end
    return results, fewest
end

local function write_all(results, facts, dir)
    shell.must { "mkdir", "-p", dir }
    shell.write(dir .. "/bench.json", json.encode(report.document(results, facts), JSON_STYLE) .. "\n")
    shell.write(dir .. "/bench.md", report.markdown(results, facts))
    shell.write(dir .. "/bench.svg", picture.draw(results, facts))
end

--- Prints everything; returns the exit status.
local function tell(results, dir)
    for _, line in ipairs(report.lines(results)) do cli.print(line) end
    local failed = 0
    for _, r in ipairs(results) do
        for _, line in ipairs(r.missing) do cli.print(line) end
        if r.failure then
            failed = failed + 1
            cli.print(("%s failed: %s"):format(r.id, r.failure))
        end
    end
    local met <const>, all <const> = report.count(results)
    cli.print(("%d of %d targets met, %s; written to %s/bench.{json,md,svg}"):format(
        met, all, failed > 0 and cli.plural(failed, "failed run") or "all answers right", dir))
    return failed > 0 and cli.FAILED or cli.OK
end

--- Leaves out workloads that need servers when these cannot be started, and prints a line about it.
local function without_servers(list)
    local missing <const> = servers.missing()
    if not missing then return list, false end
    cli.print("PostgreSQL and Redis cannot be started, they need: apt-get install " .. missing)
    local rest <const> = {}
    for _, w in ipairs(list) do
        if w.alone then rest[#rest + 1] = w end
    end
    return rest, true
end

local function needs_servers(list)
    for _, w in ipairs(list) do
        if not w.alone then return true end
    end
    return false
end

local function run(args, list)
    local began <const> = task.now()
    local build <const> = args.output .. "/floor"
    shell.must { "mkdir", "-p", build }
    local tmp <close> = setmetatable({ dir = assert(shell.first_line { "mktemp", "-d" }) }, {
        __close = function(self) shell.run { "rm", "-rf", self.dir } end,
    })
    local ctx <const> = context.new {
        dbrun = args.program or require "dbrun.core".options.program, home = home, build = build, tmp = tmp.dir,
        seconds = args.seconds,
    }
    local up <close> = needs_servers(list) and servers.start(ctx) or nil
    ctx.servers = up
    local results <const>, fewest <const> = measure(ctx, list, args, args.within and began + args.within)
    local facts <const> = facts_of(ctx, args)
    facts.fewest = fewest
    write_all(results, facts, args.output)
    return tell(results, args.output)
end

os.exit(cli.main("bench", function()
    local args <const>, help <const> = cli.parse(parser(), arg)
    if not args then
        cli.print(help)
        return cli.OK
    end
    args.pairs = args.pairs or (args.quick and 2 or 5)
    args.seconds = args.seconds or (args.quick and 0.5 or args.long and 2 or 0.7)
    args.within = args.within or not args.long and 480 or nil
    local list <const> = select(load_workloads(), args.only)
    if args.list then
        for _, w in ipairs(list) do cli.print(("%-4s %s"):format(w.id, w.title)) end
        return cli.OK
    end
    local rest <const>, incomplete <const> = without_servers(list)
    if incomplete and #rest == 0 then return cli.FAILED end
    return run(args, rest)
end), true)
