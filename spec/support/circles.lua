--- Looks for circles: objects that use each other's symbols, headers that include each other.
---
---   lua5.4 spec/support/circles.lua OBJECTS HEADERS
---
--- OBJECTS: a folder whose subfolders hold object files. HEADERS: the folder that #include "..." starts from.
--- Prints each circle with its symbols or includes; exit status 1 when something is wrong.

local graphs <const> = require "spec.support.graph"

---@param folder string
---@return spec.Graph
local function graph_of_headers(folder)
    local names <const> = graphs.files_below(folder, ".h")
    local graph <const> = graphs.new(names)
    for _, name in ipairs(names) do
        for line in io.lines(folder .. "/" .. name) do
            local other <const> = line:match '^%s*#%s*include%s+"([^"]+)"'
            if graph.ties[other] then
                graphs.tie(graph, name, other, "#include")
            end
        end
    end
    return graph
end

local objects <const>, headers <const> = arg[1], arg[2]
if not headers then
    io.stderr:write "usage: lua5.4 spec/support/circles.lua OBJECTS HEADERS\n"
    os.exit(2)
end
local ok = graphs.check("objects", graphs.of_objects(objects))
ok = graphs.check("headers", graph_of_headers(headers)) and ok
os.exit(ok)
