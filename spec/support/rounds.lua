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
---@return integer stride
---@return integer first at random, so that each moment has its turn
function M.moments()
    return share, math.random(share)
end

return M
