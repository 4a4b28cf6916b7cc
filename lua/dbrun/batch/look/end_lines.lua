--- A trial, and a check, as lines for people.
local bound <const> = require "dbrun.batch.walk.bound"
local cli <const> = require "dbrun.command_line"
local lines_of <const> = require "dbrun.batch.look.lines"

local M = {}

local number <const>, key_text <const> = lines_of.number, bound.text

local function range_text(range)
    return ("%s to %s"):format(range.first == nil and "the start" or key_text(range.first), key_text(range.last))
end

local function about_locks(lines, report)
    local texts <const> = {}
    for _, lock in ipairs(report.locks or {}) do
        texts[#texts + 1] = ("%s: %s%s"):format(lock.table, lock.mode, lock.blocks
            and ", which blocks others on the whole table" or "")
    end
    if (report.other_locks or 0) > 0 then
        texts[#texts + 1] = cli.plural(report.other_locks, "advisory lock")
    end
    if #texts > 0 then lines:add("locks", table.unpack(texts)) end
end

local function about_keeps(lines, report)
    if report.keeps == nil then return end
    lines:add("where", report.keeps and ("still holds for %s of the chunk: a second pass would do them again, so there "
        .. "is none"):format(number(report.still, "row")) or "holds for no row of the chunk any more")
end

---@param report dbrun.batch.Try
---@return string[]
function M.of_try(report)
    local lines <const> = lines_of.new()
    lines:say(("%s (trial)"):format(report.name))
    if not report.chunk then
        lines:add("chunk", "none: no row fits")
        return lines.list
    end
    lines:add("chunk", range_text(report.chunk))
    if report.error then
        local e <const> = report.error
        lines:add("failed", e.message .. (e.sqlstate and (" (SQLSTATE %s)"):format(e.sqlstate) or ""), e.hint)
    else
        lines:add("rows", ("%s in %s"):format(number(report.rows, "row"), cli.duration(report.seconds)))
        lines:add("WAL", ("%s, with what others wrote meanwhile"):format(lines_of.bytes(report.wal_bytes)))
        about_locks(lines, report)
        about_keeps(lines, report)
    end
    local total <const> = report.total
    if total then
        lines:add("all", ("about %s for %s at this rate, with one worker"):format(lines_of.span(total.seconds),
            number(total.fits, "row", not total.is_exact)))
    end
    if report.left_out then lines:add("not tried", report.left_out) end
    lines:say "rolled back: what it leaves is dead rows, WAL and values of sequences"
    return lines.list
end

local function of_comparison(lines, report)
    local c <const> = report.compared
    lines:say(("%s: %s here, %s in the copy; %s of %s ranges differ"):format(report.name, cli.plural(c.source, "row"),
        cli.plural(c.target, "row"), cli.count(c.differ), cli.count(c.ranges)))
    for _, range in ipairs(c.differing) do
        lines:add("differs", ("%s: %s here, %s in the copy"):format(range_text(range), cli.plural(range.source, "row"),
            cli.plural(range.target, "row")))
    end
    if c.differ > #c.differing then
        lines:add("", ("and %s more"):format(cli.plural(c.differ - #c.differing, "range")))
    end
end

---@param report dbrun.batch.Check
---@return string[]
function M.of_check(report)
    local lines <const> = lines_of.new()
    if report.compared then
        of_comparison(lines, report)
        return lines.list
    end
    lines:say(("%s: %s%s"):format(report.name, report.found == 0 and "no row is left" or cli.plural(report.found, "row")
        .. " left", report.state and report.state ~= "done" and (" (the job is %s)"):format(report.state)
        or not report.state and " (the job has not run in this database)" or ""))
    for _, range in ipairs(report.failed) do
        lines:add("failed", ("%s: %s left%s%s"):format(range_text(range), cli.plural(range.rows, "row"),
            range.message and ": " .. range.message or "", range.sqlstate and (" (SQLSTATE %s)"):format(range.sqlstate)
                or ""))
    end
    if report.newer > 0 then
        lines:add("newer", ("%s behind the job's last key: they came after it"):format(cli.plural(report.newer, "row")))
    end
    if report.keeps then
        lines:add("note", "where holds for rows that are done, too: the number does not tell what is left")
    end
    return lines.list
end

---The total of what is left; above 0 the check has found something.
---@param report dbrun.batch.Check
---@return integer
function M.left(report)
    if report.compared then return report.compared.differ end
    local total = report.found + report.newer
    for _, range in ipairs(report.failed) do total = total + range.rows end
    return total
end

return M
