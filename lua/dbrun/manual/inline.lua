--- Parses the inline parts of the manual's Markdown: code, **strong**, *emphasis*, [links](chapter.md). Any other
--- Markdown is refused, so that every form of the manual shows the same.
local M = {}

---@class dbrun.manual.Span
---@field kind "text"|"code"|"strong"|"emphasis"|"link"
---@field text string without marks
---@field target? string of a link: "types.md", "https://..."

---The code that begins at `at`, where there is a backtick.
local function code_at(line, at)
    local ticks <const> = line:match("^`+", at)
    local from = at + #ticks
    while true do
        local first <const>, last <const> = line:find("`+", from)
        if not first then error("a ` is never closed", 0) end
        if last - first + 1 == #ticks then
            local text <const> = line:sub(at + #ticks, first - 1)
            return { kind = "code", text = #ticks > 1 and text:match "^ ?(.-) ?$" or text }, last + 1
        end
        from = last + 1
    end
end

---A text between `mark` and `mark`, nil when no text begins there: `2 * 3` has no emphasis.
local function marked_at(line, at, mark, kind)
    if not line:find("^[^%s*]", at + #mark) and not line:find("^`", at + #mark) then return nil end
    local last <const> = line:find(mark, at + #mark, true)
    if not last then error(("a %s is never closed (write it as code: `%s`)"):format(mark, mark), 0) end
    return { kind = kind, text = (line:sub(at + #mark, last - 1):gsub("`", "")) }, last + #mark
end

local function link_at(line, at)
    local text <const>, target <const>, behind <const> = line:match("^%[([^%[%]]+)%]%(([^%s()]+)%)()", at)
    if not text then return nil end
    return { kind = "link", text = (text:gsub("`", "")), target = target }, behind
end

local function special_at(line, at)
    local char <const> = line:sub(at, at)
    if char == "`" then
        return code_at(line, at)
    elseif char == "*" then
        if line:find("^%*%*", at) then return marked_at(line, at, "**", "strong") end
        return marked_at(line, at, "*", "emphasis")
    elseif char == "!" and line:find("^!%[[^%]]*%]%(", at) then
        error("images are not part of the manual", 0)
    elseif char == "<" and line:find("^</?%a", at) then
        error("HTML is not part of the manual (write it as code)", 0)
    end
    if char == "[" then return link_at(line, at) end
    return nil
end

---The spans of a text.
---@param text string of one paragraph, on one line
---@return dbrun.manual.Span[]
---Raises a text that says what is not part of the manual's Markdown.
function M.parse(text)
    local spans <const>, plain, at = {}, {}, 1
    local function add(span)
        local before <const> = table.concat(plain)
        if before ~= "" then spans[#spans + 1] = { kind = "text", text = before } end
        plain = {}
        spans[#spans + 1] = span
    end
    while at <= #text do
        local next <const> = text:find("[`*!<%[\\]", at) or #text + 1
        plain[#plain + 1] = text:sub(at, next - 1)
        at = next
        if text:find("^\\%p", at) then
            plain[#plain + 1] = text:sub(at + 1, at + 1)
            at = at + 2
        elseif at <= #text then
            local span <const>, behind <const> = special_at(text, at)
            if span then
                add(span)
            else
                plain[#plain + 1] = text:sub(at, at)
            end
            at = span and behind or at + 1
        end
    end
    add(nil)
    return spans
end

---The text of spans without marks.
---@param spans dbrun.manual.Span[]
---@return string
function M.text(spans)
    local parts <const> = {}
    for i, span in ipairs(spans) do parts[i] = span.text end
    return table.concat(parts)
end

return M
