-- The contenders of a comparison: dbrun itself, the floors in C, the peers. A contender is a name and a
-- function that runs it once and returns a sample.
local json <const> = require "dbrun.json"
local shell <const> = require "bench.lib.shell"
local stats <const> = require "bench.lib.stats"

local M = {}

---@class bench.Sample
---@field rate? number    -- operations per second
---@field time number     -- seconds per operation (or of the whole process)
---@field cpu? number     -- seconds of client CPU per operation
---@field memory number   -- bytes, the largest resident set, or what the workload measured itself
---@field wrong? integer   -- rows that were not done exactly once

---@class bench.Contender
---@field name string
---@field kind "ours"|"peer"|"floor"
---@field run fun(ctx: bench.Context, workload: bench.Workload): bench.Sample
---@field missing? fun(ctx: bench.Context): string|nil  -- what to install, when it is not there
---@field of? string       -- the contender of ours to compare it with, when no target names it (the first)

--- Turns the line that a measuring program prints into a sample. Raises when an answer was wrong, or when no
--- answer was checked.
---@param text string
---@param run bench.Run
---@return bench.Sample
function M.sample(text, run)
    local line <const> = text:match "(%b{})%s*$"
    if not line then error("no result line in: " .. text, 0) end
    local r <const> = json.decode(line)
    if r.errors ~= 0 then error(("%d wrong answers of %d"):format(r.errors, r.ops), 0) end
    if not (r.ops > 0 and r.checks > 0 and r.seconds > 0) then error("nothing was done or checked: " .. line, 0) end
    return {
        rate = r.ops / r.seconds, time = r.seconds / r.ops, cpu = r.cpu_us_per_op * 1e-6,
        memory = r.bytes or run.rss_kib * 1024,
        ops = r.ops,
    }
end

--- dbrun, which runs the function `measure[variant]` of the workload's file in a separate process.
---@param name string     -- for the table
---@param variant string
---@param limit? number   -- seconds after which it is killed
---@return bench.Contender
function M.ours(name, variant, limit)
    return {
        name = name, kind = "ours",
        run = function(ctx, workload)
            local out <const>, runs <const> = ctx:measure({
                ctx.dbrun, "--no-env", ctx.home .. "/child.lua", workload.file, variant, ctx.seconds,
            }, { limit = limit })
            return M.sample(out, runs[1])
        end,
    }
end

--- A program of floor/, which prints a result line.
---@param spec { name?: string, source: string, link?: string[], argv: fun(ctx: bench.Context): (string|number)[] }
---@return bench.Contender
function M.floor(spec)
    return {
        name = spec.name or "floor in C", kind = "floor",
        missing = function()
            if not shell.which "cc" then return "gcc" end
            if not shell.which "pg_config" then return "libpq-dev" end
        end,
        run = function(ctx)
            local argv <const> = { ctx:compile(spec.source, spec.link) }
            local more <const> = spec.argv(ctx)
            table.move(more, 1, #more, 2, argv)
            local out <const>, runs <const> = ctx:measure(argv)
            return M.sample(out, runs[1])
        end,
    }
end

M.PYTHON = "/usr/bin/python3"

--- The missing Debian packages of some Python modules.
---@param modules table<string, string>  -- module = package
---@return string|nil
function M.python_missing(modules)
    if not shell.exists(M.PYTHON) then return "python3" end
    local missing <const> = {}
    for module, package in pairs(modules) do
        local _, status = shell.run { "sh", "-c", '"$0" -c "import $1" 2>/dev/null', M.PYTHON, module }
        if status ~= 0 then missing[#missing + 1] = package end
    end
    table.sort(missing)
    return missing[1] and table.concat(missing, " ")
end

--- A Python program of peers/, which prints a result line.
---@param spec { name: string, file: string, args?: (string|number)[], modules: table<string, string> }
---@return bench.Contender
function M.python(spec)
    return {
        name = spec.name, kind = "peer",
        missing = function() return M.python_missing(spec.modules) end,
        run = function(ctx)
            local argv <const> = { M.PYTHON, "-B", ctx.home .. "/peers/" .. spec.file, ctx.seconds }
            for _, a in ipairs(spec.args or {}) do argv[#argv + 1] = a end
            local out <const>, runs <const> = ctx:measure(argv)
            return M.sample(out, runs[1])
        end,
    }
end

--- A program whose whole process is timed; a sample is the median of `runs` runs.
---@param spec { name: string, kind: string, runs: integer, argv: fun(ctx: bench.Context): (string|number)[],
---    missing?: fun(ctx: bench.Context): string|nil }
---@return bench.Contender
function M.process(spec)
    return {
        name = spec.name, kind = spec.kind, missing = spec.missing,
        run = function(ctx)
            local _, runs <const> = ctx:measure(spec.argv(ctx), { runs = spec.runs, quiet = true })
            local wall <const>, cpu <const>, memory <const> = {}, {}, {}
            for i, r in ipairs(runs) do wall[i], cpu[i], memory[i] = r.wall, r.cpu, r.rss_kib * 1024 end
            return { time = stats.median(wall), cpu = stats.median(cpu), memory = stats.median(memory) }
        end,
    }
end

return M
