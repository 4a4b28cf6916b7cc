--- Checks of risks that are easily overlooked: numbers that run out, locks that others wait for, settings that lose
--- data, rules that are switched off. All judge the facts of dbrun.verify.facts.
local cli = require "dbrun.command_line"
local core = require "dbrun.core"
local limits = require "dbrun.verify.limits"
local server_check = require "dbrun.verify.server_check"

local M = {}

---@type dbrun.verify.Check[]
M.list = {}

local check <const> = server_check.adder(M.list)

local RANK <const> = { PASS = 0, WARN = 1, FAIL = 2 }

---A check of a list of names, judged by their number.
---@param noun { [1]: string, good: string } what they are; what an empty list means
local function names(name, about, group, list_of, noun, consequence, ...)
    local remedy <const> = { ... }
    check(name, about, function(ctx, server)
        local list = list_of(server)
        local status = limits.judge(ctx, "postgres." .. name, #list)
        local text = #list == 0 and noun.good or cli.plural(#list, noun[1])
        if status == "PASS" then return text end
        return { status = status, text = text, remedy = remedy,
            cause = ("%s\n%s"):format(table.concat(list, "\n"), consequence) }
    end, { group })
end

-- ---- what others wait for ----

check("locks", "no session waits long for a lock", function(ctx, server)
    local worst, causes, blocker, unknown = "PASS", {}, nil, 0
    for _, row in ipairs(server.waiting) do
        local waits = type(row[2]) == "string" and tonumber(row[2])
        if not waits then unknown = unknown + 1 end -- before PostgreSQL 14 only its own role sees the start of the wait
        waits = waits or 0
        local status = limits.judge(ctx, "postgres.locks", waits)
        if RANK[status] > RANK[worst] then worst = status end
        if status ~= "PASS" then
            local by = type(row[4]) == "string" and row[4] ~= "" and row[4] or "unknown"
            blocker = blocker or by:match "^%d+"
            causes[#causes + 1] = ("backend %s has waited %s%s for backend %s"):format(row[1], cli.duration(waits),
                type(row[3]) == "string" and " at " .. row[3] or "", by)
        end
    end
    local text = #server.waiting == 0 and "nobody waits" or cli.plural(#server.waiting, "session") .. " waiting"
    if #causes == 0 then return server_check.seen(server, text, nil, unknown) end
    return { status = worst, text = text, cause = table.concat(causes, "\n"), remedy = {
        blocker and ("select * from pg_stat_activity where pid = %s; then: select pg_terminate_backend(%s)"):format(
            blocker, blocker) or "select * from pg_locks where not granted",
        "set lock_timeout for migrations, idle_in_transaction_session_timeout for programs",
    } }
end, { "locks" })

check("prepared_transactions", "no prepared transaction is left open", function(ctx, server)
    local oldest = server.prepared[1]
    if not oldest then return "no prepared transaction" end
    local age = tonumber(oldest[2]) or 0
    local text = ("%s, the oldest is open for %s"):format(cli.plural(#server.prepared, "prepared transaction"),
        cli.duration(age))
    local status, limit = limits.judge(ctx, "postgres.prepared_transactions", age)
    if not limit then return text end
    return { status = status, text = text,
        cause = ("'%s' of %s in %s is open for more than %g s: it keeps its locks, and vacuum waits for it"):format(
            oldest[1], tostring(oldest[3]), tostring(oldest[4]), limit),
        remedy = { ("rollback prepared '%s';   (or commit prepared, in that database)"):format(
            (oldest[1]:gsub("'", "''"))),
            "what has made it has lost it: look for its program's log" } }
end, { "prepared" })

---The command that ends the hold, by the kind of its holder.
local function release(kind, name)
    if kind:find "slot" then
        return ("start what reads it, or: select pg_drop_replication_slot('%s')"):format((name:gsub("'", "''")))
    elseif kind:find "prepared" then
        return ("rollback prepared '%s';"):format((name:gsub("'", "''")))
    elseif kind:find "standby" then
        return "end the long query on that standby (select * from pg_stat_replication), or hot_standby_feedback = off"
    end
    return ("select pg_terminate_backend(%s)"):format(name)
end

check("xmin_horizon", "nothing keeps vacuum from removing old rows", function(ctx, server)
    local holder = server.horizon
    local old = holder and tonumber(holder[3]) or 0
    local text = holder and ("%s transactions are held"):format(cli.count(math.tointeger(old) or 0))
        or "nothing holds it back"
    local status, limit = limits.judge(ctx, "postgres.xmin_horizon", old)
    if not limit then return text end
    local kind, name = holder[1], holder[2]
    return { status = status, text = text,
        cause = ("%s %s holds rows that were removed up to %s transactions ago"):format(kind, name,
            cli.count(math.tointeger(old) or 0)),
        remedy = { release(kind, name) } }
end, { "xmin_horizon" })

-- ---- what runs out ----

check("sequences", "sequences, and the columns that they fill, have numbers left", function(ctx, server)
    local worst, causes, text = "PASS", {}, "no sequence is used"
    for i, row in ipairs(server.sequences) do
        local share = tonumber(row[4]) or 0
        local line = ("%s: %.1f %% used (%.0f of %.0f)"):format(row[1], share * 100, tonumber(row[2]),
            tonumber(row[3]))
        if i == 1 then text = line end
        local status = limits.judge(ctx, "postgres.sequences", share)
        if RANK[status] > RANK[worst] then worst = status end
        if status ~= "PASS" then causes[#causes + 1] = line end
    end
    if #causes > 0 then
        return { status = worst, text = text, cause = table.concat(causes, "\n") .. "\nthen inserting fails",
            remedy = { "alter table TABLE alter column ID type bigint   (this rewrites the table)",
                "alter sequence SEQUENCE as bigint" } }
    end
    if #server.unread == 0 then return text end
    local remedy = {}
    local role, schemas = server_check.ident(server.role), table.concat(server.unread, ", ")
    for i, schema in ipairs(server.unread) do
        remedy[i] = ("grant select on all sequences in schema %s to %s;"):format(schema, role)
    end
    return { status = "WARN", text = text, remedy = remedy,
        cause = ("cannot see sequences in %s: no SELECT for %s"):format(schemas, server.role) }
end, { "sequences" })

---The last day on which a version is supported, as seconds since 1970.
local ENDS <const> = {
    [9] = "2021-11-11", [10] = "2022-11-10", [11] = "2023-11-09", [12] = "2024-11-21", [13] = "2025-11-13",
    [14] = "2026-11-12", [15] = "2027-11-11", [16] = "2028-11-09", [17] = "2029-11-08", [18] = "2030-11-14",
}

check("end_of_life", "the server's version still gets corrections", function(ctx, server)
    local major = tonumber(server.version:match "^%d+")
    local ends = ENDS[major]
    if not ends then return ("the end of version %s is not known here"):format(server.version:match "^%d+" or "?") end
    local year, month, day = ends:match "(%d+)-(%d+)-(%d+)"
    local last = os.time { year = tonumber(year), month = tonumber(month), day = tonumber(day), hour = 12 }
    local past = ((server.clock or os.time()) - last) / 86400
    local status = limits.judge(ctx, "postgres.end_of_life", past)
    local text = ("%d: corrections until %s"):format(major, ends)
    if status == "PASS" then return text end
    return { status = status, text = text, cause = ("PostgreSQL %d got its last correction on %s"):format(major, ends),
        remedy = { "upgrade to a version that is supported: pg_upgrade, or a logical replica" } }
end)

-- ---- what loses data ----

check("archiving", "the WAL is archived, where that is switched on", function(ctx, server)
    local mode = server.settings[5]
    if mode == "off" or mode == "" then return "archive_mode is off" end
    if server.standby and mode ~= "always" then return "the primary archives" end
    if server.settings[8] == "" and server.settings[9] == "" then
        return { status = "WARN", text = "archive_mode is on, and nothing archives",
            cause = "neither archive_command nor archive_library is set: WAL stays in pg_wal until the disk is full",
            remedy = { "set archive_command, or archive_mode = off; archive_command = '/bin/true' keeps no WAL" } }
    end
    if not server.archiving then return "nothing fails" end
    local fails, file, failures = tonumber(server.archiving[1]) or 0, server.archiving[2], server.archiving[3]
    local status, limit = limits.judge(ctx, "postgres.archiving", fails)
    local text = ("no success for %s"):format(cli.duration(fails))
    if not limit then return text end
    return { status = status, text = text,
        cause = ("archiving %s fails, %s times so far: WAL stays in pg_wal until the disk is full"):format(
            tostring(file), failures),
        remedy = { "the server's log has the output of archive_command; select * from pg_stat_archiver" } }
end, { "settings", "recovery", "archiving" })

check("checksums", "no block had a wrong checksum", function(ctx, server)
    local failures = server.checksum_failures
    if not failures then return "data checksums are off" end
    local status = limits.judge(ctx, "postgres.checksums", failures)
    local text = failures == 0 and "none failed" or ("%s failed"):format(cli.count(failures))
    if status == "PASS" then return text end
    return { status = status, text = text, cause = "blocks on disk were not as they had been written",
        remedy = { "look for 'page verification failed' in the server's log; restore from a backup on other disks" } }
end, { "checksums" })

---The consequences without them.
local OFF <const> = {
    fsync = "a crash of the machine may ruin the database",
    full_page_writes = "a crash of the machine while a page is written may ruin the database",
    autovacuum = "tables grow, and their statistics are wrong",
    track_counts = "autovacuum does not know what to do: tables grow, and their statistics are wrong",
}

---Settings that can ruin a database, after a crash or even without one. A private server of `dbrun stack` may have
---them.
check("settings", "settings that protect the data are on", function(_, server)
    local off, private = {}, next(core.options.overlay or {}) ~= nil
    for i, name in ipairs { "fsync", "full_page_writes", "autovacuum", "track_counts" } do
        if server.settings[i] == "off" then off[#off + 1] = name end
    end
    if #off == 0 then return "fsync, full_page_writes, autovacuum and track_counts are on" end
    local text = table.concat(off, ", ") .. " off"
    if private and #off == 1 and off[1] == "fsync" then return text .. ": a private server" end
    local causes, remedy = {}, {}
    for i, name in ipairs(off) do
        causes[i] = ("%s: %s"):format(name, OFF[name])
        remedy[i] = ("alter system set %s = on;"):format(name)
    end
    remedy[#remedy + 1] = "select pg_reload_conf();"
    return { status = "WARN", text = text, cause = table.concat(causes, "\n"), remedy = remedy }
end, { "settings" })

check("pending_restart", "no changed setting waits for a restart", function(ctx, server)
    local list, text = server.pending, "no setting waits for a restart"
    if #list > 0 then text = cli.plural(#list, "setting") end
    local status = limits.judge(ctx, "postgres.pending_restart", #list)
    if status ~= "PASS" then
        return { status = status, text = text, remedy = { "restart the server, or take the change back" },
            cause = ("%s\nthe server runs with their old values"):format(table.concat(list, "\n")) }
    end
    if server.all_settings then return text end
    return { status = "WARN", text = text .. ", as far as this role can see",
        cause = ("cannot see settings that only superusers see, such as shared_preload_libraries: hidden from %s")
            :format(server.role),
        remedy = { ("grant pg_monitor to %s;"):format(server_check.ident(server.role)) } }
end, { "pending_restart" })

names("collation", "collations have the version that indexes were built with", "collations", function(server)
    local list = { table.unpack(server.collations) }
    if server.database_collation then table.insert(list, 1, server.database_collation) end
    return list
end, { "collation", good = "all have the version of their library" },
    "texts may sort in another order now: indexes on them miss rows, unique ones let copies in",
    "reindex database ...; then: alter database ... refresh collation version (or alter collation ... refresh version)")

-- ---- what is switched off ----

check("unchecked", "no constraint is left NOT VALID, no trigger disabled", function(ctx, server)
    local list, remedy = {}, {}
    local function add(line, todo)
        list[#list + 1] = line
        if not remedy[todo] then remedy[#remedy + 1], remedy[todo] = todo, true end
    end
    for _, rule in ipairs(server.unvalidated) do
        if rule[2] == "false" then -- PostgreSQL 18
            add(rule[1] .. " is not enforced", "alter table TABLE alter constraint NAME enforced   "
                .. "(only foreign keys; drop a check, and add it again)")
        else
            add(rule[1] .. " is not validated", "alter table TABLE validate constraint NAME")
        end
    end
    for _, name in ipairs(server.disabled) do
        add(name .. " is disabled", "alter table TABLE enable trigger NAME")
    end
    local status = limits.judge(ctx, "postgres.unchecked", #list)
    local text = #list == 0 and "all constraints are validated, all triggers are on" or cli.plural(#list, "rule")
    if status == "PASS" then return text end
    return { status = status, text = text, remedy = table.move(remedy, 1, #remedy, 1, {}),
        cause = table.concat(list, "\n") .. "\nrows may break them" }
end, { "unchecked" })

names("autovacuum", "large tables have been analyzed", "autovacuum", function(server) return server.unanalyzed end,
    { "table", good = "all large tables are analyzed" }, "the planner guesses how many rows they have",
    "analyze TABLE; is autovacuum on for it?")

names("replica_identity", "rows of published tables can be told apart", "replica_identity",
    function(server) return server.unidentified end, { "table", good = "every published table has an identity" },
    "UPDATE and DELETE on them fail",
    "alter table TABLE add primary key (...), or: alter table TABLE replica identity full")

check("encryption", "the connection is encrypted, or does not leave this machine", function(ctx, server)
    if server.encrypted then return "encrypted" end
    if not server.remote then return "not encrypted, within this machine" end
    local status = limits.judge(ctx, "postgres.encryption", 1)
    if status == "PASS" then return "not encrypted" end
    return { status = status, text = "not encrypted", cause = "passwords and rows can be read on the way",
        remedy = { "sslmode=verify-full in DATABASE_URL; ssl = on in the server's postgresql.conf" } }
end, { "sessions", "remote" })

return M
