--- A row as a line of CSV (RFC 4180).
local M = {}

---@class dbrun.csv.Dialect
---@field delimiter string one byte
---@field quote string one byte
---@field nulls string the text of NULL, which is never quoted

local function special_of(dialect)
    return "[" .. ("\r\n" .. dialect.delimiter .. dialect.quote):gsub("%W", "%%%0") .. "]"
end

---Whether NULL can be written as this text, which is never quoted and so must not need quotes.
---@param dialect dbrun.csv.Dialect
---@return boolean
function M.takes_nulls(dialect)
    return not dialect.nulls:find(special_of(dialect))
end

---A function that writes a row's texts as a line, without its end. An empty text, or a text like that of NULL, is
---quoted, so that it is not read as NULL.
---@param dialect dbrun.csv.Dialect
---@return fun(texts: (string|false)[], n: integer): string line false is NULL
function M.line(dialect)
    local delimiter <const>, quote <const>, nulls <const> = dialect.delimiter, dialect.quote, dialect.nulls
    local special <const> = special_of(dialect)
    local quote_pattern <const>, doubled <const> = quote:gsub("%W", "%%%0"), (quote .. quote):gsub("%%", "%%%%")
    return function(texts, n)
        local out = {}
        for i = 1, n do
            local text <const> = texts[i]
            if not text then
                out[i] = nulls
            elseif text == "" or text == nulls or text == "\\." or text:find(special)
                or i == 1 and text:find("\xef\xbb\xbf", 1, true) == 1 then
                out[i] = quote .. text:gsub(quote_pattern, doubled) .. quote
            else
                out[i] = text
            end
        end
        return table.concat(out, delimiter)
    end
end

return M
