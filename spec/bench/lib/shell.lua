-- Runs programs and accesses files with the functions of plain Lua.
local M = {}

--- Quotes one word for sh.
---@param word string|number
---@return string
function M.quote(word)
    return "'" .. tostring(word):gsub("'", "'\\''") .. "'"
end

--- A command line out of words, with variables set for this command only.
---@param argv (string|number)[]
---@param env? table<string, string>
---@return string
function M.command(argv, env)
    local words <const> = { "exec" }
    if env then
        words[2] = "env"
        local keys <const> = {}
        for k in pairs(env) do keys[#keys + 1] = k end
        table.sort(keys)
        for _, k in ipairs(keys) do words[#words + 1] = M.quote(k .. "=" .. env[k]) end
    end
    for _, w in ipairs(argv) do words[#words + 1] = M.quote(w) end
    return table.concat(words, " ")
end

--- Reads a whole file; nil when it cannot be opened.
---@param path string
---@return string|nil
function M.read(path)
    local f <close> = io.open(path, "rb")
    return f and f:read("a")
end

--- Writes a whole file; raises when it cannot.
---@param path string
---@param text string
function M.write(path, text)
    local f <close> = assert(io.open(path, "wb"))
    assert(f:write(text))
end

--- Runs a program to its end; its standard error goes through.
---@param argv (string|number)[]
---@param env? table<string, string>
---@return string output
---@return integer status  -- 128 + number for a signal
function M.run(argv, env)
    local p <const> = assert(io.popen(M.command(argv, env), "r"))
    local out <const> = p:read("a")
    local _, how, code = p:close()
    return out, how == "signal" and 128 + code or code
end

--- Runs a program that must succeed; otherwise raises an error with all of its output.
---@param argv (string|number)[]
---@param env? table<string, string>
---@return string output  -- standard output and standard error
function M.must(argv, env)
    local p <const> = assert(io.popen(M.command(argv, env) .. " 2>&1", "r"))
    local out <const> = p:read("a")
    local _, _, code = p:close()
    if code ~= 0 then error(string.format("%s: status %d\n%s", argv[1], code, out), 0) end
    return out
end

--- The first line of what a program prints, or nil when it is missing or fails.
---@param argv (string|number)[]
---@return string|nil
function M.first_line(argv)
    local p <const> = assert(io.popen(M.command(argv) .. " 2>/dev/null", "r"))
    local line <const> = p:read("l")
    return p:close() and line or nil
end

--- The path of a program in PATH, or nil.
---@param name string
---@return string|nil
function M.which(name)
    return M.first_line { "sh", "-c", "command -v " .. M.quote(name) }
end

---@param path string
---@return boolean
function M.exists(path)
    local f <close> = io.open(path, "rb")
    return f ~= nil
end

--- The names of the files that match a pattern of sh, sorted.
---@param dir string
---@param pattern string  -- as "*.lua"
---@return string[]
function M.glob(dir, pattern)
    local list <const> = {}
    local p <const> = assert(io.popen("cd " .. M.quote(dir) .. " && LC_ALL=C ls -d " .. pattern .. " 2>/dev/null", "r"))
    for name in p:lines() do list[#list + 1] = name end
    p:close()
    return list
end

return M
