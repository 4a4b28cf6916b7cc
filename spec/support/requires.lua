--- Looks for circles among the modules of a folder: modules that require each other, at load time or in functions.
---
---   lua5.4 spec/support/requires.lua FOLDER
---
--- FOLDER/a/b.lua is the module a.b, FOLDER/a/init.lua the module a. The checked calls are `require "name"`,
--- `pcall(require, "name")`, and `require("prefix." .. ...)`, which counts for each module with that prefix. The check
--- fails on any other call, because its argument is known only when it runs. Prints each circle with the lines that
--- cause it; exit status 1 when something is wrong.

local graphs <const> = require "spec.support.graph"

---@class spec.Token
---@field kind "name"|"string"|"symbol"
---@field text string of a string: what is in it
---@field line integer

---The token at `at`: its end, kind and text. The kind is nil for a comment or a space.
---@param source string
---@param at integer
---@return integer past the position after it
---@return string? kind
---@return string? text
local function token_at(source, at)
    local level <const>, long <const> = source:match("^%[(=*)%[()", at)
    if level then
        local stop <const>, past <const> = source:match("()%]" .. level .. "%]()", long)
        return past or #source + 1, "string", source:sub(long, (stop or 0) - 1)
    end
    local comment <const> = source:match("^%-%-()", at)
    if comment and source:find("^%[=*%[", comment) then
        return (token_at(source, comment))
    elseif comment then
        return source:match("^[^\n]*()", comment)
    end
    local mark <const> = source:match("^[\"']", at)
    if mark then
        local past = at + 1
        while past <= #source and source:sub(past, past) ~= mark do
            past = past + (source:sub(past, past) == "\\" and 2 or 1)
        end
        return past + 1, "string", source:sub(at + 1, past - 1)
    end
    local name <const>, behind <const> = source:match("^([%a_][%w_]*)()", at)
    if name then
        return behind, "name", name
    elseif source:find("^%s", at) then
        return source:match("^%s+()", at)
    end
    local symbol <const>, past <const> = source:match("^(%.*)()", at)
    if #symbol > 0 then
        return past, "symbol", symbol
    end
    return at + 1, "symbol", source:sub(at, at)
end

---@param source string
---@return spec.Token[]
local function tokens_of(source)
    local tokens <const> = {}
    local at, line = 1, 1
    while at <= #source do
        local past <const>, kind <const>, text <const> = token_at(source, at)
        if kind then
            tokens[#tokens + 1] = { kind = kind, text = text, line = line }
        end
        line = line + select(2, source:sub(at, past - 1):gsub("\n", ""))
        at = past
    end
    return tokens
end

---What the `require` at tokens[i] loads.
---@param tokens spec.Token[]
---@param i integer
---@return string? name nil when it cannot be read
---@return boolean? prefix only the beginning of the name is known
local function required(tokens, i)
    local open <const>, name <const>, behind <const> = tokens[i + 1], tokens[i + 2], tokens[i + 3]
    if open and open.kind == "string" then
        return open.text
    elseif open and name and behind and (open.text == "(" or open.text == ",") and name.kind == "string" then
        if behind.text == ")" then
            return name.text
        elseif behind.text == ".." and open.text == "(" then
            return name.text, true
        end
    end
end

---@param folder string
---@return spec.Graph
---@return string[] unreadable the places of calls that cannot be read
local function graph_of_modules(folder)
    local files <const>, names <const>, unreadable <const> = {}, {}, {}
    for i, file in ipairs(graphs.files_below(folder, ".lua")) do
        names[i] = file:sub(1, -5):gsub("/", "."):gsub("%.init$", "")
        files[names[i]] = folder .. "/" .. file
    end
    assert(#names > 0, folder .. ": there are no modules")
    table.sort(names)
    local graph <const> = graphs.new(names)
    for _, from in ipairs(names) do
        local file <close> = assert(io.open(files[from], "rb"))
        local tokens <const> = tokens_of(file:read "a")
        for i, token in ipairs(tokens) do
            if token.kind == "name" and token.text == "require" then
                local place <const> = ("%s:%d"):format(files[from], token.line)
                local name <const>, prefix <const> = required(tokens, i)
                if not name then
                    unreadable[#unreadable + 1] = place
                end
                for _, to in ipairs(names) do
                    if to == name or prefix and to ~= from and to:sub(1, #name) == name then
                        graphs.tie(graph, from, to, place)
                    end
                end
            end
        end
    end
    return graph, unreadable
end

if not arg[1] then
    io.stderr:write "usage: lua5.4 spec/support/requires.lua FOLDER\n"
    os.exit(2)
end
local graph <const>, unreadable <const> = graph_of_modules(arg[1])
for _, place in ipairs(unreadable) do
    print(place .. ": require needs a name that can be read here")
end
os.exit(graphs.check("modules", graph) and #unreadable == 0)
