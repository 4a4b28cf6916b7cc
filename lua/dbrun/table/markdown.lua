--- A table of Markdown.
local core <const> = require "dbrun.core"
local value <const> = require "dbrun.table.value"

local M = {}

---@param source dbrun.table.Source
---@param opts table
---@param emit fun(line: string)
---@return dbrun.table.Format
function M.new(source, opts, emit)
    local columns <const> = source.columns
    local numbers, others = {}, {}

    local function cell(text)
        -- A single backslash before a letter is literal in Markdown too.
        text = text:gsub("(\\+)(%p?)", function(slashes, mark)
            if #slashes > 1 or mark ~= "" then return slashes .. slashes .. mark end
        end):gsub("|", "\\|")
        return (core.text.cell(text, opts.cell_width))
    end

    local function line(cells)
        emit("| " .. table.concat(cells, " | ") .. " |")
    end

    local format = {}

    function format.measure(row)
        for i, column in ipairs(columns) do
            local v <const> = source.get(row, column)
            if column.number == nil and not value.is_null(v) then
                if type(v) == "number" then numbers[i] = true else others[i] = true end
            end
        end
    end

    function format.head()
        if opts.title then
            emit("**" .. cell(opts.title) .. "**")
            emit ""
        end
        if opts.header == false then return end
        local names, rules = {}, {}
        for i, column in ipairs(columns) do
            local right = column.number
            if right == nil then right = numbers[i] and not others[i] end
            names[i], rules[i] = cell(column.name), right and "---:" or "---"
        end
        line(names)
        line(rules)
    end

    function format.row(row)
        local cells = {}
        for i, column in ipairs(columns) do
            local v <const> = source.get(row, column)
            cells[i] = cell(value.is_null(v) and (opts.nulls or "NULL") or value.text(v, column))
        end
        line(cells)
    end

    function format.tail(_, left)
        if left then
            emit ""
            emit(left)
        end
    end

    return format
end

return M
