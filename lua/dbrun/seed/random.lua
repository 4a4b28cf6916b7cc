--- Random numbers that are the same in every run: a seed that draws them makes the same data everywhere.
--- xoshiro256**, started from a text, independent of math.random and of what other seeds draw.
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

---A whole number from m to n, both included. The bias of the remainder is below 2^-32 for the ranges of test data.
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

---A generator; called like math.random: r() float in [0,1), r(n) 1..n, r(m, n) m..n.
---@param text string what it starts from
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
