--- A row as a line of CSV (RFC 4180).
local M = {}

---@class dbrun.csv.Dialect
---@field delimiter string one byte
---@field quote string one byte
---@field nulls string the text of NULL, which is never quoted

---A function that writes a row's texts as a line, without its end. A text that is empty, or as NULL is written, is
---quoted: so it is not read as NULL.
---@param dialect dbrun.csv.Dialect
---@return fun(texts: (string|false)[], n: integer): string line false is NULL
function M.line(dialect)
    local delimiter <const>, quote <const>, nulls <const> = dialect.delimiter, dialect.quote, dialect.nulls
    local special <const> = "[" .. ("\r\n" .. delimiter .. quote):gsub("%W", "%%%0") .. "]"
    local quote_pattern <const> = quote:gsub("%W", "%%%0")
    return function(texts, n)
        local out = {}
        for i = 1, n do
            local text <const> = texts[i]
            if not text then
                out[i] = nulls
            elseif text == "" or text == nulls or text == "\\." or text:find(special)
                or i == 1 and text:find("\xef\xbb\xbf", 1, true) == 1 then
                out[i] = quote .. text:gsub(quote_pattern, quote .. quote) .. quote
            else
                out[i] = text
            end
        end
        return table.concat(out, delimiter)
    end
end

return M
