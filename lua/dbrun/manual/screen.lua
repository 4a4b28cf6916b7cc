--- What `dbrun help` shows. A part whose chapter is not there yet is left out.
local core <const> = require "dbrun.core"
local library <const> = require "dbrun.manual.library"

local M = {}

---Rows: a word in front, then commands, each with the chapter that tells of it.
local ROWS <const> = {
    { "start", { "start", "dbrun init [FOLDER]", "a project" }, { "options", "dbrun", "the prompt" } },
    { "", { "options", "dbrun FILE [args]", "a script" }, { "options", "dbrun NAME", "scripts/NAME.lua" } },
    { "look", { "sql", 'dbrun sql "select 1"' }, { "redis-command", "dbrun redis GET k" }, { "verify", "dbrun verify" },
      { "config", "dbrun config" } },
    { "change", { "migrate", "dbrun migrate up" }, { "seed", "dbrun seed" }, { "batch", "dbrun batch" },
      { "options", "(--read-only)" } },
    { "servers", { "stack", "dbrun stack up" }, { "stack", "dbrun --stack ..." } },
    { "test", { "testing", "dbrun test" } },
}

local WIDTH <const>, CELLS <const> = 100, { 24, 21, 17, 1 }

---The parts of a row whose chapters are there, one behind the other in columns.
local function cells(row, there)
    local line, column = {}, 0
    local function add(text)
        column = column + 1
        line[column] = ("%-" .. CELLS[column] .. "s"):format(text)
    end
    for i = 2, #row do
        local chapter <const>, command <const>, about = table.unpack(row[i])
        if command == "dbrun" and there.prompt then about = "the prompt: Lua and SQL" end
        if there[chapter] then
            add(command)
            if about then add(about) end
        end
    end
    return column > 0 and (table.concat(line):gsub("%s+$", "")) or nil
end

---@param topics string[]
---@param indent integer
---@return string[]
local function topic_lines(topics, indent)
    local lines, line = {}, ""
    for _, topic in ipairs(topics) do
        if line ~= "" and indent + #line + 1 + #topic > WIDTH then
            lines[#lines + 1] = line
            line = ""
        end
        line = line == "" and topic or line .. " " .. topic
    end
    lines[#lines + 1] = line
    return lines
end

---@param paint fun(text: string, style: string): string
---@return string[] lines
function M.lines(paint)
    local topics <const>, there <const> = library.topics(), {}
    for _, name in ipairs(topics) do there[name] = true end
    local lines <const> = { ("dbrun %s: Lua 5.4 with PostgreSQL and Redis"):format(core.options.version or ""), "" }
    local function add(word, text)
        lines[#lines + 1] = paint(("%-9s"):format(word), "heading") .. text
    end
    for _, row in ipairs(ROWS) do
        local text <const> = cells(row, there)
        if text then add(row[1], text) end
    end
    local names <const> = topic_lines(topics, 33)
    add("read", ("%-24s"):format "dbrun help TOPIC" .. (names[1] or ""))
    for i = 2, #names do add("", (" "):rep(24) .. names[i]) end
    add("", "dbrun help db.async.query     dbrun help --search upsert     dbrun --help: the options")
    return lines
end

return M
