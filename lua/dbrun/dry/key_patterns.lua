--- Many keys as a few patterns: `cache:user:7`, `cache:user:8`, ... are `cache:user:*`. The variable part is recognised
--- by its form (a number, a date, a random text), or by the number of values in its place. Memory is bounded for any
--- number of keys.
local M = {}

local MOST_VALUES <const> = 8 -- values in one place of the keys, before they become `*`
local MOST_PARTS <const> = 12 -- of a key; the rest is one
local MOST_PATTERNS <const> = 200 -- then all other keys are `*`
local MOST_KNOWN <const> = 100000 -- keys that are distinguished

---@class dbrun.dry.KeyRow
---@field pattern string the key when it is only one
---@field keys integer how many different ones
---@field at_least boolean there are more, which were not distinguished
---@field times integer

---@class dbrun.dry.KeyPatterns
---@field package root table
---@field package seen table<string, boolean>
---@field package known integer
---@field package most integer
---@field package leaves integer
local Patterns <const> = {}
Patterns.__index = Patterns

local function new_node()
    return { kids = {}, values = 0, collapsed = false, leaf = nil }
end

---@param most? integer how many keys are distinguished
---@return dbrun.dry.KeyPatterns
function M.new(most)
    return setmetatable({ root = new_node(), seen = {}, known = 0, most = most or MOST_KNOWN, leaves = 0 }, Patterns)
end

--- Whether the part of a key is variable by its form.
local function varies(part)
    if not part:find "%d" then
        return false
    elseif part:find "^[%d+,T_-]+$" then -- a number, a date
        return true
    end
    return #part >= 8 and part:find "^%x[%x-]*$" ~= nil or #part >= 16
end

--- Splits a key after its separators: "{user:7}:cart" -> "{", "user:", "7}:", "cart".
local function parts_of(key)
    local list <const> = {}
    for part, separators in key:gmatch "([^:/|.{}]*)([:/|.{}]*)" do
        if part ~= "" or separators ~= "" then
            list[#list + 1] = { part, separators }
        end
        if #list == MOST_PARTS then
            list[#list] = { "*", "" }
            break
        end
    end
    return list
end

local function merge_leaf(into, leaf)
    into.keys, into.times = into.keys + leaf.keys, into.times + leaf.times
    into.at_least = into.at_least or leaf.at_least
end

function Patterns:merge(into, node)
    if node.leaf and into.leaf then
        merge_leaf(into.leaf, node.leaf)
        self.leaves = self.leaves - 1
    else
        into.leaf = into.leaf or node.leaf
    end
    for token, kid in pairs(node.kids) do
        if not into.kids[token] then
            into.kids[token] = kid
            into.values = into.values + (token:sub(1, 1) == "*" and 0 or 1)
        else
            self:merge(into.kids[token], kid)
        end
    end
    if into.values > (node.collapsed and 0 or MOST_VALUES) then
        self:collapse(into)
    end
end

--- The values in this place become `*`, and what follows them is merged.
function Patterns:collapse(node)
    local kids <const> = node.kids
    node.kids, node.values, node.collapsed = {}, 0, true
    for token, kid in pairs(kids) do
        local star <const> = "*" .. token:match "[:/|.{}]*$"
        local into <const> = node.kids[star]
        if into then
            self:merge(into, kid)
        else
            node.kids[star] = kid
        end
    end
end

--- The node of the key, made where it is missing.
function Patterns:place(key)
    local node = self.root
    for _, part in ipairs(self.leaves < MOST_PATTERNS and parts_of(key) or { { "*", "" } }) do
        local star <const>, token = "*" .. part[2], part[1] .. part[2]
        local counted <const> = part[2] == "" and part[1]:match "^(%a[%w_-]-)%d+$" -- "user12" at the end: "user*"
        if not node.kids[token] and (node.collapsed or varies(part[1])) then
            token = counted and node.kids[counted .. "*"] and counted .. "*" or star
        elseif counted then
            token = counted .. "*"
        end
        if not node.kids[token] then
            node.kids[token] = new_node()
            if token ~= star then
                node.values = node.values + 1
                if node.values > MOST_VALUES then
                    self:collapse(node)
                    token = star
                end
            end
        end
        node = node.kids[token]
    end
    return node
end

---Counts a key.
---@param key string
---@return boolean new its pattern has not been there before
function Patterns:add(key)
    local node <const> = self:place(key)
    local new <const> = node.leaf == nil
    if new then
        node.leaf = { key = key, keys = 0, times = 0, at_least = false }
        self.leaves = self.leaves + 1
    end
    local leaf <const> = node.leaf
    leaf.times = leaf.times + 1
    if self.seen[key] then
        return new
    elseif self.known < self.most then
        self.seen[key], self.known = true, self.known + 1
        leaf.keys = leaf.keys + 1
    else
        leaf.at_least = true
    end
    return new
end

local function walk(node, text, rows)
    local leaf <const> = node.leaf
    if leaf then
        local one <const> = leaf.keys == 1 and not leaf.at_least
        rows[#rows + 1] = {
            pattern = one and leaf.key or text, keys = leaf.keys, at_least = leaf.at_least, times = leaf.times,
        }
    end
    for token, kid in pairs(node.kids) do
        walk(kid, text .. token, rows)
    end
end

---The patterns, by their text.
---@return dbrun.dry.KeyRow[]
function Patterns:rows()
    local rows <const> = {}
    walk(self.root, "", rows)
    table.sort(rows, function(a, b) return a.pattern < b.pattern end)
    return rows
end

return M
