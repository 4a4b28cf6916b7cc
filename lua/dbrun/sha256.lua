--- SHA-256 of a string, in plain Lua: for checksums of files, which are small.
local M = {}

---The first 32 bits of the fractional part of a number's root, for the first `n` primes.
local function fractions(n, exponent)
    local list, candidate = {}, 2
    while #list < n do
        local prime = true
        for divisor = 2, math.floor(candidate ^ 0.5) do
            if candidate % divisor == 0 then
                prime = false
                break
            end
        end
        if prime then list[#list + 1] = math.floor((candidate ^ exponent % 1) * 2 ^ 32) end
        candidate = candidate + 1
    end
    return list
end

local K <const> = fractions(64, 1 / 3)
local START <const> = fractions(8, 1 / 2)

local function rotate(x, n)
    return (x >> n | x << (32 - n)) & 0xffffffff
end

---The 64 words that one block of 16 becomes.
local function schedule(block, at)
    local w = { (">I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4"):unpack(block, at) }
    for i = 17, 64 do
        local a, b = w[i - 15], w[i - 2]
        local s0 = rotate(a, 7) ~ rotate(a, 18) ~ (a >> 3)
        local s1 = rotate(b, 17) ~ rotate(b, 19) ~ (b >> 10)
        w[i] = (w[i - 16] + s0 + w[i - 7] + s1) & 0xffffffff
    end
    return w
end

local function compress(h, w)
    local a, b, c, d, e, f, g, i = table.unpack(h)
    for n = 1, 64 do
        local s1 = rotate(e, 6) ~ rotate(e, 11) ~ rotate(e, 25)
        local t1 = i + s1 + ((e & f) ~ (~e & g)) + K[n] + w[n]
        local s0 = rotate(a, 2) ~ rotate(a, 13) ~ rotate(a, 22)
        local t2 = s0 + ((a & b) ~ (a & c) ~ (b & c))
        i, g, f, e, d, c, b, a = g, f, e, (d + t1) & 0xffffffff, c, b, a, (t1 + t2) & 0xffffffff
    end
    for n, word in ipairs { a, b, c, d, e, f, g, i } do h[n] = (h[n] + word) & 0xffffffff end
end

---@param text string
---@return string hex 64 digits
function M.hex(text)
    local padded = text .. "\x80" .. ("\0"):rep((55 - #text) % 64) .. (">I8"):pack(#text * 8)
    local h = table.move(START, 1, 8, 1, {})
    for at = 1, #padded, 64 do compress(h, schedule(padded, at)) end
    return (("%08x"):rep(8)):format(table.unpack(h))
end

return M
