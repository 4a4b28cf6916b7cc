--- The number of rounds of a randomised spec: all in `make test`; a quarter under the sanitizers, which check each step
--- and are several times slower.

local M <const> = {}

local share <const> = os.getenv "ASAN_OPTIONS" and 4 or 1

--- The number of rounds to run out of n.
---@param n integer
---@return integer
function M.of(n)
    return n // share
end

--- For specs that try moments 1, 2, 3 and so on in turn: the distance between two tries, and the first moment.
--- DBRUN_TEST_STRIDE=1, as in make faults: every moment.
---@param stride? integer default: every one, under the sanitizers every fourth
---@return integer stride
---@return integer first random, so that each moment is tried in some run
function M.moments(stride)
    stride = math.tointeger(tonumber(os.getenv "DBRUN_TEST_STRIDE")) or stride or share
    return stride, math.random(stride)
end

return M
