--- Random numbers that are the same in every run, so that a seed makes the same data everywhere. xoshiro256**, seeded
--- with a text, independent of math.random and of other seeds.
local args = require "dbrun.args"
local errors = require "dbrun.error"

local M = {}

---@class dbrun.seed.Random
---Raises nothing else.
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

local COUNT <const> = args.whole(0)

local meta <const> = { __index = Random }

local function check_self(self)
    if getmetatable(self) ~= meta then
        errors.usage("random", "its functions are called with ':' on a generator, as random:integer(1, 6)")
    end
end

local function bits(self)
    check_self(self)
    local a, b, c, d = self[1], self[2], self[3], self[4]
    local result = rotate(b * 5, 7) * 9
    local t = b << 17
    c, d = c ~ a, d ~ b
    b, a = b ~ c, a ~ d
    self[1], self[2], self[3], self[4] = a, b, c ~ t, rotate(d, 45)
    return result
end

---The next 64 bits.
---@return integer
---```lua
---local random = require "dbrun.seed.random".new "a seed" -- in a seed: ctx.random
---print(math.type(random:bits()))  --> integer
---```
function Random:bits()
    return bits(self)
end

---A float from `low` (default 0) up to but not including `high` (default 1).
---@param low? number
---@param high? number
---@return number
---```lua
---local random = require "dbrun.seed.random".new "a seed" -- in a seed: ctx.random
---local x = random:float(1, 2)
---print(x >= 1 and x < 2)  --> true
---```
function Random:float(low, high)
    if low ~= nil or high ~= nil then
        args.optional("random:float", "low", low, "number")
        args.optional("random:float", "high", high, "number")
    end
    local unit = (bits(self) >> 11) * (1.0 / (1 << 53))
    low = low or 0
    return low + unit * ((high or 1) - low)
end

---A whole number from m to n, both included. Its bias is below 2^-32 for ranges up to 2^32.
---@param m integer
---@param n integer
---@return integer
---```lua
---local random = require "dbrun.seed.random".new "a seed" -- in a seed: ctx.random
---local die = random:integer(1, 6)
---print(die >= 1 and die <= 6)  --> true
---```
function Random:integer(m, n)
    if math.type(m) ~= "integer" or math.type(n) ~= "integer" then
        args.check("random:integer", "m", m, args.integer)
        args.check("random:integer", "n", n, args.integer)
        m, n = math.tointeger(m), math.tointeger(n)
    end
    if n < m then errors.usage("random:integer", "the range from %d to %d is empty", m, n) end
    local span = n - m + 1
    if span <= 0 then errors.usage("random:integer", "the range from %d to %d is too wide", m, n) end
    return m + (bits(self) >> 1) % span
end

---A normally distributed float.
---@param mean? number default 0
---@param deviation? number default 1
---@return number
---```lua
---local random = require "dbrun.seed.random".new "a seed" -- in a seed: ctx.random
---print(math.type(random:normal(20, 5)))  --> float
---```
function Random:normal(mean, deviation)
    args.optional("random:normal", "mean", mean, "number")
    args.optional("random:normal", "deviation", deviation, "number")
    local radius = math.sqrt(-2 * math.log(1 - Random.float(self)))
    return (mean or 0) + (deviation or 1) * radius * math.cos(2 * math.pi * Random.float(self))
end

local LIST <const> = {
    function(v) return type(v) == "table" and #v > 0 end, "a list with at least one element",
}

---One element of a list.
---@generic T
---@param list T[]
---@return T
---```lua
---local random = require "dbrun.seed.random".new "a seed" -- in a seed: ctx.random
---print(random:pick { "only" })  --> only
---```
function Random:pick(list)
    args.check("random:pick", "list", list, LIST)
    return list[Random.integer(self, 1, #list)]
end

---true with this probability.
---@param probability? number default 0.5
---@return boolean
---```lua
---local random = require "dbrun.seed.random".new "a seed" -- in a seed: ctx.random
---print(random:boolean(1))  --> true
---```
function Random:boolean(probability)
    args.optional("random:boolean", "probability", probability, "number")
    return Random.float(self) < (probability or 0.5)
end

local ENTRY <const> = {
    function(v) return type(v) == "table" and type(v[2]) == "number" and v[2] >= 0 end,
    "{value, weight} with a weight of at least 0",
}

---One element of a list of {value, weight}, with a probability in proportion to its weight.
---@param list { [1]: any, [2]: number }[]
---@return any
---```lua
---local random = require "dbrun.seed.random".new "a seed" -- in a seed: ctx.random
---print(random:weighted { { "always", 1 }, { "never", 0 } })  --> always
---```
function Random:weighted(list)
    args.check("random:weighted", "list", list, LIST)
    args.list("random:weighted", "list", list, ENTRY)
    local sum = 0
    for _, entry in ipairs(list) do sum = sum + entry[2] end
    local at = Random.float(self, 0, sum)
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
---```lua
---local random = require "dbrun.seed.random".new "a seed" -- in a seed: ctx.random
---print(#random:shuffle { 1, 2, 3 })  --> 3
---```
function Random:shuffle(list)
    check_self(self)
    args.check("random:shuffle", "list", list, "table")
    local mixed = table.move(list, 1, #list, 1, {})
    for i = #mixed, 2, -1 do
        local j = Random.integer(self, 1, i)
        mixed[i], mixed[j] = mixed[j], mixed[i]
    end
    return mixed
end

---`n` different elements of a list (all of them where it is shorter).
---@generic T
---@param list T[]
---@param n integer
---@return T[]
---```lua
---local random = require "dbrun.seed.random".new "a seed" -- in a seed: ctx.random
---print(#random:sample({ "a", "b", "c" }, 2))  --> 2
---```
function Random:sample(list, n)
    args.check("random:sample", "list", list, "table")
    args.check("random:sample", "n", n, COUNT)
    return table.move(Random.shuffle(self, list), 1, math.min(n, #list), 1, {})
end

---A UUID of version 4.
---@return string
---```lua
---local random = require "dbrun.seed.random".new "a seed" -- in a seed: ctx.random
---print(#random:uuid())  --> 36
---```
function Random:uuid()
    local a, b = bits(self), bits(self)
    return ("%08x-%04x-4%03x-%04x-%012x"):format(a >> 32, a >> 16 & 0xffff, a & 0xfff, b >> 48 & 0x3fff | 0x8000,
        b & 0xffffffffffff)
end

---`n` bytes.
---@param n integer
---@return string
---```lua
---local random = require "dbrun.seed.random".new "a seed" -- in a seed: ctx.random
---print(#random:bytes(16))  --> 16
---```
function Random:bytes(n)
    args.check("random:bytes", "n", n, COUNT)
    local parts = {}
    for i = 1, (n + 7) // 8 do parts[i] = ("<i8"):pack(bits(self)) end
    return table.concat(parts):sub(1, n)
end

---A moment between two, to the second.
---@param from string as PostgreSQL takes it with a time zone or as UTC: "2025-01-01", "2025-01-01T12:00:00Z"
---@param to string not included
---@return string "2025-03-04T05:06:07Z"
---```lua
---local random = require "dbrun.seed.random".new "a seed" -- in a seed: ctx.random
---print(random:time("2024-01-01", "2024-01-02"):sub(1, 10))  --> 2024-01-01
---```
function Random:time(from, to)
    args.check("random:time", "from", from, "string")
    args.check("random:time", "to", to, "string")
    local time = require "dbrun.time"
    local first, last = time.to_epoch(from) // 1, time.to_epoch(to) // 1
    return os.date("!%Y-%m-%dT%H:%M:%SZ", Random.integer(self, math.tointeger(first), math.tointeger(last) - 1))
end

local SYLLABLES <const> = {
    "ba", "be", "do", "fa", "ga", "hi", "jo", "ka", "la", "le", "ma", "mi", "na", "no", "pa", "po", "ra", "ri", "sa",
    "se", "ta", "ti", "va", "ve", "wo", "za",
}

---An invented word of 2 to 4 syllables.
---@return string
---```lua
---local random = require "dbrun.seed.random".new "a seed" -- in a seed: ctx.random
---print(type(random:word()))  --> string
---```
function Random:word()
    local parts = {}
    for i = 1, Random.integer(self, 2, 4) do parts[i] = Random.pick(self, SYLLABLES) end
    return table.concat(parts)
end

---`n` words with a blank between them.
---@param n integer
---@return string
---```lua
---local random = require "dbrun.seed.random".new "a seed" -- in a seed: ctx.random
---local _, blanks = random:words(3):gsub(" ", "")
---print(blanks)  --> 2
---```
function Random:words(n)
    args.check("random:words", "n", n, COUNT)
    local list = {}
    for i = 1, n do list[i] = Random.word(self) end
    return table.concat(list, " ")
end

---An invented first and last name.
---@return string
---```lua
---local random = require "dbrun.seed.random".new "a seed" -- in a seed: ctx.random
---print(random:name():match "%a+ %a+" ~= nil)  --> true
---```
function Random:name()
    return (("%s %s"):format(Random.word(self), Random.word(self)):gsub("%f[%a]%a", string.upper))
end

---An e-mail address that cannot receive mail.
---@return string
---```lua
---local random = require "dbrun.seed.random".new "a seed" -- in a seed: ctx.random
---print(random:email():match "@" ~= nil)  --> true
---```
function Random:email()
    return ("%s.%s%d@example.org"):format(Random.word(self), Random.word(self), Random.integer(self, 1, 9999))
end

---A generator; called like math.random: r() float in [0,1), r(n) 1..n, r(m, n) m..n.
---@param text string the seed
---@return dbrun.seed.Random
function M.new(text)
    args.check("random.new", "text", text, "string")
    local hash = 0xcbf29ce484222325
    for i = 1, #text do hash = (hash ~ text:byte(i)) * 0x100000001b3 end
    local next_part = spread(hash)
    return setmetatable({ next_part(), next_part(), next_part(), next_part() }, meta)
end

function meta:__call(m, n)
    if not m then return Random.float(self) end
    if not n then return Random.integer(self, 1, m) end
    return Random.integer(self, m, n)
end

args.answer_for_names(Random, "a random generator", {
    int = "r:integer(m, n)", randint = "r:integer(m, n)", number = "r:float(low, high)", uniform = "r:float(low, high)",
    random = "r:float(), or r()", gauss = "r:normal(mean, deviation)", choice = "r:pick(list)",
    choose = "r:pick(list)", element = "r:pick(list)", choices = "r:sample(list, n)", bool = "r:boolean(probability)",
    date = "r:time(from, to)", string = "r:word(), or r:bytes(n)",
})

return M
