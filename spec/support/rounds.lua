--- How often a spec goes round. `make test` goes the whole way; under the sanitizers, which look at each step instead
--- of at many, and are several times slower, a quarter of it.

local M <const> = {}

local share <const> = os.getenv "ASAN_OPTIONS" and 4 or 1

--- Of n random rounds.
---@param n integer
---@return integer
function M.of(n)
    return n // share
end

--- Of moments that are tried one after the other: the distance from one to the next, and the first one, from 1 on.
--- DBRUN_TEST_STRIDE=1, as in make faults: every one.
---@param stride? integer default: every one, under the sanitizers every fourth
---@return integer stride
---@return integer first at random, so that each moment has its turn
function M.moments(stride)
    stride = math.tointeger(tonumber(os.getenv "DBRUN_TEST_STRIDE")) or stride or share
    return stride, math.random(stride)
end

return M
