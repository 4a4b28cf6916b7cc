--- `resident()`: this program's resident memory, as the kernel counts it.
local PAGE <const> = 4096

---@return integer bytes
return function()
    local f <close> = assert(io.open "/proc/self/statm")
    return math.tointeger(f:read "a":match "^%d+ (%d+)") * PAGE
end
