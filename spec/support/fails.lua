--- `local e = fails("timeout", fn, ...)`: returns the error of that kind that fn(...) raises, and fails otherwise.
local assert = require "luassert"
local errors = require "dbrun.error"

---@param kind string as in dbrun.error
---@param fn function
---@return dbrun.Error
return function(kind, fn, ...)
    local ok, e = pcall(fn, ...)
    assert.is_false(ok)
    assert.is_true(errors.is(e, kind), tostring(e))
    return e
end
