--- Repeated verification: the whole report once, then a line for each check whose status changed. Formats for programs
--- are printed completely each time.
local cli = require "dbrun.command_line"
local task = require "dbrun.task"

local M = {}

local COLOURS <const> = { PASS = "green", WARN = "yellow", FAIL = "red", SKIP = "dim" }

---The checks whose status changed, including optional ones that no longer have anything to check.
---@param before table<string, dbrun.verify.Result>
---@param results dbrun.verify.Result[]
---@return { result: dbrun.verify.Result, was: string, old?: dbrun.verify.Result }[]
function M.changes(before, results)
    local list, gone = {}, {}
    for name in pairs(before) do gone[name] = true end
    for _, result in ipairs(results) do
        gone[result.name] = nil
        local old = before[result.name]
        if not old or old.status ~= result.status then
            list[#list + 1] = { result = result, was = old and old.status or "new", old = old }
        end
    end
    local names = {}
    for name in pairs(gone) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do
        list[#list + 1] = { was = before[name].status, result = { name = name, status = "SKIP", seconds = 0,
            text = "nothing to check any more" } }
    end
    return list
end

---Whether the line of another check explains this change: a failure blocks many checks, and its end frees them.
local function told_by(change)
    local result, was = change.result, change.old
    if result.blocked_by and result.status == "SKIP" then return "blocked by " .. result.blocked_by end
    if was and was.blocked_by and result.status == "PASS" then return "not blocked any more by " .. was.blocked_by end
end

local function line_of(change, style)
    local result = change.result
    return ("%s  %s -> %s  %s  %s"):format(os.date "%H:%M:%S", change.was,
        style[COLOURS[result.status]](result.status), result.name, result.cause and
        ("%s: %s"):format(result.text, (result.cause:gsub("\n", "; "))) or result.text)
end

local function show_changes(changes, style)
    local folded, order = {}, {}
    for _, change in ipairs(changes) do
        local by = told_by(change)
        if not by then
            cli.report(line_of(change, style))
        elseif folded[by] then
            folded[by] = folded[by] + 1
        else
            folded[by], order[#order + 1] = 1, by
        end
    end
    for _, by in ipairs(order) do
        cli.report(("%s  %s %s"):format(os.date "%H:%M:%S", cli.plural(folded[by], "check"), style.dim(by)))
    end
    io.stdout:flush()
end

---Repeats until it is interrupted.
---@param args table of the command line
---@param once fun(args: table): dbrun.verify.Result[], dbrun.verify.Run
---@param show fun(args: table, results: dbrun.verify.Result[], run: dbrun.verify.Run)
function M.run(args, once, show)
    local style, before = cli.style(1), nil
    local whole = args.format ~= "text"
    while true do
        local results, summary = once(args)
        if whole or not before then
            show(args, results, summary)
            io.stdout:flush()
        else
            show_changes(M.changes(before, results), style)
        end
        before = {}
        for _, result in ipairs(results) do before[result.name] = result end
        args.wait = nil
        task.sleep(args.watch)
    end
end

return M
