--- Aligned columns, as psql prints them: one line a row.
local core <const> = require "dbrun.core"
local value <const> = require "dbrun.table.value"

local M = {}

local cell_of <const> = core.text.cell

--- The least width of a column; columns that then do not fit are left out at the right.
local NARROW <const> = 8

---@class dbrun.table.Format
---@field measure? fun(row: any) looks at a row before the first one is written
---@field head fun() what stands above the rows
---@field row fun(row: any, n: integer)
---@field tail fun(n: integer, left: string|nil) writes the lines below the rows; left: what was left out, in words

--- Fits the widths into a line: the widest text columns become narrower; columns that still do not fit are left out.
---@return integer[] widths
---@return integer shown columns
local function fit(widths, columns, width)
    local n <const> = #widths
    local total = 3 * n - 1
    for _, w in ipairs(widths) do total = total + w end
    if total <= width then return widths, n end
    local low, high = NARROW, width
    local function narrowed(most)
        local sum, list = 3 * n - 1, {}
        for i, w in ipairs(widths) do
            list[i] = columns[i].number and w or math.min(w, most)
            sum = sum + list[i]
        end
        return list, sum
    end
    local best = narrowed(NARROW)
    while low <= high do
        local middle <const> = (low + high) // 2
        local list <const>, sum <const> = narrowed(middle)
        if sum <= width then
            best, low = list, middle + 1
        else
            high = middle - 1
        end
    end
    local used = -1
    for i, w in ipairs(best) do
        -- An ellipsis shows that columns are left out; it takes two columns of the screen.
        local more <const> = i < n and 2 or 0
        if used + 3 + w + more > width then
            local rest <const> = width - used - 3 - 2
            if rest >= NARROW or i == 1 then
                best[i] = math.max(rest, 1)
                return best, i
            end
            return best, i - 1
        end
        used = used + 3 + w
    end
    return best, n
end

--- The text of a value, cut and escaped, and its width.
local function maker(source, opts)
    local nulls <const> = core.text.escape(opts.nulls or "NULL")
    local null_width <const> = core.text.width(nulls)
    local shown_null <const> = opts.color and "\27[2m" .. nulls .. "\27[0m" or nulls
    return function(row, column, most)
        local v <const> = source.get(row, column)
        if value.is_null(v) then return shown_null, null_width end
        return cell_of(value.text(v, column), most)
    end
end

---@param source dbrun.table.Source
---@param opts table
---@param emit fun(line: string)
---@return dbrun.table.Format
function M.new(source, opts, emit)
    local columns <const>, cell <const> = source.columns, maker(source, opts)
    local most <const> = opts.cell_width
    local widths, shown = {}, #columns
    local with_header <const> = opts.header ~= false and source.kind ~= "value"
    for i, column in ipairs(columns) do
        widths[i] = with_header and select(2, cell_of(column.name, most)) or 0
    end
    local by_type, numbers, others = {}, {}, {}
    for i, column in ipairs(columns) do by_type[i] = column.number ~= nil end

    local function padded(text, width, i, last)
        local blanks <const> = widths[i] - width
        if blanks <= 0 then return text end
        if columns[i].number then return (" "):rep(blanks) .. text end
        return last and text or text .. (" "):rep(blanks)
    end

    --- A line of cells; `narrow`: none is wider than its column.
    local function line_of(text_of, narrow)
        local parts, total = {}, 0
        for i = 1, shown do
            local limit <const> = narrow and math.min(widths[i], most or widths[i]) or most
            local text <const>, width <const> = text_of(i, limit)
            parts[i] = padded(text, width, i, i == shown)
            total = total + math.max(width, widths[i]) + 3
        end
        local line <const> = " " .. table.concat(parts, " | ") .. (shown < #columns and " …" or "")
        return line, total - 1 + (shown < #columns and 2 or 0)
    end

    local function write(text_of)
        local line, width = line_of(text_of, false)
        if opts.width and width > opts.width then line = line_of(text_of, true) end
        emit(line:find(" ", -1, true) and line:gsub(" +$", "") or line)
    end

    local format = {}

    function format.measure(row)
        for i, column in ipairs(columns) do
            local _, width <const> = cell(row, column, most)
            if width > widths[i] then widths[i] = width end
            local v <const> = source.get(row, column)
            if not by_type[i] and not value.is_null(v) then
                if type(v) == "number" then numbers[i] = true else others[i] = true end
            end
        end
    end

    function format.head()
        for i, column in ipairs(columns) do
            if not by_type[i] then column.number = numbers[i] and not others[i] end
        end
        if opts.width then widths, shown = fit(widths, columns, opts.width) end
        if opts.title then emit((core.text.cell(opts.title, opts.width or nil))) end
        if not with_header or #columns == 0 then return end
        write(function(i, limit) return cell_of(columns[i].name, limit) end)
        local rule = {}
        for i = 1, shown do rule[i] = ("-"):rep(widths[i] + 2) end
        emit(table.concat(rule, "+"))
    end

    function format.row(row)
        if source.kind == "value" then return emit((cell(row, columns[1], opts.width or nil))) end
        write(function(i, limit) return cell(row, columns[i], limit) end)
    end

    function format.tail(n, left)
        if left then
            emit(left)
        elseif n == 0 and with_header then
            emit "(0 rows)"
        end
    end

    return format
end

return M
