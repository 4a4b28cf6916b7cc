--- How often a randomised spec goes round. `make test` goes the whole way; under the sanitizers, which look at each
--- step instead of at many, and are several times slower, a quarter of it.

---@param n integer
---@return integer
return function(n)
    return os.getenv "ASAN_OPTIONS" and n // 4 or n
end
