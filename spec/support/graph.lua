--- Graphs of names and their circles: code that the checks of make lint for circles share. Runs on a stock lua5.4.

local M <const> = {}

---@class spec.Graph
---@field names string[] sorted
---@field ties table<string, table<string, string[]>> from, to, reasons

---@param command string
---@return fun(): string?
function M.lines_of(command)
    local pipe <const> = assert(io.popen(command))
    local text <const> = pipe:read "a"
    assert(pipe:close(), command .. " failed")
    return text:gmatch "[^\n]+"
end

---@param text string
---@return string word for the shell
function M.quote(text)
    return "'" .. text:gsub("'", "'\\''") .. "'"
end

---The sorted files below a folder with this ending, as paths relative to it.
---@param folder string
---@param ending string
---@return string[]
function M.files_below(folder, ending)
    local found <const> = {}
    for path in M.lines_of(("find %s -name '*%s' | LC_ALL=C sort"):format(M.quote(folder), ending)) do
        found[#found + 1] = path:sub(#folder + 2)
    end
    return found
end

---@param graph spec.Graph
---@param from string
---@param to string
---@param what string
function M.tie(graph, from, to, what)
    local by <const> = graph.ties[from]
    by[to] = by[to] or {}
    table.insert(by[to], what)
end

---@param names string[] sorted
---@return spec.Graph
function M.new(names)
    local graph <const> = { names = names, ties = {} }
    for _, name in ipairs(names) do
        graph.ties[name] = {}
    end
    return graph
end

---The ties between objects are the symbols that one uses and another defines.
---@param folder string
---@return spec.Graph
function M.of_objects(folder)
    local names <const>, defined <const>, needed <const> = {}, {}, {}
    for _, file in ipairs(M.files_below(folder, ".o")) do
        local name <const> = file:sub(1, -3)
        names[#names + 1] = name
        needed[name] = {}
    end
    for line in M.lines_of(("find %s -name '*.o' -exec nm -A -P {} +"):format(M.quote(folder))) do
        local path, symbol, kind = line:match "^(.*)%.o: (%S+) (%a)"
        local name <const> = path and path:sub(#folder + 2)
        if kind == "U" or kind == "w" or kind == "v" then
            table.insert(needed[name], symbol)
        elseif kind and kind:find "%u" then
            defined[symbol] = name
        end
    end
    assert(#names > 0, folder .. ": there are no objects")
    local graph <const> = M.new(names)
    for _, name in ipairs(names) do
        for _, symbol in ipairs(needed[name]) do
            if defined[symbol] and defined[symbol] ~= name then
                M.tie(graph, name, defined[symbol], symbol)
            end
        end
    end
    return graph
end

---Tarjan's strongly connected components of more than one name, and headers that include themselves.
---@param graph spec.Graph
---@return string[][]
local function circles_of(graph)
    local index <const>, low <const>, on_stack <const>, stack <const>, found <const> = {}, {}, {}, {}, {}
    local count = 0
    local function visit(v)
        count = count + 1
        index[v], low[v], on_stack[v] = count, count, true
        stack[#stack + 1] = v
        for w in pairs(graph.ties[v]) do
            if not index[w] then
                visit(w)
                low[v] = math.min(low[v], low[w])
            elseif on_stack[w] then
                low[v] = math.min(low[v], index[w])
            end
        end
        if low[v] < index[v] then
            return
        end
        local circle <const> = {}
        repeat
            local w <const> = table.remove(stack)
            on_stack[w] = false
            circle[#circle + 1] = w
        until w == v
        if #circle > 1 or graph.ties[v][v] then
            table.sort(circle)
            found[#found + 1] = circle
        end
    end
    for _, name in ipairs(graph.names) do
        if not index[name] then
            visit(name)
        end
    end
    return found
end

---Prints the ties of a circle.
local function show(graph, circle)
    for _, from in ipairs(circle) do
        for _, to in ipairs(circle) do
            local by <const> = graph.ties[from][to]
            if by then
                table.sort(by)
                print(("   %s -> %s: %s"):format(from, to, table.concat(by, " ")))
            end
        end
    end
end

---Prints the circles.
---@param what string
---@param graph spec.Graph
---@return boolean ok
function M.check(what, graph)
    local circles <const> = circles_of(graph)
    for _, circle in ipairs(circles) do
        print(("%s in a circle: %s"):format(what, table.concat(circle, " ")))
        show(graph, circle)
    end
    return #circles == 0
end

return M
