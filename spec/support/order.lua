--- Checks that the files of a folder of runtime/ follow the order of the list in its README.md, which begins with the
--- lowest: a file includes and calls only files above it in the list.
---
---   lua5.4 spec/support/order.lua OBJECTS SOURCES
---
--- OBJECTS: a folder whose subfolders hold object files. SOURCES: the folder that #include "..." starts from.
--- The list has lines like "- `wait`, `task`: description". A name stands for its .c and its .h; `link.h` names a
--- header alone, when its .c has another place. The list names each file once. Prints what is out of order, and then
--- exits with status 1.

local graphs <const> = require "spec.support.graph"

local wrong = false
local function complain(...)
    wrong = true
    print(string.format(...))
end

---The place of each file in the list: "x.c" and "x.h" -> number.
---@param folder string
---@param sources string
---@param files table<string, boolean>
---@return table<string, integer>
local function places(folder, sources, files)
    local readme <const> = folder .. "/README.md"
    local place <const>, n = {}, 0
    local function put(file)
        if not files[file] then
            complain("%s names %s, which is not there", readme, file)
        elseif place[file] then
            complain("%s names %s twice", readme, file)
        end
        place[file] = n
    end
    local names <const> = {}
    for line in io.lines(sources .. "/" .. readme) do
        for name in (line:match "^%- (`[^:]+`):" or ""):gmatch "`([^`]+)`" do
            names[#names + 1] = name
            names[name] = true
        end
    end
    for _, name in ipairs(names) do
        n = n + 1
        if name:find "%.h$" then
            put(name)
        else
            if files[name .. ".h"] and not names[name .. ".h"] then
                place[name .. ".h"] = n
            end
            put(name .. ".c")
        end
    end
    for file in pairs(files) do
        if not place[file] then
            complain("%s does not name %s", readme, file)
        end
    end
    return place
end

---@param folder string
---@param sources string
---@param objects spec.Graph
local function check(folder, sources, objects)
    local files <const> = {}
    for _, ending in ipairs { ".c", ".h" } do
        for _, path in ipairs(graphs.files_below(sources .. "/" .. folder, ending)) do
            if not path:find "/" then
                files[path] = true
            end
        end
    end
    local place <const> = places(folder, sources, files)
    for file in pairs(files) do
        for line in io.lines(("%s/%s/%s"):format(sources, folder, file)) do
            local where <const>, other <const> = line:match '^%s*#%s*include%s+"(.-)/?([^/"]+)"'
            if where == folder and place[other] and place[file] and place[other] > place[file] then
                complain("%s/%s includes %s, which stands below it", folder, file, other)
            end
        end
        local name <const> = file:match "^(.*)%.c$"
        for other, by in pairs(name and objects.ties[folder .. "/" .. name] or {}) do
            local called <const> = other:sub(1, #folder + 1) == folder .. "/" and other:sub(#folder + 2) .. ".c"
            if called and place[called] and place[file] and place[called] > place[file] then
                table.sort(by)
                complain("%s/%s needs %s, which stands below it: %s", folder, file, called, table.concat(by, " "))
            end
        end
    end
end

local object_folder <const>, sources <const> = arg[1], arg[2]
if not sources then
    io.stderr:write "usage: lua5.4 spec/support/order.lua OBJECTS SOURCES\n"
    os.exit(2)
end
local objects <const> = graphs.of_objects(object_folder)
local checked = 0
for _, readme in ipairs(graphs.files_below(sources, "README.md")) do
    local folder <const> = readme:match "^(.*)/README%.md$"
    if folder then
        check(folder, sources, objects)
        checked = checked + 1
    end
end
if checked == 0 then
    complain("%s has no folder with a README.md", sources)
end
os.exit(not wrong)
