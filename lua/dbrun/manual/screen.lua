--- The screen of `dbrun help`. Parts without a chapter are left out.
local core <const> = require "dbrun.core"
local library <const> = require "dbrun.manual.library"

local M = {}

---Rows: a title, then commands, each with its chapter.
local ROWS <const> = {
    { "start", { "start", "dbrun init [FOLDER]", "a project" }, { "options", "dbrun", "the prompt" } },
    { "", { "options", "dbrun FILE [args]", "a script" }, { "options", "dbrun NAME", "scripts/NAME.lua" } },
    { "look", { "sql", 'dbrun sql "select 1"' }, { "redis-command", "dbrun redis GET k" }, { "verify", "dbrun verify" },
      { "config", "dbrun config" } },
    { "change", { "migrate", "dbrun migrate up" }, { "seed", "dbrun seed" }, { "batch", "dbrun batch" },
      { "dry-run", "(--dry-run, --read-only)" } },
    { "servers", { "stack", "dbrun stack up" }, { "stack", "dbrun --stack ..." } },
    { "test", { "testing", "dbrun test" } },
}

local CELLS <const> = { 24, 21, 17, 1 }

local INDENT <const> = 9

---The parts of a row that have a chapter, in columns; a part that does not fit begins a new line.
---@return string[] lines
local function cells(row, there, width)
    local lines, line, column = {}, "", 0
    local function add(command, about)
        local cell <const> = CELLS[column + 1]
        local text = #command < cell and ("%-" .. cell .. "s"):format(command) or command .. "   "
        if about then text = text .. ("%-" .. CELLS[column + 2] .. "s"):format(about) end
        if line ~= "" and INDENT + #line + #text:gsub("%s+$", "") > width then
            lines[#lines + 1] = line
            line, column = "", 0
            return add(command, about)
        end
        line, column = line .. text, column + (about and 2 or 1)
    end
    for i = 2, #row do
        local chapter <const>, command <const>, about = table.unpack(row[i])
        if command == "dbrun" and there.prompt then about = "the prompt: Lua and SQL" end
        if there[chapter] then add(command, about) end
    end
    if line ~= "" then lines[#lines + 1] = line end
    return lines
end

---@param topics string[]
---@param indent integer
---@return string[]
local function topic_lines(topics, indent, width)
    local lines, line = {}, ""
    for _, topic in ipairs(topics) do
        if line ~= "" and indent + #line + 1 + #topic > width then
            lines[#lines + 1] = line
            line = ""
        end
        line = line == "" and topic or line .. " " .. topic
    end
    lines[#lines + 1] = line
    return lines
end

---@param paint fun(text: string, style: string): string
---@param width integer columns
---@return string[] lines
function M.lines(paint, width)
    local topics <const>, there <const> = library.topics(), {}
    for _, name in ipairs(topics) do there[name] = true end
    local lines <const> = { ("dbrun %s: Lua 5.4 with PostgreSQL and Redis"):format(core.options.version or ""), "" }
    local function add(word, text)
        lines[#lines + 1] = paint(("%-9s"):format(word), "heading") .. text:gsub("%s+$", "")
    end
    for _, row in ipairs(ROWS) do
        for i, text in ipairs(cells(row, there, width)) do add(i == 1 and row[1] or "", text) end
    end
    local names <const> = topic_lines(topics, INDENT + 24, width)
    add("read", ("%-24s"):format "dbrun help TOPIC" .. (names[1] or ""))
    for i = 2, #names do add("", (" "):rep(24) .. names[i]) end
    local more <const> = { "", { "options", "dbrun help db.async.query" },
        { "options", "dbrun help --search upsert" }, { "options", "dbrun --help" } }
    for _, text in ipairs(cells(more, there, width)) do add("", text) end
    return lines
end

return M
