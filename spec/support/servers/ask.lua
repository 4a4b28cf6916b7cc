--- Runs statements and commands without the code under test, in a helper process that keeps running and prints what
--- psql and redis-cli would print (spec/support/c/ask.c).

local compiled = require "spec.support.compiled"
local errors = require "dbrun.error"
local process = require "dbrun.process"
local programs = require "dbrun.stack.programs"

local M = {}

local waiting = {} -- idle helper processes; several tasks can ask at the same time

local function start()
    local include = os.getenv "PQ_INCDIR" or "/usr/include/postgresql"
    return process.start {
        compiled.program("ask", "-I" .. include, "-lpq"), stdin_from = "pipe", stdout = "capture", cwd = "/",
        env = programs.environment(), pdeathsig = "KILL",
    }
end

local ESCAPED <const> = { n = "\n", r = "\r", ["\\"] = "\\" }

--- Sends one request. Raises kind `timeout` when no answer comes in time.
---@param limit number seconds
---@param texts string[] as ask.c takes them
---@return boolean ok
---@return string text that the client would print
function M.ask(limit, texts)
    local child = table.remove(waiting) or start()
    local lengths = { #texts }
    for i, text in ipairs(texts) do lengths[i + 1] = #text end
    child:write(table.concat(lengths, " ") .. "\n" .. table.concat(texts))
    local how, text = (child:read_line(limit) or ""):match "^(%a+) (.*)$"
    if not how then
        child:close()
        errors.raise { kind = "timeout", message = ("no answer within %d s: %s"):format(limit, texts[#texts]) }
    end
    waiting[#waiting + 1] = child
    return how == "ok", (text:gsub("\\(.)", ESCAPED))
end

---@param where string "unix:" and the path of a Redis, or "tcp:" and its port on 127.0.0.1
---@param words (string|number)[] as redis-cli takes them; of its options -n, -a and --no-auth-warning
---@param limit? number seconds; default 60
---@return boolean ok the server has answered; its answer can be an error
---@return string text
function M.redis(where, words, limit)
    local password, number = "", ""
    local i = 1
    while tostring(words[i]):find "^%-" do
        if words[i] == "-n" then number, i = tostring(words[i + 1]), i + 2
        elseif words[i] == "-a" then password, i = words[i + 1], i + 2
        elseif words[i] == "--no-auth-warning" then i = i + 1
        else error(words[i] .. ": not an option that a spec may give") end
    end
    local texts = { where, password, number }
    for n = i, #words do texts[#texts + 1] = tostring(words[n]) end
    return M.ask(limit or 60, texts)
end

return M
