--- A dry run as lines for people.
local bound <const> = require "dbrun.batch.walk.bound"
local cli <const> = require "dbrun.command_line"
local lines_of <const> = require "dbrun.batch.look.lines"
local words <const> = require "dbrun.batch.show.words"

local M = {}

local number <const>, key_text <const> = lines_of.number, bound.text

local NAMES <const> = 4 -- of partitions that are named

local function some(names)
    local shown <const> = table.concat(names, ", ", 1, math.min(#names, NAMES))
    return #names > NAMES and ("%s and %d more"):format(shown, #names - NAMES) or shown
end

local function about_table(lines, report)
    local t <const>, rows <const> = report.table, report.rows
    if not t then return end
    lines:add("table", ("%s, %s, walked by %s (%s)"):format(t.name, number(rows.total, "row", not rows.is_all), t.index,
        table.concat(t.key, ", ")))
    if report.work.where then
        local is_exact <const> = rows.is_all or rows.by == "counted"
        local how <const> = is_exact and "counted" or ("%s of %s sampled%s"):format(cli.count(rows.sampled_fits),
            cli.plural(rows.sampled, "row"), rows.by == "statistics" and "; by the statistics" or "")
        lines:add("where", report.work.where)
        lines:add("fitting", ("%s (%s)"):format(number(rows.fits, "row", not is_exact), how))
    end
    if report.nulls == -1 then
        lines:add("left out", "rows whose key is NULL (too many to count here)")
    elseif (report.nulls or 0) > 0 then
        lines:add("left out", number(report.nulls, "row") .. " whose key is NULL")
    end
end

local function about_chunks(lines, report)
    local first <const>, chunks <const> = report.first, report.chunks
    if not first then return end
    if first.is_whole and #first.chunks == 0 then
        lines:add("chunks", report.rows.total == 0 and "none: the table is empty" or "none: no row fits")
        return
    end
    local time <const> = chunks.by == "rate" and "about %s, by its rate" or "about %s if each takes its target: --try "
        .. "does one"
    lines:add("chunks", ("about %s of %s at first; %s"):format(cli.count(math.max(chunks.count, #first.chunks)),
        number(chunks.size, "row"), time:format(lines_of.span(chunks.seconds))))
    if report.work.where and (chunks.look_seconds or 0) > chunks.seconds then
        lines:add("", ("all %s are looked at for them: about %s"):format(number(report.rows.total, "key", true),
            lines_of.span(chunks.look_seconds)))
    end
    local list <const> = {}
    if first.passed > 0 then list[1] = ("none of the first %s fits"):format(number(first.passed, "key", true)) end
    for _, chunk in ipairs(first.chunks) do
        list[#list + 1] = ("%s to %s: %s%s"):format(chunk.first == nil and "the start" or key_text(chunk.first),
            key_text(chunk.last), number(chunk.rows, "row"), chunk.keys > chunk.rows
                and (" of %s"):format(number(chunk.keys, "key", true)) or "")
    end
    if first.stopped then list[#list + 1] = first.stopped end
    lines:add("first", table.unpack(list))
end

local function about_plans(lines, report)
    for _, planned in ipairs(report.plans) do
        if planned.error then
            lines:add("plan", "not known before it runs: " .. planned.error)
        else
            lines:add("plan", table.unpack(planned.plan))
        end
        if planned.problem then
            lines:add("", "refused: " .. planned.problem:match "^[^\n]*")
        end
    end
end

local WRITES <const> = { update = "updated", delete = "deleted", insert = "inserted" }

local function about_triggers(lines, target)
    for i, trigger in ipairs(target.triggers) do
        lines:add(i == 1 and "triggers" or "", ("%s: %s each %s, calls %s"):format(trigger.name, trigger.moment,
            trigger.each == "row" and "row that is " .. WRITES[target.kind] or "statement", trigger.calls))
    end
end

local KEYS <const> = {
    cascade = "its rows go, too", ["set null"] = "its rows get NULL", ["set default"] = "its rows get the default",
    ["no action"] = "a row that it refers to cannot go", restrict = "a row that it refers to cannot go",
}
local KEYS_OF_UPDATE <const> = { cascade = "its rows are changed, too" }

local function about_keys(lines, target)
    for i, key in ipairs(target.foreign_keys) do
        local action <const> = target.kind == "update" and KEYS_OF_UPDATE[key.action] or KEYS[key.action]
        local index <const> = not key.index and "no index helps to find them"
            or key.index_is_whole and "found by the index " .. key.index
            or ("found by the index %s, which has not all of its columns"):format(key.index)
        lines:add(i == 1 and "keys" or "", ("%s (%s) refers to %s, on %s %s: %s; %s"):format(key.table,
            table.concat(key.columns, ", "), key.refers_to, target.kind, key.action, action, index))
    end
end

local function about_indexes(lines, target)
    local n <const> = #target.indexes
    if target.kind == "insert" and n > 0 then
        lines:add("indexes", ("each row gets an entry in %s: %s"):format(cli.plural(n, "index", "indexes"),
            some(target.indexes)))
    elseif target.kind == "update" and target.hot == false then
        local why <const> = target.why[1]
        lines:add("indexes", ("each row gets a new entry in %s (no HOT, because %s is in %s): %s"):format(
            cli.plural(n, "index", "indexes"), why.column, why.index, some(target.indexes)))
    elseif target.kind == "update" and target.hot then
        local room <const> = target.fillfactor == 100 and "fillfactor is 100: pages that are full have none"
            or ("fillfactor is %d"):format(target.fillfactor)
        lines:add("indexes", ("none gets an entry where the page has room for the new version (HOT; %s)"):format(room))
    end
end

local function about_targets(lines, report)
    for _, target in ipairs(report.targets or {}) do
        lines:add("writes", ("%s: %s%s"):format(target.table, target.kind, target.columns and #target.columns > 0
            and (" of %s"):format(table.concat(target.columns, ", ")) or ""))
        about_triggers(lines, target)
        about_keys(lines, target)
        about_indexes(lines, target)
        local security <const> = target.row_security
        if security then
            lines:add("security", ("row security applies to %s%s: rows that it hides are not found"):format(
                security.role, #security.policies > 0 and (" (%s)"):format(some(security.policies))
                    or ", and no policy lets it see a row"))
        end
    end
end

local function about_partitions(lines, report)
    local found <const> = report.partitions
    if not found then return end
    local kind <const> = found.is_hypertable and "chunk" or "partition"
    if #found.whole == 0 then
        lines:add("partitions", ("%s, of which none has only rows that fit"):format(number(found.total, kind)))
        return
    end
    lines:add("partitions", ("every row of %s of its %s fits (%s): %s"):format(number(#found.whole, kind),
        cli.count(found.total), lines_of.bytes(found.bytes), some(found.whole)),
        found.is_hypertable and "select drop_chunks(...) is quicker, where no other reason keeps them"
            or "drop table (or alter table ... detach partition ... concurrently) is quicker than to delete them")
end

---What a run does with a job that is there already.
local function what_a_run_does(state, name)
    if state == "done" or state == "cancelled" then
        return ("a run does nothing; %s lets it start anew"):format(words.command("forget", name))
    elseif state == "paused" then
        return ("a run waits until: %s"):format(words.command("resume", name))
    end
    return "a run goes on where it is"
end

local function about_state(lines, report)
    local state <const> = report.state
    if state.error then
        lines:add("state", ("the tables of batch jobs cannot be read: %s"):format(state.error))
    elseif state.job then
        lines:add("state", ("the job is there already, and %s: %s"):format(state.job,
            what_a_run_does(state.job, report.name)))
    elseif state.tables == "made" then
        lines:add("state", ("a run makes the tables of batch jobs in the schema %s"):format(state.schema))
    elseif state.tables == "missing" then
        lines:add("state", ("the tables of batch jobs do not exist, and the role may not make them in the schema %s: "
            .. "dbrun batch init, by one that may"):format(state.schema))
    end
end

---@param report dbrun.batch.DryRun
---@param forced boolean
---@return string[]
function M.of(report, forced)
    local lines <const> = lines_of.new()
    lines:say(("%s (dry run)"):format(report.name))
    about_table(lines, report)
    if report.work.run then lines:add("run", (report.work.run:gsub("%s+", " "))) end
    if report.work.to then lines:add("to", report.work.to) end
    about_chunks(lines, report)
    about_plans(lines, report)
    about_targets(lines, report)
    about_partitions(lines, report)
    about_state(lines, report)
    for i, note in ipairs(report.notes) do lines:add(i == 1 and "note" or "", note) end
    for _, danger in ipairs(report.refused) do
        lines:add(forced and "forced" or "refused", danger.text, danger.hint)
    end
    if #report.refused > 0 and not forced then lines:add("", "--force does it all the same") end
    lines:say "nothing was changed"
    return lines.list
end

return M
