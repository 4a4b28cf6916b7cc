--- Replies as text, as redis-cli prints them: for people (types, numbers of elements, quoted strings), raw, as JSON.
--- All take typed replies, from a client made by `r:with { typed = true }`.
local args = require "dbrun.args"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local json = require "dbrun.json"

local M = {}

local null <const> = core.null

--- A status reply, as a client with `typed` returns it.
local function status_of(reply)
    return type(reply) == "table" and not errors.is(reply) and reply.status or nil
end

local function length(list) return list.n or #list end

-- ---- for people ----

local NAMED <const> = {
    ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\a"] = "\\a", ["\b"] = "\\b",
}

local function escaped(c) return NAMED[c] or ("\\x%02x"):format(c:byte()) end

---A string in quotes; all bytes that are not printable ASCII are escaped.
local function quoted(text)
    return '"' .. text:gsub('[\0-\x1f"\\\x7f-\xff]', escaped) .. '"'
end

local add_text

---The elements, each after its number; those of a nested list are indented by the text before it.
local function add_list(out, list, indent)
    local n <const> = length(list)
    if n == 0 then
        out[#out + 1] = "(empty array)\n"
        return
    end
    local width <const> = #tostring(n)
    local deeper <const> = indent .. (" "):rep(width + 2)
    for i = 1, n do
        out[#out + 1] = ("%s%" .. width .. "d) "):format(i > 1 and indent or "", i)
        add_text(out, list[i], deeper)
    end
end

function add_text(out, reply, indent)
    local kind <const>, status <const> = type(reply), status_of(reply)
    if reply == nil or reply == null then out[#out + 1] = "(nil)\n"
    elseif status then out[#out + 1] = core.tty.printable(status) .. "\n"
    elseif errors.is(reply) then out[#out + 1] = ("(error) %s\n"):format(core.tty.printable(reply.message))
    elseif math.type(reply) == "integer" then out[#out + 1] = ("(integer) %d\n"):format(reply)
    elseif kind == "string" then out[#out + 1] = quoted(reply) .. "\n"
    elseif kind == "table" then add_list(out, reply, indent)
    else out[#out + 1] = ("(%s) %s\n"):format(kind == "number" and "double" or kind, tostring(reply)) end
end

---A reply for people, as redis-cli prints it on a terminal. Control characters are escaped.
---@param reply any
---@return string text with a line end
function M.text(reply)
    local out = {}
    add_text(out, reply, "")
    return table.concat(out)
end

-- ---- raw ----

local function add_raw(out, reply)
    local status <const> = status_of(reply)
    if reply == nil or reply == null then return
    elseif status then out[#out + 1] = status
    elseif errors.is(reply) then out[#out + 1] = reply.message .. "\n"
    elseif type(reply) == "table" then
        for i = 1, length(reply) do
            if i > 1 then out[#out + 1] = "\n" end
            add_raw(out, reply[i])
        end
    else
        out[#out + 1] = tostring(reply)
    end
end

---A reply as its bytes: elements of lists are separated by line ends, nil is empty.
---@param reply any
---@return string text with a line end
function M.raw(reply)
    local out = {}
    add_raw(out, reply)
    out[#out + 1] = "\n"
    return table.concat(out)
end

-- ---- JSON ----

local function is_text(s) return utf8.len(s) ~= nil end

---@param bytes string
local function base64(bytes)
    local ALPHABET <const> = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    local out = {}
    for i = 1, #bytes, 3 do
        local a, b, c = bytes:byte(i, i + 2)
        local bits <const> = a << 16 | (b or 0) << 8 | (c or 0)
        for k = 0, 3 do
            local at <const> = (bits >> (18 - 6 * k) & 63) + 1
            out[#out + 1] = (k == 2 and not b or k == 3 and not c) and "=" or ALPHABET:sub(at, at)
        end
    end
    return table.concat(out)
end

local as_json

---Alternating names and values as an object; nil when a name is not a text, or occurs twice.
local function as_object(list)
    local object <const>, seen <const> = json.object {}, {}
    for i = 1, length(list), 2 do
        local name <const> = status_of(list[i]) or list[i]
        if type(name) ~= "string" or not is_text(name) or seen[name] then return nil end
        seen[name], object[name] = true, as_json(list[i + 1])
    end
    return object
end

function as_json(reply, pairwise)
    local status <const> = status_of(reply)
    if reply == nil or reply == null then return json.null
    elseif status then return as_json(status)
    elseif errors.is(reply) then return json.object { error = reply.message }
    elseif type(reply) == "string" then
        return is_text(reply) and reply or json.object { base64 = base64(reply) }
    elseif type(reply) ~= "table" then
        return reply
    end
    local object <const> = pairwise and length(reply) % 2 == 0 and as_object(reply)
    if object then return object end
    local list <const> = json.array()
    for i = 1, length(reply) do list[i] = as_json(reply[i]) end
    return list
end

---A reply as a value for json.encode. A string that is not UTF-8 becomes {"base64": "..."}, an error inside of a list
---{"error": "..."}.
---@param reply any
---@param pairwise? boolean it is a list of names and values (HGETALL): an object, unless a name is not UTF-8
---@return any
function M.json(reply, pairwise)
    args.optional("render.json", "pairwise", pairwise, "boolean")
    return as_json(reply, pairwise)
end

return M
