--- Checks arguments, options and names. Each error is of kind `usage` and names the function, the wrong argument, what
--- is expected, and, for a mistyped name, the nearest known one.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"

local M = {}

---What a value must be: the name of a Lua type, or a test and its description for errors. With `shows`, an error shows
---the string that fails the test; set it only for strings that cannot be secret.
---@alias dbrun.args.Rule string|{ [1]: (fun(value: any): boolean), [2]: string, shows?: boolean }

-- ---- rules ----

local function sorted_names(set)
    local names = {}
    for name in pairs(set) do
        names[#names + 1] = name
    end
    table.sort(names)
    return names
end

--- For times: NaN and infinity fail.
M.seconds = {
    function(v) return type(v) == "number" and v >= 0 and v < math.huge end, "a number of seconds of at least 0",
}
--- For times where math.huge means no limit.
M.any_seconds = { function(v) return type(v) == "number" and v >= 0 end, "a number of seconds of at least 0" }
M.some_seconds = {
    function(v) return type(v) == "number" and v > 0 and v < math.huge end, "a number of seconds above 0",
}

--- For the longest time that a function waits: infinity is allowed, and a value below 0 does not wait.
M.limit = { function(v) return type(v) == "number" and v == v end, "a number of seconds" }

--- For spans of time, which may be negative.
M.span = {
    function(v) return type(v) == "number" and v > -math.huge and v < math.huge end, "a number of seconds",
}

---Whether the value can be called: a function, or an object with __call.
---@param v any
---@return boolean
function M.is_callable(v)
    local meta <const> = type(v) ~= "string" and getmetatable(v)
    return type(v) == "function" or (type(meta) == "table" and meta.__call ~= nil)
end

M.callable = { M.is_callable, "a function" }

M.integer = { function(v) return type(v) == "number" and math.tointeger(v) ~= nil end, "a whole number" }

--- For paths: a NUL would end the name for the system.
M.path = {
    function(v) return type(v) == "string" and v ~= "" and not v:find("\0", 1, true) end,
    "a string that is not empty and has no NUL byte",
}

---A rule for whole numbers, as integers or floats without a fraction.
---@param low integer
---@param high? integer
---@return dbrun.args.Rule
function M.whole(low, high)
    local words <const> = high and ("a whole number from %d to %d"):format(low, high)
        or ("a whole number of at least %d"):format(low)
    return {
        function(v)
            local n <const> = type(v) == "number" and math.tointeger(v)
            return n and n >= low and (not high or n <= high) or false
        end, words,
    }
end

---A rule for values of one of several types.
---@param ... string names of Lua types
---@return dbrun.args.Rule
function M.one_type_of(...)
    local set, words = {}, {}
    for i, name in ipairs { ... } do
        set[name], words[i] = true, "a " .. name
    end
    local last <const> = table.remove(words)
    return { function(v) return set[type(v)] == true end, table.concat(words, ", ") .. " or " .. last }
end

---A rule for one of several strings.
---@param ... string
---@return dbrun.args.Rule
function M.one_of(...)
    local set, quoted = {}, {}
    for i, word in ipairs { ... } do
        set[word], quoted[i] = true, ('"%s"'):format(word)
    end
    local last <const> = table.remove(quoted)
    local words <const> = #quoted > 0 and table.concat(quoted, ", ") .. " or " .. last or last
    return { function(v) return set[v] == true end, words, shows = true }
end

local function are_strings(list)
    local n = 0
    for key, value in next, type(list) == "table" and list or { 0 } do
        if math.type(key) ~= "integer" or type(value) ~= "string" then
            return false
        end
        n = n + 1
    end
    return n == #list
end

--- Lists without holes and other keys.
M.strings = { are_strings, "a list of strings" }
M.string_or_strings = {
    function(v) return type(v) == "string" or are_strings(v) end, "a string or a list of strings",
}

---A rule that allows `false` or what another rule allows: `false` turns many options off.
---@param rule dbrun.args.Rule
---@return dbrun.args.Rule
function M.or_false(rule)
    local test <const> = type(rule) == "string" and function(v) return type(v) == rule end or rule[1]
    local words <const> = type(rule) == "string" and "a " .. rule or rule[2]
    local shows <const> = type(rule) == "table" and rule.shows
    return { function(v) return v == false or test(v) end, words .. ", or false", shows = shows }
end

-- ---- values ----

local ARTICLES <const> = { userdata = "an object", table = "a table", thread = "a coroutine" }

--- Describes a value for an error. A string is described only by its type, because it may be a password.
local function got(value, shows)
    local kind <const> = type(value)
    if value ~= value then
        return "NaN"
    elseif kind == "nil" or kind == "boolean" or kind == "number" then
        return tostring(value)
    elseif value == "" then
        return "an empty string"
    elseif kind == "string" and shows then
        return ("%q"):format(#value > 64 and value:sub(1, 61) .. "..." or value)
    end
    return ARTICLES[kind] or "a " .. kind
end

---Raises unless the value fits the rule.
---@param fn string the function as scripts call it, "fs.read"
---@param name string the argument or option
---@param value any
---@param rule dbrun.args.Rule
function M.check(fn, name, value, rule)
    if type(rule) == "string" then
        if type(value) ~= rule then
            errors.usage(fn, "%s must be a %s, got %s", name, rule, got(value))
        end
    elseif not rule[1](value) then
        errors.usage(fn, "%s must be %s, got %s", name, rule[2], got(value, rule.shows))
    end
end

---Raises unless the value is nil or fits the rule.
---@param fn string
---@param name string
---@param value any
---@param rule dbrun.args.Rule
function M.optional(fn, name, value, rule)
    if value ~= nil then
        M.check(fn, name, value, rule)
    end
end

---Raises unless a method was called on an object of its class: with ':', not with '.'.
---@param fn string the method
---@param self any
---@param class table|table<table, true> the metatable, or a set of them
---@param what string "a listener"
---@param as string how examples name the object: "listener"
function M.self(fn, self, class, what, as)
    local meta <const> = getmetatable(self)
    if meta ~= class and not (meta and rawget(class, meta)) then
        errors.fail("usage", ("%s: must be called on %s, got %s"):format(fn, what, got(self)),
            ("call it with ':', as %s:%s(...)"):format(as, fn))
    end
end

---Raises when there is an argument too many.
---@param fn string
---@param takes string "takes no arguments"
---@param hint string|nil what to write instead
---@param ... any the arguments after the last one that the function takes
function M.no_more(fn, takes, hint, ...)
    for i = 1, select("#", ...) do
        local extra <const> = (select(i, ...))
        if extra ~= nil then
            errors.fail("usage", ("%s: %s, got %s"):format(fn, takes, got(extra)), hint)
        end
    end
end

---Raises unless the value is a list whose elements all fit the rule. An element behind a nil or under a name would be
---lost; `arg` has elements before the first, and table.pack an `n`.
---@param fn string
---@param name string
---@param list any
---@param rule dbrun.args.Rule
function M.list(fn, name, list, rule)
    M.check(fn, name, list, "table")
    local n <const> = #list
    for i = 1, n do
        local value <const> = list[i]
        if type(value) ~= rule then M.check(fn, ("%s[%d]"):format(name, i), value, rule) end
    end
    for key in next, list do
        if math.type(key) == "integer" and key > n then
            errors.usage(fn, "%s[%d] is nil, and others follow", name, n + 1)
        elseif type(key) == "string" and key ~= "n" and core.rows.kind(list) ~= "result" then
            errors.usage(fn, "%s must be a list, but has a value for %q", name, key)
        end
    end
end

---Raises unless the value is nil or a list whose elements all fit the rule.
---@param fn string
---@param name string
---@param list any
---@param rule dbrun.args.Rule
function M.optional_list(fn, name, list, rule)
    if list ~= nil then
        M.list(fn, name, list, rule)
    end
end

---Raises for a list with a nil in it, because the elements after the nil would be lost; for a table by name, which has
---none; and for an empty one whose elements are in its metatable, unless __index gives the first. Beside elements other
---keys are allowed: results have them.
---@param fn string
---@param what string one of its elements: "element", "row"
---@param list table
function M.no_holes(fn, what, list)
    local n, names = 0, 0
    for key in next, list do
        if math.type(key) == "integer" then n = n + 1 elseif key ~= "n" then names = names + 1 end
    end
    local kind <const> = core.rows.kind(list)
    if n == 0 and kind ~= "result" and (names > 0 or kind == "row") then
        errors.fail("usage", ("%s: expected a list of %ss, got a table by name"):format(fn, what),
            ("A list of one is { %s }."):format(what))
    end
    local lost <const>, hint <const> = core.rows.proxy(list)
    if lost and list[1] == nil then
        errors.fail("usage", ("%s: the list of %ss is %s"):format(fn, what, lost), hint)
    end
    for i = 1, n do
        if list[i] == nil then errors.usage(fn, "%s %d is nil, and others follow", what, i) end
    end
end

---Raises unless each of the values fits the rule.
---@param fn string
---@param name string of all of them
---@param rule dbrun.args.Rule
---@param ... any
function M.each(fn, name, rule, ...)
    for i = 1, select("#", ...) do
        M.check(fn, ("%s %d"):format(name, i), (select(i, ...)), rule)
    end
end

-- ---- options ----

local function raise_unknown_option(fn, key, known)
    local names <const> = sorted_names(known)
    local near <const> = type(key) == "string" and require "dbrun.nearest".find(key, names)
    local hint = near and ("did you mean '%s'?"):format(near)
    if not hint then
        hint = #names == 1 and ("the only option is '%s'"):format(names[1])
            or "the options are " .. table.concat(names, ", ")
    end
    local shown <const> = type(key) == "string" and ("'%s'"):format(key) or ("[%s]"):format(got(key))
    errors.fail("usage", ("%s: unknown option %s"):format(fn, shown), hint)
end

---Raises when the options are not a table, when one of them is unknown, or when its value does not fit its rule.
---@param fn string the function as scripts call it, "db.engine"
---@param options table|nil
---@param known table<string, dbrun.args.Rule> all options
---@return table options an empty table for nil
function M.options(fn, options, known)
    if options == nil then
        return {}
    elseif type(options) ~= "table" then
        errors.usage(fn, "the options must be a table, got %s", got(options))
    end
    for key, value in next, options do
        local rule <const> = known[key]
        if rule == nil then
            raise_unknown_option(fn, key, known)
        end
        M.check(fn, key, value, rule)
    end
    return options
end

---The arguments of a function that is called as fn(..., [options,] work).
---@param fn string
---@param options table|function|nil
---@param work function|nil
---@param known table<string, dbrun.args.Rule>
---@return table options
---@return function work
function M.options_and_function(fn, options, work, known)
    if type(options) == "function" then
        if work ~= nil then
            errors.fail("usage", ("%s: got %s after the function"):format(fn, got(work)),
                "options stand before the function")
        end
        options, work = nil, options
    end
    options = M.options(fn, options, known)
    M.check(fn, "the function to call", work, "function")
    return options, work
end

-- ---- names ----

---A map from the names that other libraries use for one kind of object to the hint for this one. Made once for each
---kind.
---@param kind table { what, how examples name the object, groups of { names, hint }... }; a hint may hold {} for the
---object and %s for the name
---@return table<string, string>
function M.foreign_names(kind)
    if kind.meant then
        return kind.meant
    end
    local names = {}
    for i = 3, #kind do
        for _, group in ipairs(kind[i]) do
            for name in group[1]:gmatch "%S+" do
                names[name] = names[name] or group[2]:gsub("{}", kind[2]):gsub("%%s", name)
            end
        end
    end
    kind.meant = names
    return names
end

---For an `__index`: raises an error with "did you mean" when a script asks for a name that does not exist but resembles
---another one. Returns nil when nothing resembles it, so that a script can test whether a newer function exists.
---@param what string what has no such name: "db", "an engine"
---@param key any
---@param names table<string, any> the keys are the names that exist
---@param meant? table<string, string> names of other places, and where they are: { query = "db.async:query(...)" }
---@return nil
function M.unknown_name(what, key, names, meant)
    if type(key) ~= "string" or key:find "^__" then
        return nil
    end
    local instead <const> = meant and meant[key]
    if instead then
        errors.fail("usage", ("%s has no '%s'"):format(what, key), instead)
    end
    local near <const> = require "dbrun.nearest".find(key, sorted_names(names))
    if near then
        errors.fail("usage", ("%s has no '%s'"):format(what, key), ("did you mean '%s'?"):format(near))
    end
    return nil
end

---Makes a module, or the methods of a class, answer for names that they do not have; see unknown_name.
---@param names table the module, or the table of methods
---@param what string
---@param meant? table<string, string>
---@return table names
function M.answer_for_names(names, what, meant)
    return setmetatable(names, {
        __index = function(_, key)
            return M.unknown_name(what, key, names, meant)
        end,
    })
end

M.answer_for_names(errors, "error", {
    throw = "error.raise{kind =, message =}", create = "error.new{kind =, message =}", kind = "e.kind",
    is_error = "error.is(e)", isinstance = "error.is(e)", tostring = "tostring(e)", message = "e.message",
})

return M
