--- Random numbers that are the same in every run, so that a seed makes the same data everywhere. xoshiro256**, seeded
--- with a text, independent of math.random and of other seeds.
local M = {}

---@class dbrun.seed.Random
---@overload fun(m?: integer, n?: integer): number
local Random = {}

local function rotate(x, k) return (x << k) | (x >> (64 - k)) end

---splitmix64: spreads a starting value over the whole state.
local function spread(x)
    return function()
        x = x + 0x9e3779b97f4a7c15
        local z = x
        z = (z ~ (z >> 30)) * 0xbf58476d1ce4e5b9
        z = (z ~ (z >> 27)) * 0x94d049bb133111eb
        return z ~ (z >> 31)
    end
end

---The next 64 bits.
---@return integer
function Random:bits()
    local a, b, c, d = self[1], self[2], self[3], self[4]
    local result = rotate(b * 5, 7) * 9
    local t = b << 17
    c, d = c ~ a, d ~ b
    b, a = b ~ c, a ~ d
    self[1], self[2], self[3], self[4] = a, b, c ~ t, rotate(d, 45)
    return result
end

---A float from `low` (default 0) up to but not including `high` (default 1).
---@param low? number
---@param high? number
---@return number
function Random:float(low, high)
    local unit = (self:bits() >> 11) * (1.0 / (1 << 53))
    low = low or 0
    return low + unit * ((high or 1) - low)
end

---A whole number from m to n, both included. Its bias is below 2^-32 for ranges up to 2^32.
---@param m integer
---@param n integer
---@return integer
function Random:integer(m, n)
    if n < m then error("random:integer: the range is empty", 2) end
    local span = n - m + 1
    if span <= 0 then error("random:integer: the range is too wide", 2) end
    return m + (self:bits() >> 1) % span
end

---A normally distributed float.
---@param mean? number default 0
---@param deviation? number default 1
---@return number
function Random:normal(mean, deviation)
    local radius = math.sqrt(-2 * math.log(1 - self:float()))
    return (mean or 0) + (deviation or 1) * radius * math.cos(2 * math.pi * self:float())
end

---One element of a list.
---@generic T
---@param list T[]
---@return T
function Random:pick(list)
    return list[self:integer(1, #list)]
end

---true with this probability.
---@param probability? number default 0.5
---@return boolean
function Random:boolean(probability)
    return self:float() < (probability or 0.5)
end

---One element of a list of {value, weight}, with a probability in proportion to its weight.
---@param list { [1]: any, [2]: number }[]
---@return any
function Random:weighted(list)
    local sum = 0
    for _, entry in ipairs(list) do sum = sum + entry[2] end
    local at = self:float(0, sum)
    for _, entry in ipairs(list) do
        at = at - entry[2]
        if at < 0 then return entry[1] end
    end
    return list[#list][1]
end

---A new list of the same elements in another order.
---@generic T
---@param list T[]
---@return T[]
function Random:shuffle(list)
    local mixed = table.move(list, 1, #list, 1, {})
    for i = #mixed, 2, -1 do
        local j = self:integer(1, i)
        mixed[i], mixed[j] = mixed[j], mixed[i]
    end
    return mixed
end

---`n` different elements of a list (all of them where it is shorter).
---@generic T
---@param list T[]
---@param n integer
---@return T[]
function Random:sample(list, n)
    return table.move(self:shuffle(list), 1, math.min(n, #list), 1, {})
end

---A UUID of version 4.
---@return string
function Random:uuid()
    local a, b = self:bits(), self:bits()
    return ("%08x-%04x-4%03x-%04x-%012x"):format(a >> 32, a >> 16 & 0xffff, a & 0xfff, b >> 48 & 0x3fff | 0x8000,
        b & 0xffffffffffff)
end

---`n` bytes.
---@param n integer
---@return string
function Random:bytes(n)
    local parts = {}
    for i = 1, (n + 7) // 8 do parts[i] = ("<i8"):pack(self:bits()) end
    return table.concat(parts):sub(1, n)
end

---A moment between two, to the second.
---@param from string as PostgreSQL takes it with a time zone or as UTC: "2025-01-01", "2025-01-01T12:00:00Z"
---@param to string not included
---@return string "2025-03-04T05:06:07Z"
function Random:time(from, to)
    local time = require "dbrun.time"
    local first, last = time.to_epoch(from) // 1, time.to_epoch(to) // 1
    return os.date("!%Y-%m-%dT%H:%M:%SZ", self:integer(math.tointeger(first), math.tointeger(last) - 1))
end

local SYLLABLES <const> = {
    "ba", "be", "do", "fa", "ga", "hi", "jo", "ka", "la", "le", "ma", "mi", "na", "no", "pa", "po", "ra", "ri", "sa",
    "se", "ta", "ti", "va", "ve", "wo", "za",
}

---An invented word of 2 to 4 syllables.
---@return string
function Random:word()
    local parts = {}
    for i = 1, self:integer(2, 4) do parts[i] = self:pick(SYLLABLES) end
    return table.concat(parts)
end

---`n` words with a blank between them.
---@param n integer
---@return string
function Random:words(n)
    local list = {}
    for i = 1, n do list[i] = self:word() end
    return table.concat(list, " ")
end

---An invented first and last name.
---@return string
function Random:name()
    return (("%s %s"):format(self:word(), self:word()):gsub("%f[%a]%a", string.upper))
end

---An e-mail address that cannot receive mail.
---@return string
function Random:email()
    return ("%s.%s%d@example.org"):format(self:word(), self:word(), self:integer(1, 9999))
end

---A generator; called like math.random: r() float in [0,1), r(n) 1..n, r(m, n) m..n.
---@param text string the seed
---@return dbrun.seed.Random
function M.new(text)
    local hash = 0xcbf29ce484222325
    for i = 1, #text do hash = (hash ~ text:byte(i)) * 0x100000001b3 end
    local next_part = spread(hash)
    return setmetatable({ next_part(), next_part(), next_part(), next_part() }, {
        __index = Random,
        __call = function(self, m, n)
            if not m then return self:float() end
            if not n then return self:integer(1, m) end
            return self:integer(m, n)
        end,
    })
end

return M
