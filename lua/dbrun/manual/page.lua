--- The page of a function: its signature, one sentence, arguments, result, errors, an example with its output, and
--- references.
local functions <const> = require "dbrun.manual.functions"
local inline <const> = require "dbrun.manual.inline"
local types <const> = require "dbrun.manual.types"

local M = {}

local function text(s) return { kind = "text", text = s } end
local function code(s) return { kind = "code", text = s } end

---A comment's text as spans; text that is not the manual's Markdown is left as it is.
---@param s string
---@return dbrun.manual.Span[]
function M.spans(s)
    local flat <const> = s:gsub("%s*\n%s*", " ")
    local ok <const>, spans <const> = pcall(inline.parse, flat)
    return ok and spans or { text(flat) }
end

local function paragraph(s) return { kind = "paragraph", spans = M.spans(s) } end
local function heading(s) return { kind = "heading", level = 2, spans = { text(s) } } end

---The paragraphs of a comment: those with more than one leading blank are code.
local function add_about(blocks, about)
    local lines, kept = {}, {}
    local function flush()
        if #lines > 0 then blocks[#blocks + 1] = paragraph(table.concat(lines, " ")) end
        if #kept > 0 then blocks[#blocks + 1] = { kind = "code", language = "lua", code = table.concat(kept, "\n") } end
        lines, kept = {}, {}
    end
    for line in (about .. "\n"):gmatch "(.-)\n" do
        local indented <const> = line:match "^    (.*)$"
        if line == "" or indented and #lines > 0 or not indented and #kept > 0 then flush() end
        if indented then
            kept[#kept + 1] = indented
        elseif line ~= "" then
            lines[#lines + 1] = line
        end
    end
    flush()
end

---A table of names, types and descriptions, without a header.
local function name_table(rows)
    return { kind = "table", header = { {}, {}, {} }, rows = rows, right = {} }
end

---A type in few words: `integer?` is optional, and the fields of a table are separate lines.
local function short(kind, optional)
    if not kind then return "any" end
    local parts, seen <const> = {}, {}
    for _, one in ipairs(kind.kind == "union" and kind.of or { kind }) do
        local word <const> = one.kind == "table" and "table" or one.kind == "fun" and "function" or types.text(one)
        if word ~= "nil" and not seen[word] then parts[#parts + 1] = word end
        seen[word] = true
    end
    local words = table.concat(parts, "|")
    if #words > 28 then words = table.concat(parts, " | ") end -- it can be broken there
    if not (optional or seen["nil"]) or words == "any" then return words end
    return #parts > 1 and "(" .. words .. ")?" or words .. "?"
end

local function row(name, kind, about, optional)
    return { { code(name) }, { text(short(kind, optional)) }, M.spans(about or "") }
end

---The fields of a class that is nothing but a table of fields.
local function add_fields(all, rows, kind, seen, indent)
    for _, one in ipairs(kind and kind.kind == "union" and kind.of or { kind }) do
        if one.kind == "array" then one = one.of end
        local class <const> = one.kind == "name" and all.classes[one.name]
        if class and next(class.methods) == nil and not seen[class.name] then
            seen[class.name] = true
            for _, name in ipairs(class.order) do
                local field <const> = class.fields[name]
                if not field.hidden then
                    rows[#rows + 1] = row(indent .. name, field.type, field.about, field.optional)
                end
            end
            if class.parent then add_fields(all, rows, { kind = "name", name = class.parent }, seen, indent) end
        elseif one.kind == "table" then
            for _, field in ipairs(one.fields) do
                rows[#rows + 1] = row(indent .. field.name, field.type, field.about, field.optional)
            end
        end
    end
end

local function add_arguments(blocks, all, f)
    local rows <const>, params <const> = {}, functions.parameters(f)
    if #params == 0 then return end
    for _, param in ipairs(params) do
        local about = param.about or ""
        if param.name == "..." and about == "" then about = "parameters" end
        rows[#rows + 1] = row(param.name, param.type, about, param.optional and param.name ~= "...")
        add_fields(all, rows, param.type, {}, param.name == "..." and "" or param.name .. ".")
    end
    blocks[#blocks + 1] = heading "Arguments"
    blocks[#blocks + 1] = name_table(rows)
end

local function add_result(blocks, all, f)
    blocks[#blocks + 1] = heading "Result"
    if #f.results == 0 then
        blocks[#blocks + 1] = paragraph "Nothing."
        return
    end
    local rows <const> = {}
    for i, result in ipairs(f.results) do
        rows[#rows + 1] = { { code(result.type) }, M.spans((result.about:gsub("^%.%.%.%s*", ""))) }
        local fields <const> = {}
        add_fields(all, fields, f.returns[i], {}, "." )
        for _, field in ipairs(fields) do
            local about <const> = { text(field[2][1].text .. (#field[3] > 0 and ": " or "")) }
            for _, span in ipairs(field[3]) do about[#about + 1] = span end
            rows[#rows + 1] = { field[1], about }
        end
    end
    blocks[#blocks + 1] = { kind = "table", header = { {}, {} }, rows = rows, right = {} }
end

local function add_errors(blocks, entry)
    blocks[#blocks + 1] = heading "Errors"
    local own <const> = entry.f.raises
    if own ~= "" then blocks[#blocks + 1] = paragraph(own) end
    if entry.raises ~= "" and entry.raises ~= own and (own == "" or not entry.raises:find "^Raises nothing") then
        blocks[#blocks + 1] = paragraph(entry.raises)
    end
    blocks[#blocks + 1] = paragraph "Wrong arguments are an error of kind `usage`."
end

---The page of a class that is a table of fields: `dbrun.process.File`.
---@param class dbrun.manual.Class
---@param all dbrun.manual.Functions
---@return dbrun.manual.Block[]
function M.class(class, all)
    local blocks <const>, rows <const> = {}, {}
    add_about(blocks, class.about)
    add_fields(all.all, rows, { kind = "name", name = class.name }, {}, "")
    blocks[#blocks + 1] = heading "Fields"
    blocks[#blocks + 1] = name_table(rows)
    return blocks
end

---@param entry dbrun.manual.Entry
---@param all dbrun.manual.Functions
---@param examples? fun(entry: dbrun.manual.Entry): dbrun.manual.Block[] an example of the chapters
---@return dbrun.manual.Block[]
function M.blocks(entry, all, examples)
    local blocks <const> = {}
    local f <const> = entry.f
    add_about(blocks, f and f.about or entry.field.about or "")
    if f then
        add_arguments(blocks, all.all, f)
        add_result(blocks, all.all, f)
        add_errors(blocks, entry)
    else
        blocks[#blocks + 1] = heading "Value"
        blocks[#blocks + 1] = { kind = "paragraph", spans = { code(types.text(entry.field.type)) } }
    end
    local own <const> = f and f.examples or {}
    local from <const> = #own == 0 and f and examples and examples(entry) or {}
    if #own + #from > 0 then blocks[#blocks + 1] = heading "Example" end
    for _, example in ipairs(own) do blocks[#blocks + 1] = { kind = "code", language = "lua", code = example } end
    for _, block in ipairs(from) do blocks[#blocks + 1] = block end
    local also <const> = {}
    for _, other in ipairs(all:relatives(entry)) do also[#also + 1] = "`" .. other.id .. "`" end
    also[#also + 1] = ("[%s](%s.md)"):format("the chapter", entry.chapter)
    blocks[#blocks + 1] = heading "See also"
    blocks[#blocks + 1] = paragraph(table.concat(also, ", "))
    return blocks
end

---@param entry dbrun.manual.Entry
---@return string
function M.sentence(entry)
    return functions.sentence(entry.f and entry.f.about or entry.field.about or "")
end

return M
