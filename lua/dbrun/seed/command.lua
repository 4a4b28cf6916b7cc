--- The command line of seeds.
local cli = require "dbrun.command_line"

local M = {}

local EXAMPLES <const> = {
    "dbrun seed                          run all, in the order of their names",
    "dbrun seed --only sources           one (or several: a,b)",
    "dbrun seed --env staging            those of scripts/seeds/staging too",
    "dbrun seed --force --only sources   run again, although it has not changed",
    "dbrun seed --dry-run                run all, then roll back",
    "dbrun --stack seed                  on the private servers of this project",
}

local EPILOG <const> = [[
A seed is an SQL file, or a Lua file that returns function(ctx) or {description=, after={NAME ...},
always=, run=function(ctx)}. It runs in a transaction, ctx.db; ctx.upsert(table, key_columns, rows),
ctx.redis, ctx.config, ctx.random (the same numbers in every run), ctx.progress and ctx.force are
there too. The table dbrun_seeds notes what ran: a seed runs again when its file changes.
The database is DATABASE_URL (dbrun config shows it).
Exit status: 0 done, 1 a seed failed, 2 wrong usage or configuration.]]

local function parser()
    local p = cli.parser {
        name = "dbrun seed",
        description = "Fill a database with data: safe to run again.",
        examples = EXAMPLES,
        epilog = EPILOG,
    }
    p:option("--dir", "Folder with seeds (default: DBRUN_SEEDS_DIR, scripts/seeds)."):argname "FOLDER"
    p:option("--env", "Run the seeds of this sub-folder too, after the others."):argname "NAME"
    p:option("--only", "Run these only; names as in 010_sources or sources."):argname "NAME,..":convert(cli.list)
    p:flag("--dry-run", "Roll everything back at the end.")
    p:flag("--force", "Run unchanged seeds too, with ctx.force set so that they make their data again.")
    p:option("--hooks", "Folder with hooks (default: DBRUN_HOOKS_DIR, scripts/hooks)."):argname "FOLDER"
    p:option("--target", "The name of the database: a protected one (DBRUN_PROTECTED) is refused without it.")
        :argname "NAME"
    p:flag("--quiet", "Leave out the server's messages (NOTICE, WARNING) about the seeds.")
    p:flag("--list", "List the seeds and run none.")
    return p
end

---Describes a seed's result.
local function remark(result)
    if math.type(result) == "integer" then return cli.plural(result, "row") end
    return result and tostring(result) or ""
end

---@param args { quiet?: boolean }
local function console(args)
    local style = cli.style(1)
    return {
        target = function(target)
            cli.report("Target: ", style.bold(target))
            io.stdout:flush()
        end,
        notice = not args.quiet and function(path, line, notice)
            require("dbrun.migrate.show.notices").show(path, line, notice)
        end or nil,
        done = function(seed)
            local name <const> = cli.one_line(seed.name)
            local row = { "seeded", name, cli.one_line(remark(seed.result)), style.dim(cli.duration(seed.seconds)) }
            if seed.unchanged then row = { "unchanged", name } end
            cli.report(cli.table({ row })[1])
            io.stdout:flush()
        end,
    }
end

local function list(args)
    local files = require "dbrun.seed.files"
    local dir = args.dir or require("dbrun.config").DBRUN_SEEDS_DIR
    local rows = {}
    for i, file in ipairs(files.list(dir, args.env)) do
        local seed = files.load(file)
        local after = seed.after and #seed.after > 0 and ("after " .. table.concat(seed.after, ", ")) or nil
        rows[i] = { file.name, seed.description or after or "", seed.description and after }
    end
    for _, line in ipairs(cli.table(rows)) do cli.report(line) end
    return cli.OK
end

local function run(args, seed)
    local done = seed.run {
        dir = args.dir, env = args.env, only = args.only, dry_run = args.dry_run, force = args.force,
        target = args.target, hooks = args.hooks,
        listener = console(args),
    }
    if args.dry_run then
        local code = false
        for _, one in ipairs(done) do code = code or not one.sql end
        cli.print(("%s ran; %s (--dry-run)."):format(cli.plural(#done, "seed"),
            code and "nothing written through ctx.db was kept" or "nothing was kept"))
    end
    return cli.OK
end

---@param argv string[]
---@param seed table the module dbrun.seed
---@return integer status
function M.main(argv, seed)
    return cli.main("seed", function()
        local args, help = cli.parse(parser(), argv)
        if not args then
            cli.print(help)
            return cli.OK
        end
        return (args.list and list or run)(args, seed)
    end)
end

return M
