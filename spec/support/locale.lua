--- Looks for functions that depend on the program's locale, in code that reads or writes a wire format: after a
--- script's os.setlocale "de_DE.UTF-8", 1.75 must stay 1.75.
---
---   lua5.4 spec/support/locale.lua FILE...
---
--- A C file must not call strtod, isdigit, tolower, strcasecmp and the like (base/number.h has versions without a
--- locale), nor format a float, except in a message. In a Lua file a format of a float must have words around it, as a
--- message has.
--- Prints what it finds, and then exits with status 1.

local CALLS <const> = {}
for name in ([[
    strtod strtof strtold strtol strtoll strtoul strtoull strtoimax strtoumax atof atoi atol atoll sscanf vsscanf
    isalnum isalpha isblank iscntrl isdigit isgraph islower isprint ispunct isspace isupper isxdigit tolower toupper
    strcasecmp strncasecmp strcasestr strcoll strxfrm setlocale localeconv lua_stringtonumber
]]):gmatch "%S+" do
    CALLS[name] = true
end

--- The only file in which these calls are allowed: the codecs use it.
local EXEMPT <const> = { ["runtime/base/number.c"] = true }

--- Functions that format text for people.
local MESSAGES <const> = {
    error_set = true, bind_fail = true, luaL_error = true, log_write = true, usage = true, fail = true,
}

local SPECIFIER <const> = "%%[-+ #0-9.*]*l?[aefgAEFG]"

local found = 0
local function complain(...)
    found = found + 1
    print(string.format(...))
end

--- Blanks out comments; keeps the newlines.
local function without_comments(text)
    text = text:gsub("/%*.-%*/", function(comment) return (comment:gsub("[^\n]", " ")) end)
    return (text:gsub("//[^\n]*", ""))
end

local function line_of(text, at)
    return select(2, text:sub(1, at):gsub("\n", "")) + 1
end

--- The name of the call that encloses a position: the word before the innermost open parenthesis.
local function caller(text, at)
    local depth = 0
    for i = at, 1, -1 do
        local c <const> = text:sub(i, i)
        if c == ")" then
            depth = depth + 1
        elseif c == "(" and depth > 0 then
            depth = depth - 1
        elseif c == "(" then
            return text:sub(1, i - 1):match "([%a_][%w_]*)%s*$"
        elseif c == ";" or c == "{" then
            return nil
        end
    end
    return nil
end

local function complain_of_float(file, text, at, literal)
    complain("%s:%d: prints a float in the program's locale: %s", file, line_of(text, at), literal)
end

local function check_c(file, text)
    for at, name in text:gmatch "()%f[%w_]([%l_]+)%s*%(" do
        if CALLS[name] then
            complain("%s:%d: %s depends on the locale: use base/number.h", file, line_of(text, at), name)
        end
    end
    for at, literal in text:gmatch '()"([^"\n]*)"' do
        if literal:gsub("%%%%", ""):find(SPECIFIER) and not MESSAGES[caller(text, at) or ""] then
            complain_of_float(file, text, at, literal)
        end
    end
end

local function check_lua(file, text)
    for at, literal in text:gmatch '()"([^"\n]*)"' do
        local words <const> = literal:gsub("%%[%d.]*%a", "")
        if literal:find "%%[%d.]*[efgEFG]" and not literal:find "%%f%[" and not words:find "%a" then
            complain_of_float(file, text, at, literal)
        end
    end
end

for _, file in ipairs(arg) do
    local f <close> = assert(io.open(file))
    local text <const> = f:read "a"
    if file:find "%.lua$" then
        check_lua(file, (text:gsub("%-%-[^\n]*", "")))
    elseif not EXEMPT[file] then
        check_c(file, without_comments(text))
    end
end
os.exit(found == 0)
