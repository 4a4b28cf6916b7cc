-- The values of P4 in stock Lua: `lua5.4 rows.lua ROWS` makes so many rows, keeps them and looks at each.
local count <const> = math.tointeger(arg[1])

local began <const> = os.clock()
local rows, sum = {}, 0
for i = 1, count do
    rows[i] = { a = i, b = i / 4, c = "text of row " .. i, d = "2024-01-01 00:00:00+00 and " .. i .. " s" }
end
for _, row in ipairs(rows) do sum = sum + row.a end
local spent <const> = os.clock() - began
local right <const> = sum == count * (count + 1) // 2
print(('{"ops":%d,"checks":%d,"errors":%d,"seconds":%f,"cpu_us_per_op":%f}'):format(count, count,
    right and 0 or count, spent, spent * 1e6 / count))
os.exit(true, false) -- what it kept is not freed one by one
