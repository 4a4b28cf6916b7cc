--- make lint: checks that the manual is complete and well-formed. Each public function has a sentence, a type for each
--- parameter, its errors and an example; each accepted option is annotated; each chapter uses only the Markdown that
--- the manual supports, and its links have targets. Runs on a stock lua5.4, without a build.
package.path = "lua/?.lua;" .. package.path

local function lines_of(command)
    local list <const> = {}
    local p <close> = assert(io.popen(command))
    for line in p:lines() do list[#list + 1] = line end
    return list
end

local function read(path)
    local f <close> = assert(io.open(path, "rb"))
    return assert(f:read "a")
end

-- Reads the texts from the sources, because there can be no build.
package.preload["dbrun.manual.texts"] = function()
    local texts <const> = {}
    function texts.read(name)
        local path <const> = "lua/" .. name
        return os.rename(path, path) and read(path) or nil
    end
    function texts.chapters()
        local list <const> = lines_of "ls lua/manual"
        for i, name in ipairs(list) do list[i] = name:match "^(.*)%.md$" end
        return list
    end
    function texts.modules()
        local list <const> = lines_of "find lua/dbrun -name '*.lua' | LC_ALL=C sort"
        for i, name in ipairs(list) do list[i] = name:match "^lua/(.*)$" end
        return list
    end
    return texts
end

local library <const> = require "dbrun.manual.library"
local inline <const> = require "dbrun.manual.inline"

local problems <const> = {}
local function complain(...) problems[#problems + 1] = string.format(...) end

-- ---- chapters ----

local function check_spans(name, line, spans)
    for _, span in ipairs(spans) do
        local target <const> = span.kind == "link" and span.target:match "^([^:#]+)#?[^:]*$"
        if target and not os.rename("lua/manual/" .. target, "lua/manual/" .. target) then
            complain("lua/manual/%s.md:%d: a link to %s, which is not there", name, line, span.target)
        end
    end
end

local function check_chapter(name)
    local ok <const>, chapter <const> = pcall(library.chapter, name)
    if not ok then
        complain("%s", chapter)
        return
    end
    check_spans(name, 3, chapter.sentence)
    for _, block in ipairs(chapter.blocks) do
        check_spans(name, block.line, block.spans or {})
        for _, item in ipairs(block.items or {}) do check_spans(name, block.line, item) end
        for _, row in ipairs(block.rows or {}) do
            for _, cell in ipairs(row) do check_spans(name, block.line, cell) end
        end
    end
end

local topics <const> = library.topics()
for _, name in ipairs(topics) do check_chapter(name) end

-- The README is an overview; the chapters have the details.
local MOST <const> = 350
local readme <const> = read "README.md"
for target in readme:gmatch "%]%(([^)#]+)#?[^)]*%)" do
    if not target:find "^https?:" and not os.rename(target, target) then
        complain("README.md: a link to %s, which is not there", target)
    end
end
local _, lines <const> = readme:gsub("\n", "")
if lines > MOST then complain("README.md: %d lines, and at most %d are a tour", lines, MOST) end

if #problems > 0 then -- the checks of functions look for examples in the chapters
    print(table.concat(problems, "\n"))
    os.exit(1)
end

-- ---- functions ----

local functions <const> = library.functions()
local KNOWN <const> = {}
for name in ([[any string integer number boolean table function thread userdata lightuserdata nil true false file* self
    T K V]]):gmatch "%S+" do
    KNOWN[name] = true
end

local function check_type(id, kind)
    if not kind then return end
    local all <const> = functions.all
    if kind.kind == "name" and not (KNOWN[kind.name] or all.classes[kind.name] or all.aliases[kind.name]) then
        complain("%s: there is no type %s", id, kind.name)
    end
    if kind.kind == "array" then check_type(id, kind.of) end
    for _, list in ipairs { kind.args or {}, kind.kind == "union" and kind.of or {}, kind.returns or {} } do
        for _, one in ipairs(list) do check_type(id, one) end
    end
    for _, list in ipairs { kind.fields or {}, kind.params or {} } do
        for _, one in ipairs(list) do check_type(id, one.type) end
    end
end

local function check_text(id, text)
    local ok <const>, why <const> = pcall(inline.parse, (text:gsub("\n    [^\n]*", ""):gsub("%s+", " ")))
    if not ok then complain("%s: %s", id, why) end
end

local function check_function(entry)
    local f <const>, names <const> = entry.f, {}
    check_text(entry.id, f.about)
    for _, param in ipairs(f.params) do
        names[param.name] = true
        if not param.type and param.name ~= "..." then complain("%s: %s has no type", entry.id, param.name) end
        check_type(entry.id, param.type)
        check_text(entry.id, param.about or "")
    end
    for name in pairs(f.given) do
        if not names[name] then complain("%s: there is no parameter %s", entry.id, name) end
    end
    for _, kind in ipairs(f.returns) do check_type(entry.id, kind) end
    if functions:is_variant(entry) then return end
    if f.about == "" then complain("%s: no sentence says what it does", entry.id) end
    if entry.raises == "" and f.raises == "" then
        complain("%s: no line 'Raises ...', nor one of its class or file", entry.id)
    end
    if #f.examples == 0 and #library.example(entry) == 0 then
        complain("%s: no example, neither in its annotation nor in a chapter", entry.id)
    end
end

for _, entry in ipairs(functions.entries) do
    if entry.f then
        check_function(entry)
    else
        check_type(entry.id, entry.field.type)
        if (entry.field.about or "") == "" then complain("%s: no text says what it is", entry.id) end
    end
end

-- ---- modules ----

-- Modules that lua/dbrun/init.lua does not name are not for scripts.
local INTERNAL <const> = {}
for name in ([[argparse args command_line conninfo dotenv dry exit_guard host_option init mistyped nearest output pager
    places project prompt reserved target url]]):gmatch "%S+" do
    INTERNAL[name] = true
end
for _, path in ipairs(lines_of "ls lua/dbrun/*.lua") do
    local name <const> = path:match "([%w_]+)%.lua$"
    local public <const> = functions.all.classes.dbrun.fields[name] ~= nil
    if not public and not INTERNAL[name] then
        complain("%s: a part of dbrun in lua/dbrun/init.lua, or a name for INTERNAL in %s?", path, arg[0])
    end
end

-- ---- options ----

---Tables of accepted options, and the classes that annotate them.
local OPTIONS <const> = {
    { "lua/dbrun/db/options.lua", "KNOWN", "dbrun.EngineOptions" },
    { "lua/dbrun/seed.lua", "OPTIONS", "dbrun.seed.Options" },
    { "lua/dbrun/verify.lua", "OPTIONS", "dbrun.verify.Options" },
    { "lua/dbrun/progress.lua", "OPTIONS", "dbrun.progress.Options" },
    { "lua/dbrun/config.lua", "OPTIONS", "dbrun.ConfigOptions" },
}

for _, one in ipairs(OPTIONS) do
    local file <const>, variable <const>, class <const> = table.unpack(one)
    local body <const> = read(file):match("local " .. variable .. " <const> = (%b{})")
    assert(body, file .. " has no table " .. variable)
    local fields <const>, count = assert(functions.all.classes[class], class).fields, 0
    for key in body:gsub("%-%-[^\n]*", ""):gmatch "%f[%w_]([%a_][%w_]*)%s*=" do
        count = count + 1
        if not fields[key] then complain("%s: the option %s has no annotation in %s", file, key, class) end
    end
    assert(count > 0, file)
end

if #problems > 0 then
    print(table.concat(problems, "\n"))
    os.exit(1)
end
print(("%d chapters, %d functions and values"):format(#topics, #functions.entries))
