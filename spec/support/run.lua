--- Runs the C tests and the busted specs, each file in a separate process, several in parallel.
--- Runs on a stock lua5.4, so that a broken dbrun cannot hide its own failures.
---
---   lua5.4 spec/support/run.lua [--build DIR] [--sanitizers | --valgrind] [--jobs N] [--seconds N] [FOLDER|FILE ...]
---
--- Most files wait for servers and deadlines most of the time. So at least FEWEST run in parallel, and up to MOST while
--- processors are idle; --jobs sets both.
---
--- With --valgrind all C tests run, and other files only when they are named. With --sanitizers a third of the files
--- whose work is done in Lua runs, a different third each time (IN_LUA). From DBRUN_TEST_UNTIL on (seconds since 1970)
--- no file is started: the rest counts as skipped. Details of failures are printed; the last line is
--- `N passed, N failed, N skipped`. Exit status 1 when anything failed or nothing ran.

local opts <const> = { build = "build", seconds = 600, paths = {} }
do
    local i = 1
    while i <= #arg do
        local a = arg[i]
        if a == "--build" or a == "--jobs" or a == "--seconds" then -- seconds: the limit for one file
            i = i + 1
            opts[a:sub(3)] = a ~= "--build" and assert(math.tointeger(arg[i]), a .. ": a number") or arg[i]
        elseif a == "--sanitizers" or a == "--valgrind" then
            opts[a:sub(3)] = true
        else
            opts.paths[#opts.paths + 1] = a
        end
        i = i + 1
    end
end

local FEWEST <const>, MOST <const> = opts.jobs or 4, opts.jobs or 12
local UNTIL <const> = tonumber(os.getenv "DBRUN_TEST_UNTIL") or math.huge

local function quote(s)
    return "'" .. s:gsub("'", "'\\''") .. "'"
end

local function read_file(path)
    local f <close> = io.open(path, "rb")
    return f and f:read "a" or ""
end

local function lines_of(command)
    local list = {}
    local p <close> = assert(io.popen(command))
    for line in p:lines() do
        list[#list + 1] = line
    end
    return list
end

-- The slowest files, the slowest first: they start first, so that none runs alone at the end.
local LONG <const> = {
    "spec/faults/redis/confirmed_spec.lua", "spec/faults/pg/each/frozen_spec.lua", "spec/faults/migrate_spec.lua",
    "spec/faults/pg/odd_replies_spec.lua", "spec/faults/redis/lock_spec.lua", "spec/faults/pg/statements_spec.lua",
    "spec/live/migrate/random_spec.lua", "spec/live/stack/up_spec.lua", "spec/faults/pg/limits_spec.lua",
    "spec/faults/pg/each/program_spec.lua", "spec/live/stack/command_spec.lua", "spec/live/pg/finaliser_spec.lua",
    "spec/unit/c/test_pg_memory.c", "spec/faults/pg/network_spec.lua", "spec/faults/verify_spec.lua",
    "spec/faults/pg/each/lost_spec.lua", "spec/live/migrate/import_spec.lua", "spec/faults/redis/deadline_spec.lua",
    "spec/unit/host/input_spec.lua", "spec/unit/manual/help_spec.lua", "spec/live/stack/links_spec.lua",
    "spec/faults/pg/storm_spec.lua", "spec/faults/pg/pooler_listen_spec.lua", "spec/live/scripts/testing_spec.lua",
    "spec/faults/redis/frozen_spec.lua", "spec/faults/pg/each/schema_spec.lua", "spec/faults/redis/cluster_spec.lua",
    "spec/live/pg/altered_spec.lua", "spec/faults/redis/sentinel_spec.lua", "spec/live/migrate/command_spec.lua",
    "spec/live/seed/command_spec.lua", "spec/live/migrate/hooks_spec.lua", "spec/live/pg/listen_spec.lua",
    "spec/faults/redis/freeze_spec.lua", "spec/live/pg/stale_spec.lua", "spec/faults/pg/each/limits_spec.lua",
    "spec/faults/redis/consume_spec.lua", "spec/live/migrate/dbmate_command_spec.lua",
    "spec/faults/redis/storm_spec.lua", "spec/faults/pg/flood_spec.lua", "spec/unit/process_streams_spec.lua",
    "spec/unit/host/end_spec.lua", "spec/live/stack/mark_spec.lua", "spec/live/redis/confirmed_spec.lua",
    "spec/live/redis/lock_spec.lua", "spec/live/batch/waits_spec.lua", "spec/live/migrate/blocks_spec.lua",
    "spec/live/batch/run_spec.lua", "spec/live/migrate/other_tools_spec.lua", "spec/live/migrate/between_spec.lua",
    "spec/live/verify/redis_spec.lua", "spec/faults/pg/soak_spec.lua", "spec/live/verify/schema_spec.lua",
    "spec/live/pg/values_spec.lua",
}

local tmp <const> = assert(lines_of("mktemp -d")[1], "mktemp failed")

-- Temporary folders, and with them the servers' data, are in memory when the machine has enough: a cluster has a
-- thousand files, and making and removing them is half the work of a server that lives a few seconds. The folder's
-- name ends with our process number, so that the next run can remove the folders of dead runs. When there is too
-- little memory, or TMPDIR is set already, nothing changes.
local IN_MEMORY <const> = [[
    [ -z "$TMPDIR" ] || exit 0
    grep '^[^ ]* /dev/shm tmpfs ' /proc/mounts | grep -qv noexec || exit 0
    for old in /dev/shm/dbrun-spec.*; do
        [ -d "$old" ] || continue
        case $(cat "/proc/${old##*.}/cmdline" 2>/dev/null | tr '\0' ' ') in
        *run.lua*) ;;
        *) rm -rf "$old" ;;
        esac
    done
    free=$(df -Pk /dev/shm | awk 'NR == 2 { print $4 }')
    available=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
    [ "${free:-0}" -gt 6291456 ] && [ "${available:-0}" -gt 8388608 ] || exit 0
    mkdir "/dev/shm/dbrun-spec.$PPID" && chmod 1777 "/dev/shm/dbrun-spec.$PPID" && echo "/dev/shm/dbrun-spec.$PPID"
]]
local in_memory <const> = lines_of(IN_MEMORY)[1]

-- Removes the folder at the end. When its pipe closes without a message, we were killed: then it also ends the servers
-- that work in the folder, which a killed spec file can leave.
local REMOVER <const> = [[
    trap '' INT TERM HUP
    folder=%s
    read -r word && rm -rf "$folder" && exit
    for _ in 1 2 3 4 5 6 7 8; do
        for cwd in /proc/[0-9]*/cwd; do
            pid=${cwd#/proc/}
            case $(readlink "$cwd") in "$folder"/*) kill -KILL "${pid%%/cwd}" ;; esac
        done
        rm -rf "$folder"
        sleep 1
    done 2>/dev/null]]
local remover <const> = in_memory and assert(io.popen(REMOVER:format(quote(in_memory)), "w"))
local root <const> = lines_of("pwd -P")[1]
local reports <const> = (opts.build:sub(1, 1) == "/" and "" or root .. "/") .. opts.build .. "/reports"

-- Adds the tools that `make test-deps` has installed for the specs (tools.sh), and PostgreSQL's programs: Debian's psql
-- and pg_dump are a Perl script, which takes four times as long to start.
local POSTGRES <const> = lines_of("ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1")[1]
local TOOLS <const> = quote(("PATH=%s/build/tools/node_modules/.bin:%s%s"):format(root,
    POSTGRES and POSTGRES .. ":" or "", os.getenv "PATH" or "/usr/bin:/bin"))

-- ---- the files to run ----

-- Folders of commands that are written in Lua: they take half of the time under the sanitizers, although they all run
-- the same C code, which other specs test. Without sanitizers all run; a file named on the command line always runs.
local IN_LUA <const> = {
    "^spec/live/migrate/", "^spec/live/seed/", "^spec/live/verify/", "^spec/live/stack/", "^spec/live/start/",
    "^spec/live/sql/", "^spec/live/manual/", "^spec/unit/migrate/", "^spec/unit/seed/", "^spec/unit/manual/",
    "^spec/unit/completion/", "^spec/unit/sql/", "^spec/faults/migrate_spec", "^spec/faults/verify_spec",
    "^spec/live/batch/", "^spec/unit/batch/", "^spec/faults/batch/",
}
local TURNS <const> = 3
local turn <const> = math.tointeger(tonumber(os.getenv "DBRUN_TEST_TURN")) or math.random(TURNS)

--- Whether this run includes the file, the n-th that was found.
local function has_its_turn(file, n)
    for _, pattern in ipairs(opts.sanitizers and IN_LUA or {}) do
        if file:find(pattern) then return n % TURNS == turn % TURNS end
    end
    return true
end

-- Absolute paths: programs that the tests start can run in another folder.
local PLACES <const> = TOOLS .. (in_memory and " TMPDIR=" .. in_memory or "")
local ENVIRONMENT <const> = PLACES .. (opts.sanitizers and table.concat({
    "",
    quote("ASAN_OPTIONS=detect_leaks=1:handle_abort=1:exitcode=99:log_path='" .. reports .. "/asan'"),
    quote("UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1:log_path='" .. reports .. "/ubsan'"),
    quote("LSAN_OPTIONS=suppressions='" .. root .. "/spec/support/lsan.supp':print_suppressions=0"),
}, " ") or "")

local function spec_command(path)
    return ("%s %s/dbrun /usr/bin/busted --ignore-lua -o TAP %s"):format(ENVIRONMENT, opts.build, quote(path))
end

local function c_command(path)
    if opts.valgrind then
        return "DBRUN_TEST_OPS=20000 valgrind -q --error-exitcode=1 --leak-check=full --errors-for-leak-kinds=definite "
            .. quote(path)
    end
    return ENVIRONMENT .. " " .. quote(path)
end

local function collect()
    local jobs, c_sources = {}, {}
    if opts.valgrind then
        c_sources = lines_of "ls spec/unit/c/test_*.c"
    end
    for _, path in ipairs(opts.paths) do
        table.move(lines_of("find " .. quote(path) .. " -path '*/unit/c/test_*.c' | sort"), 1, 1000, #c_sources + 1,
            c_sources)
        for n, file in ipairs(lines_of("find " .. quote(path) .. " -name '*_spec.lua' | sort")) do
            if file == path or has_its_turn(file, n) then
                jobs[#jobs + 1] = { name = file, kind = "spec", command = spec_command(file) }
            end
        end
    end
    for i, source in ipairs(c_sources) do
        local program = opts.build .. "/test/" .. source:match "([^/]+)%.c$"
        table.insert(jobs, i, { name = source, kind = "c", command = c_command(program) })
    end
    local rank <const> = {}
    for i, name in ipairs(LONG) do
        assert(io.open(name)):close() -- fails when a renamed file is still in the list
        rank[name] = i
    end
    for i, job in ipairs(jobs) do -- with a time limit at random: each run leaves out different files
        job.rank = rank[job.name] or #LONG + (UNTIL < math.huge and 1 + math.random() or i)
    end
    table.sort(jobs, function(a, b) return a.rank < b.rank end)
    return jobs
end

-- ---- reading results ----

--- Parses TAP as busted prints it: counts, and the lines about failures.
local function judge_spec(job)
    local planned, seen, failing
    seen = 0
    for line in job.output:gmatch "[^\n]+" do
        if line:match "^ok %d+ %- # SKIP" then
            job.skipped, seen, failing = job.skipped + 1, seen + 1, false
            job.details[#job.details + 1] = "  skipped: " .. line:match "# SKIP (.*)"
        elseif line:match "^ok %d+ %- " then
            job.passed, seen, failing = job.passed + 1, seen + 1, false
        elseif line:match "^not ok %d+ %- " then
            job.failed, seen, failing = job.failed + 1, seen + 1, true
            job.details[#job.details + 1] = "  " .. line
        elseif line:match "^1%.%.%d+$" then
            planned, failing = math.tointeger(line:sub(4)), false
        elseif failing then
            job.details[#job.details + 1] = "  " .. line
        end
    end
    if planned ~= seen or seen == 0 then
        return seen == 0 and "no test ran" or "it ended before its last test"
    end
end

local function judge_c(job)
    -- Anchored: otherwise the search starts anew at each byte of a crashed program's output, which can take minutes.
    local passed, failed = job.output:match "^.*: (%d+) passed, (%d+) failed"
    if not passed then
        return "it ended before its last test"
    end
    job.passed, job.failed = math.tointeger(passed), math.tointeger(failed)
    if job.passed + job.failed == 0 then
        return "no test ran"
    end
end

local function judge(job)
    job.passed, job.failed, job.skipped, job.details = 0, 0, 0, {}
    local wrong = (job.kind == "c" and judge_c or judge_spec)(job)
    if job.status == 124 or job.status == 137 then
        wrong = ("it did not end within %d s"):format(opts.seconds)
    elseif not wrong and job.status ~= 0 and job.failed == 0 then
        wrong = "exit status " .. job.status
    end
    if wrong then
        job.failed = job.failed + 1
        job.details[#job.details + 1] = "  " .. wrong
    end
    if wrong or (job.kind == "c" and job.failed > 0) then
        job.details[#job.details + 1] = (job.output:gsub("[^\n]+", "  | %0"))
    end
end

-- ---- running ----

-- Each job writes its number into this pipe when it ends, so that the next one starts at once; the clock writes 0.
local ended <const> = tmp .. "/ended"
assert(os.execute("mkfifo " .. quote(ended)), "mkfifo failed")
local done <const> = assert(io.open(ended, "r+"))

-- timeout has its own process group, which Ctrl-C does not reach: so each file ends when we end, for whatever reason.
local WITH_PARENT <const> = "setpriv --pdeathsig TERM"

-- Writes 0 twice a second, for the check for idle processors. It ends when we end.
local CLOCK <const> = ("echo $$; exec >%s; while sleep 0.5; do echo 0; done"):format(quote(ended))
local clock <const> = assert(io.popen(("exec %s sh -c %s"):format(WITH_PARENT, quote(CLOCK))))
local clock_pid <const> = clock:read "n"

local looked <const> = { idle = 0, all = 0 }

--- The share of idle processor time since the last call; 0 when the system does not report it.
local function idle_share()
    local all, idle, n = 0, 0, 0
    for ticks in (read_file "/proc/stat":match "^cpu +([^\n]*)" or ""):gmatch "%d+" do
        n = n + 1
        all = all + (n <= 8 and tonumber(ticks) or 0) -- the later fields are included in these
        idle = n == 4 and tonumber(ticks) or idle
    end
    local share <const> = (idle - looked.idle) / math.max(1, all - looked.all)
    looked.idle, looked.all = idle, all
    return share
end

local function start(job, index)
    job.path = ("%s/%d"):format(tmp, index)
    local command = ("%s timeout -k 5 %d env -u DBRUN_TEST_UNTIL %s >%s 2>&1 </dev/null; echo $?; "
        .. "date +%%s.%%N; echo %d 1<>%s"):format(
        WITH_PARENT, opts.seconds, job.command, job.path, index, quote(ended))
    command = ("exec %s sh -c %s"):format(WITH_PARENT, quote(command))
    job.began = tonumber(lines_of("date +%s.%N")[1])
    job.pipe = assert(io.popen(command))
end

local function finish(job)
    job.status = math.tointeger(job.pipe:read "n")
    job.seconds = job.pipe:read "n" - job.began
    job.pipe:close()
    job.output = read_file(job.path)
    os.remove(job.path)
    judge(job)
    print(("%-4s %-44s %4d passed%s%s  %6.2f s"):format(job.failed == 0 and "ok" or "FAIL", job.name, job.passed,
        job.failed > 0 and (", %d failed"):format(job.failed) or "",
        job.skipped > 0 and (", %d skipped"):format(job.skipped) or "", job.seconds))
    for _, line in ipairs(job.details) do
        print(line)
    end
    io.stdout:flush()
end

--- Every report of a sanitizer is a failure, even from a child process that no test checks.
local function judge_reports(sum)
    for _, path in ipairs(lines_of("ls " .. quote(reports) .. "/* 2>/dev/null")) do
        sum.failed = sum.failed + 1
        print("FAIL " .. path)
        print((read_file(path):gsub("[^\n]+", "  | %0")))
    end
end

os.execute(("rm -rf %s && mkdir -p %s"):format(quote(reports), quote(reports)))
-- A program looks for the scripts beside its own folder; a build in another place has none there.
os.execute(("cd %s/.. && test -e scripts || ln -s %s/scripts scripts"):format(quote(opts.build), quote(root)))
local jobs <const> = collect()
if opts.sanitizers then
    print(("of the files about work in Lua every %drd runs: DBRUN_TEST_TURN=%d"):format(TURNS, turn))
end
local sum <const> = { passed = 0, failed = 0, skipped = 0 }
local started, running = 0, 0
local function start_next()
    if started < #jobs and os.time() < UNTIL then
        started, running = started + 1, running + 1
        start(jobs[started], started)
    end
end
for _ = 1, FEWEST do
    start_next()
end
idle_share()
while running > 0 do
    local going <const>, index <const> = pcall(done.read, done, "n")
    if not going then -- Ctrl-C; closing the Lua state would wait for the files
        os.exit(130)
    end
    local job <const> = jobs[index]
    if job then
        finish(job)
        running = running - 1
        for key in pairs(sum) do
            sum[key] = sum[key] + job[key]
        end
    end
    local idle <const> = not job and idle_share() or 0
    if running < FEWEST or running < MOST and idle > 0.2 then
        start_next()
    end
end
for i = started + 1, #jobs do
    sum.skipped = sum.skipped + 1
    print(("skip %-44s the time of this run was over (DBRUN_TEST_UNTIL)"):format(jobs[i].name))
end
if opts.sanitizers then
    judge_reports(sum)
end
os.execute("kill " .. clock_pid)
clock:close()
os.remove(ended)
os.remove(tmp)
if remover then
    remover:write "done\n"
    remover:close()
end
if sum.passed == 0 and sum.failed == 0 then
    print "nothing ran"
    sum.failed = 1
end
print(("%d passed, %d failed, %d skipped"):format(sum.passed, sum.failed, sum.skipped))
os.exit(sum.failed == 0)
