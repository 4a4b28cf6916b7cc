--- The commands of the prompt that repeat, explain, and lead elsewhere: \watch, \plan, \psql, \help.
local core = require "dbrun.core"
local errors = require "dbrun.error"
local process = require "dbrun.process"
local task = require "dbrun.task"
local tty = require "dbrun.tty"

local function last(session, name)
    if not session.last_sql then errors.fail("usage", ("\\%s: no statement has been run yet"):format(name)) end
    return session.last_sql
end

--- As in psql, it repeats any statement. It ends with Ctrl-C, or when the statement fails.
local function watch(session, argument)
    local seconds <const> = argument == "" and 2 or tonumber(argument)
    if not seconds or seconds ~= seconds or seconds < 0.1 or seconds > 86400 then
        errors.fail("usage", "\\watch: expected seconds, 0.1 to 86400", "\\watch 5")
    end
    local sql <const> = last(session, "watch")
    while session:run(sql) ~= false do task.sleep(seconds) end
end

local function ask(conn, sql, values)
    if values == nil then return conn:query(sql) end
    return conn:query(sql, values)
end

local ROLLED_BACK <const> = {}

--- Runs the statement and rolls it back: in an open transaction by a savepoint, so that the transaction goes on.
local function analyze(conn, sql, values)
    local result
    local _, problem <const> = pcall(conn.transaction, conn, function(tx)
        result = ask(tx, "explain (analyze, buffers) " .. sql, values)
        error(ROLLED_BACK, 0)
    end)
    if problem ~= ROLLED_BACK then error(problem, 0) end
    return result
end

local function plan(session, argument)
    if argument ~= "" and argument ~= "analyze" then
        errors.fail("usage", "\\plan: expected nothing, or analyze",
            "\\plan analyze runs the statement and rolls it back.")
    end
    local sql <const> = last(session, "plan")
    local conn <const>, values <const> = session:conn(), session:parameters(sql)
    local result <const> = argument == "analyze" and analyze(conn, sql, values) or ask(conn, "explain " .. sql, values)
    local lines = {}
    for i, row in ipairs(result) do lines[i] = tty.printable(row["QUERY PLAN"]) end
    session:write(table.concat(lines, "\n"))
end

--- The address without its secrets, which a list of processes would show, and the environment with the password.
local function psql(_, argument)
    if argument ~= "" then errors.fail("usage", "\\psql takes no arguments", "Type them in psql.") end
    local url <const>, config <const> = require "dbrun.url", require "dbrun.config"
    local program <const> = require "dbrun.stack.clients".find { "psql" }
    if not program then
        errors.fail("config", "psql is not installed (it was not found in PATH)",
            "install it (Debian: apt-get install postgresql-client)")
    end
    local address <const>, env = config.async_database_url, {}
    local parsed <const> = address and url.parse_postgres(address, "the database's URL") or nil
    if parsed then
        env.PGPASSWORD, parsed.password, parsed.params.sslpassword = parsed.password, nil, nil
    end
    -- Ctrl-C belongs to psql while it runs.
    task.shield(function()
        process.run { program, parsed and "--dbname=" .. url.build_postgres(parsed) or nil, env = env,
            stdin_from = "inherit", stdout = "inherit", stderr = "inherit" }
    end)
end

local function help(_, argument)
    local command <const> = {
        core.options.program, "help", stdin_from = "inherit", stdout = "inherit", stderr = "inherit",
    }
    for word in argument:gmatch "%S+" do command[#command + 1] = word end
    task.shield(process.run, command) -- Ctrl-C belongs to the pager while it runs; help reports unknown topics itself
end

return {
    watch = { usage = "\\watch [S]", summary = "the last statement again every S seconds (2), until Ctrl-C",
        run = watch },
    plan = { usage = "\\plan [analyze]", summary = "the plan of the last statement; analyze runs it and rolls it back",
        run = plan },
    psql = { usage = "\\psql", summary = "psql on the same server", run = psql },
    help = { usage = "\\help [TOPIC]", summary = "the manual", run = help },
}
