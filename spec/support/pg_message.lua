--- Messages of PostgreSQL's protocol as a server sends them, for fake servers (spec.support.fake).
local M = {}

---@param kind string one letter
---@param body string
---@return string
function M.message(kind, body)
    return kind .. string.pack(">I4", #body + 4) .. body
end

local message <const> = M.message

M.ready = message("Z", "I")
M.parsed, M.bound, M.empty, M.no_data = message("1", ""), message("2", ""), message("I", ""), message("n", "")
M.copy_in = message("G", string.pack(">BI2I2", 0, 1, 0))
M.copy_out = message("H", string.pack(">BI2I2", 0, 1, 0))
M.copy_both = message("W", string.pack(">BI2I2", 0, 1, 0))

--- The messages of a server after a successful login.
M.hello = message("R", "\0\0\0\0") .. message("S", "client_encoding\0UTF8\0") .. message("S", "DateStyle\0ISO, MDY\0")
    .. message("S", "standard_conforming_strings\0on\0") .. message("K", "\0\0\0\1\0\0\0\2") .. M.ready

--- The columns of a result.
---@param list {[1]: string, [2]: integer, binary: boolean?}[] name and OID of the type
---@return string
function M.columns(list)
    local body = string.pack(">I2", #list)
    for _, column in ipairs(list) do
        body = body .. string.pack(">zI4I2I4i2i4I2", column[1], 0, 0, column[2], -1, -1, column.binary and 1 or 0)
    end
    return message("T", body)
end

--- A row; false is NULL.
---@param values (string|false)[]
---@return string
function M.row(values)
    local body = string.pack(">I2", #values)
    for _, value in ipairs(values) do
        body = body .. (value and string.pack(">s4", value) or "\255\255\255\255")
    end
    return message("D", body)
end

---@param tag string
---@return string
function M.complete(tag) return message("C", tag .. "\0") end

--- An error or a notice.
---@param kind "E"|"N"
---@param fields table<string, string> by their letters
---@return string
function M.report(kind, fields)
    local body = ""
    for letter, text in pairs(fields) do
        body = body .. letter .. text .. "\0"
    end
    return message(kind, body .. "\0")
end

--- The complete reply to a statement that is not prepared.
---@param columns {[1]: string, [2]: integer, binary: boolean?}[]
---@param ... (string|false)[] rows
---@return string
function M.answer(columns, ...)
    local list = { M.parsed, M.bound, M.columns(columns) }
    for _, values in ipairs { ... } do
        list[#list + 1] = M.row(values)
    end
    return table.concat(list) .. M.complete("SELECT " .. select("#", ...)) .. M.ready
end

---@param peer spec.Fake
---@return string url of a peer that sends M.hello
function M.url(peer)
    return "postgresql://joe@/d?sslmode=disable&gssencmode=disable&host=" .. peer.dir
end

return M
