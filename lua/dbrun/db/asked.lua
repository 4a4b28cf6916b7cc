--- Settings that the program requests when it connects (`options` of libpq), and the SQL that checks them, because a
--- pooler may drop them silently.
local M = {}

--- The words of `options`, as the server splits them: at blanks, a backslash escapes.
local function words_of(text)
    local words, word = {}, nil
    local escaped = false
    for c in text:gmatch "." do
        if escaped then
            word, escaped = word .. c, false
        elseif c == "\\" then
            word, escaped = word or "", true
        elseif c:find "%s" then
            words[#words + 1] = word
            word = nil
        else
            word = (word or "") .. c
        end
    end
    words[#words + 1] = word
    return words
end

--- Settings that dbrun sets itself after connecting, because the decoders of values need them.
local own <const> = { datestyle = true, client_encoding = true, extra_float_digits = true, array_nulls = true }

---The settings in `options`, in order, each name once with its last value. Other switches of the server are left out.
---@param text string
---@return {name: string, value: string}[]
function M.settings(text)
    local list, places = {}, {}
    local words <const> = words_of(text)
    local i = 1
    while i <= #words do
        local word = words[i]
        if word == "-c" then
            i = i + 1
            word = "--" .. (words[i] or "")
        elseif word:find "^%-c" then
            word = "--" .. word:sub(3)
        end
        local name <const>, value <const> = word:match "^%-%-([^=]+)=(.*)$"
        local key <const> = name and name:gsub("-", "_")
        if key and not own[key:lower()] then
            local place <const> = places[key:lower()] or #list + 1
            list[place], places[key:lower()] = { name = key, value = value }, place
        end
        i = i + 1
    end
    return list
end

--- A string constant that does not depend on standard_conforming_strings.
local function literal(s)
    return "E'" .. s:gsub("[\\']", "%0%0") .. "'"
end

--- Makes the server normalise the value as it writes the setting; the change is undone at the end of the statement.
local comparing <const> = "select %s, pg_catalog.current_setting(%s, true), pg_catalog.set_config(%s, %s, true), "
    .. "pg_catalog.pg_backend_pid()"

--- For settings that cannot be changed in a session: the server says where their value comes from.
local asking <const> = "select %s, coalesce((select %s::text from pg_catalog.pg_settings s where "
    .. "pg_catalog.lower(s.name) operator(pg_catalog.=) pg_catalog.lower(%s) and "
    .. "s.source operator(pg_catalog.=) 'client'::text), pg_catalog.current_setting(%s, true)), %s::text, "
    .. "pg_catalog.pg_backend_pid()"

---Two statements; the second is used when the server refuses the first. Each returns rows (name, current value,
---requested value, process of the backend); nil when no settings are requested.
---@param settings {name: string, value: string}[]
---@return string|nil comparing
---@return string|nil asking
function M.sql(settings)
    local first, second = {}, {}
    for i, setting in ipairs(settings) do
        local name <const>, value <const> = literal(setting.name), literal(setting.value)
        first[i] = comparing:format(name, name, name, value)
        second[i] = asking:format(name, value, name, name, value)
    end
    if #first == 0 then
        return nil
    end
    return table.concat(first, " union all "), table.concat(second, " union all ")
end

return M
