--- The manual as man pages: dbrun(1), and one for each command, from its chapter and its --help.
local core <const> = require "dbrun.core"
local fs <const> = require "dbrun.fs"
local inline <const> = require "dbrun.manual.inline"
local library <const> = require "dbrun.manual.library"
local process <const> = require "dbrun.process"

local M = {}

---The pages: the command, and its chapter. A command without a chapter has no page.
---@type { [1]: string, [2]: string }[]
M.PAGES = {
    { "", "options" }, { "init", "start" }, { "sql", "sql" }, { "redis", "redis-command" }, { "config", "config" },
    { "migrate", "migrate" }, { "dbmate", "dbmate" }, { "seed", "seed" }, { "verify", "verify" }, { "stack", "stack" },
    { "batch", "batch" }, { "test", "testing" },
}

local ABOUT <const> = "Lua with PostgreSQL and Redis inside"

---Text as roff: no backslash, and no line that begins a request.
---@param text string
---@return string
local function escape(text)
    local plain <const> = text:gsub("\\", "\\(rs"):gsub("%-", "\\-"):gsub("'", "\\(aq"):gsub("`", "\\(ga")
    return (plain:gsub("^%.", "\\&."):gsub("\n%.", "\n\\&."))
end
M.escape = escape

local FONTS <const> = { code = "B", strong = "B", emphasis = "I" }

local function spans_of(spans)
    local parts <const> = {}
    for i, span in ipairs(spans) do
        local text <const> = escape(span.text)
        local chapter <const> = span.kind == "link" and span.target:match "^([%w_.%-]+)%.md"
        if FONTS[span.kind] then
            parts[i] = ("\\f%s%s\\fP"):format(FONTS[span.kind], text)
        elseif chapter then
            parts[i] = ("%s (\\fBdbrun help %s\\fP)"):format(text, escape(chapter))
        elseif span.kind == "link" then
            parts[i] = ("%s (%s)"):format(text, escape(span.target))
        else
            parts[i] = text
        end
    end
    local text <const> = table.concat(parts)
    return text:find "^%." and "\\&" .. text or text
end

local blocks <const> = {}

function blocks.heading(block)
    local text <const> = escape(inline.text(block.spans))
    return block.level == 2 and ".SH " .. text:upper() or ".SS " .. text
end

function blocks.paragraph(block)
    return ".PP\n" .. spans_of(block.spans)
end

function blocks.list(block)
    local parts <const> = {}
    for i, item in ipairs(block.items) do parts[i] = ".IP \\(bu 2\n" .. spans_of(item) end
    return table.concat(parts, "\n")
end

local function verbatim(text)
    return (".PP\n.RS 4\n.nf\n%s\n.fi\n.RE"):format(escape(text))
end

function blocks.code(block)
    return verbatim(block.code)
end

---The first cell of a row stands above the others.
function blocks.table(block)
    local parts <const> = {}
    for _, row in ipairs(block.rows) do
        local rest <const> = {}
        for c = 2, #row do
            if #row[c] > 0 then rest[#rest + 1] = spans_of(row[c]) end
        end
        parts[#parts + 1] = ".TP\n" .. (#row[1] > 0 and spans_of(row[1]) or "\\&") .. "\n" ..
            (#rest > 0 and table.concat(rest, "; ") or "\\&")
    end
    return table.concat(parts, "\n")
end

---What `dbrun NAME --help` prints.
local function help_of(command)
    local words <const> = { core.options.program, command ~= "" and command or nil, "--help" }
    if command == "" then words[2] = "--help" end
    words.timeout, words.env = 30, { COLUMNS = "80" }
    local result <const> = process.run(words)
    return result.ok and result.stdout:gsub("%s+$", "") or nil
end

---@param command string "" for the program
---@param chapter dbrun.manual.Chapter
---@param help string? what its --help says
---@return string
function M.page(command, chapter, help)
    local name <const> = command == "" and "dbrun" or "dbrun-" .. command
    local sentence <const> = inline.text(chapter.sentence):gsub("%.$", ""):gsub("^%u%l", string.lower)
    local parts <const> = {
        ('.TH %s 1 "" "dbrun %s" "User Commands"'):format(name:upper(), core.options.version or ""),
        ".SH NAME", ("%s \\- %s"):format(escape(name), escape(command == "" and ABOUT or sentence)),
    }
    if help then
        parts[#parts + 1] = ".SH SYNOPSIS"
        parts[#parts + 1] = verbatim(help)
    end
    parts[#parts + 1] = ".SH DESCRIPTION"
    for _, block in ipairs(chapter.blocks) do parts[#parts + 1] = blocks[block.kind](block) end
    local also <const> = {}
    for _, one in ipairs(M.PAGES) do
        if one[1] ~= command and library.chapter(one[2]) then
            also[#also + 1] = ("\\fBdbrun%s\\fP(1)"):format(one[1] ~= "" and "\\-" .. one[1] or "")
        end
    end
    parts[#parts + 1] = ".SH SEE ALSO\n" .. table.concat(also, ",\n") ..
        ",\n\\fBlua\\fP(1).\n\\fBdbrun help\\fP has all chapters."
    return table.concat(parts, "\n") .. "\n"
end

---Writes the pages: dbrun.1, dbrun-migrate.1, ...
---@param folder string made when it is missing
---@return integer pages
function M.write(folder)
    local count = 0
    fs.mkdir_p(folder)
    for _, one in ipairs(M.PAGES) do
        local chapter <const> = library.chapter(one[2])
        if chapter then
            local name <const> = one[1] == "" and "dbrun.1" or ("dbrun-%s.1"):format(one[1])
            fs.write(fs.join(folder, name), M.page(one[1], chapter, help_of(one[1])), tonumber("644", 8))
            count = count + 1
        end
    end
    return count
end

return M
