--- Decides whether the input is SQL, Lua, or a command of the prompt, by its first word. Whether it compiles does not
--- matter: `begin`, `select` alone in its line, `values (1)` and `select 'x'` all compile as Lua.
local scan <const> = require "dbrun.core".sql.scan

local M = {}

--- First words of PostgreSQL's statements. END and LOAD are Lua's, DO and TABLE are examined further.
local WORDS <const> = {}
for word in ([[ABORT ALTER ANALYZE BEGIN CALL CHECKPOINT CLOSE CLUSTER COMMENT COMMIT COPY CREATE DEALLOCATE DECLARE
    DELETE DISCARD DROP EXECUTE EXPLAIN FETCH GRANT IMPORT INSERT LISTEN LOCK MERGE MOVE NOTIFY PREPARE REASSIGN REFRESH
    REINDEX RELEASE RESET REVOKE ROLLBACK SAVEPOINT SECURITY SELECT SET SHOW START TRUNCATE UNLISTEN UPDATE VACUUM
    VALUES WITH]]):gmatch "%a+" do
    WORDS[word:lower()] = true
end

--- Words that can be first inside brackets: (select 1) union (select 2).
local IN_BRACKETS <const> = { select = true, values = true, with = true, table = true }

local NAME <const> = "^[%a_\x80-\xff][%w_\x80-\xff]*"

---Where the next piece that is neither a blank nor an SQL comment begins.
local function skip(text, at)
    for _, kind, from in scan, text, at do
        if kind ~= "blank" and kind ~= "comment" then return from end
    end
    return #text + 1
end

local function compiles(text)
    return load("return " .. text, "=", "t", {}) ~= nil or load(text, "=", "t", {}) ~= nil
end

---Whether a semicolon ends it, perhaps followed by comments.
local function is_ended(text)
    local last
    for behind, kind, from in scan, text, 1 do
        if kind ~= "blank" and kind ~= "comment" then last = text:sub(from, behind - 1) end
    end
    return last == ";"
end

---What follows a word makes it a Lua name: an assignment, a field, a method, an element, a call.
local function is_lua_behind(text, at)
    local rest <const> = text:sub(at)
    if rest:find "^[=~,%[{]" then return true end
    if rest:find "^%." then return not rest:find "^%.%d" end -- select .5 is a number
    if rest:find "^:" then -- select :name is a parameter, select:name(1) a call
        local behind <const> = rest:match("^:%s*[%a_][%w_]*%s*(.*)$")
        return rest:find "^::" ~= nil or behind ~= nil and (behind:find "^[%({\"']" or behind:find "^%[=*%[") ~= nil
    end
    return false
end

local function is_call(text, at, word, is_value, whole)
    return text:find("^%(", at) ~= nil and is_value(word) and compiles(whole) and not is_ended(whole)
end

---table t;
local function is_table(text, at)
    local word <const> = text:match(NAME, at)
    return text:find('^"', at) ~= nil or word ~= nil and not (word == "and" or word == "or")
end

---do $$ ... $$; do 'begin end'; do language plpgsql $$ ... $$
local function is_do(text, at)
    if text:find("^[$']", at) then return true end
    local word <const> = text:match(NAME, at)
    if not word or word:lower() ~= "language" then return false end
    local behind <const> = skip(text, at + #word)
    return behind > #text or text:find("^[%a_\x80-\xff'\"]", behind) ~= nil
end

---Whether the text from `at` on is SQL by its first word. `whole` is the text to compile.
local function is_sql(text, at, is_value, whole, words)
    local word <const> = text:match(NAME, at)
    if not word then return false end
    local lower <const>, behind <const> = word:lower(), skip(text, at + #word)
    if words and not words[lower] then return false end
    if lower == "table" then return is_table(text, behind) end
    if lower == "do" then return is_do(text, behind) end
    if not WORDS[lower] or is_lua_behind(text, behind) then return false end
    return not is_call(text, behind, word, is_value, whole)
end

---(select 1) union (select 2) is SQL, unless it compiles as Lua.
local function is_bracketed(text, at, is_value)
    local inner = at
    while text:find("^%(", inner) do inner = skip(text, inner + 1) end
    if not is_sql(text, inner, is_value, text, IN_BRACKETS) then return false end
    local behind <const> = skip(text, inner + #text:match(NAME, inner))
    return not text:find("^%)", behind) and (is_ended(text) or not compiles(text))
end

---Classifies a text: the first line of new input, or several lines of it.
---@param text string
---@param is_value? fun(name: string): boolean does the name have a value in Lua? Default: the global of that name
---@return "sql"|"lua"|"command"
function M.kind(text, is_value)
    is_value = is_value or function(name) return rawget(_G, name) ~= nil end
    if text:find "^%s*=" then return "lua" end
    if text:find "^%s*\\" then return "command" end
    local at = text:match "^%s*()"
    while true do
        if text:find("^%-%-%[=*%[", at) then return "lua" end -- a long comment of Lua
        local before <const> = at
        at = text:match("^%-%-[^\n]*\n%s*()", at) or text:match("^;%s*()", at) or at
        if at == before then break end
    end
    if text:find("^/%*", at) then
        local first <const> = skip(text, at)
        return text:find("^\\", first) and "command" or "sql" -- no Lua begins so
    end
    local sql
    if text:find("^%(", at) then sql = is_bracketed(text, at, is_value)
    else sql = is_sql(text, at, is_value, text) end
    return sql and "sql" or "lua"
end

return M
