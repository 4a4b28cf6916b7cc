--- Results of statements as the prompt shows and keeps them: by position, in the server's own text.
local tables = require "dbrun.table"
local task = require "dbrun.task"

local M = {}

--- Rows of a result that are kept and shown; the rest are counted. The statement is never cancelled to cut its result:
--- an UPDATE ... RETURNING would be undone.
M.KEPT = 1000

--- psql reports it after the rows that it has.
local COUNTS <const> = {
    INSERT = "INSERT 0", UPDATE = "UPDATE", DELETE = "DELETE", MERGE = "MERGE", SELECT = "SELECT", COPY = "COPY",
    FETCH = "FETCH", MOVE = "MOVE",
}

--- A kept row has its values by position and by column name; of two columns with one name, the first.
local function row_class(columns)
    local place <const>, names <const> = {}, {}
    for i, column in ipairs(columns) do
        names[i] = column.name
        place[column.name] = place[column.name] or i
    end
    return {
        __index = function(row, name) return place[name] and rawget(row, place[name]) end,
        __tostring = function(row)
            local parts <const> = {}
            for i, name in ipairs(names) do parts[i] = ("%s = %s"):format(name, rawget(row, i) or "NULL") end
            return "{" .. table.concat(parts, ", ") .. "}"
        end,
    }
end

local RESULT <const> = {
    __tostring = function(kept)
        return table.concat(tables.lines(kept, { columns = kept.columns, text = true }), "\n")
    end,
}

--- "(3 rows)", and what was dropped.
local function tail(count)
    if count > M.KEPT then
        return ("(%d rows: the first %d are shown, the rest were counted and dropped)"):format(count, M.KEPT)
    end
    return ("(%d row%s)"):format(count, count == 1 and "" or "s")
end

---The printer of a statement's result (dbrun.sql.results).
---@param session dbrun.prompt.Session
---@return dbrun.sql.Printer
function M.printer(session)
    local printer <const> = {}

    function printer.rows(_, columns, next_row)
        local kept <const>, count = { columns = columns }, 0
        for row in next_row do
            count = count + 1
            if count <= M.KEPT then kept[count] = setmetatable(row, nil) end
        end
        session.answered = task.now() -- the user may read in a pager for a long time
        local options <const> = session:options()
        options.columns, options.text = columns, true
        local lines <const> = tables.lines(kept, options)
        if lines[#lines] == "(0 rows)" then lines[#lines] = nil end
        lines[#lines + 1] = tail(count)
        session:write(table.concat(lines, "\n"))
        local class <const> = row_class(columns)
        for _, row in ipairs(kept) do setmetatable(row, class) end
        kept.count = count
        session.last = setmetatable(kept, RESULT)
    end

    function printer.command(_, command, affected)
        session.answered = task.now()
        session:write(COUNTS[command] and ("%s %d"):format(COUNTS[command], affected) or command)
        session.last = affected
    end

    return printer
end

return M
