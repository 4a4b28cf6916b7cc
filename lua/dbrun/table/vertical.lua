--- One line a value, as psql's \x prints: for rows with many columns.
local core <const> = require "dbrun.core"
local value <const> = require "dbrun.table.value"

local M = {}

---@param source dbrun.table.Source
---@param opts table
---@param emit fun(line: string)
---@return dbrun.table.Format
function M.new(source, opts, emit)
    local columns <const>, names <const> = source.columns, {}
    local width = 0
    for i, column in ipairs(columns) do
        names[i] = { core.text.cell(column.name, opts.cell_width) }
        width = math.max(width, names[i][2])
    end
    local nulls <const> = core.text.escape(opts.nulls or "NULL")
    local null <const> = { opts.color and "\27[2m" .. nulls .. "\27[0m" or nulls, core.text.width(nulls) }
    local most = opts.width and math.max(opts.width - width - 3, 1)
    if opts.cell_width then most = math.min(most or opts.cell_width, opts.cell_width) end
    local format = {}

    function format.head()
        if opts.title then emit((core.text.cell(opts.title, opts.width or nil))) end
    end

    local function rule(n, widest)
        local text <const> = ("-[ RECORD %d ]"):format(n)
        local left <const> = ("-"):rep(width + 1 - #text)
        local right = ("-"):rep(math.max(widest + 1 - math.max(#text - width - 2, 0), 0))
        if #text <= width + 1 then right = "+" .. right end
        local line <const> = text .. left .. right
        return opts.width and line:sub(1, opts.width) or line
    end

    function format.row(row, n)
        local lines, widest = {}, 0
        for i, column in ipairs(columns) do
            local v <const> = source.get(row, column)
            local text, own = null[1], null[2]
            if not value.is_null(v) then text, own = core.text.cell(value.text(v, column), most) end
            widest = math.max(widest, own)
            local line = names[i][1] .. (" "):rep(width - names[i][2]) .. " | " .. text
            lines[i] = text == "" and line:sub(1, -2) or line
        end
        if source.kind == "value" then
            local text <const> = value.is_null(row[1]) and nulls or value.text(row[1], columns[1])
            lines = { (core.text.cell(text, opts.width or nil)) }
        elseif source.kind == "rows" or source.kind == "values" then
            if opts.header ~= false then
                emit(rule(n, widest))
            elseif n > 1 then
                emit ""
            end
        end
        for _, line in ipairs(lines) do emit(line) end
    end

    function format.tail(n, left)
        if left then
            emit(left)
        elseif n == 0 and opts.header ~= false then
            emit "(0 rows)"
        end
    end

    return format
end

return M
