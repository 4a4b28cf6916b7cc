--- Parses a comment of `---` lines: its text, its tags, the errors, its examples.
local M = {}

---@class dbrun.manual.Tag
---@field tag string "param"
---@field text string behind it, on its line
---@field more string[] the lines below that belong to it
---@field examples? string[] of a field
---@field raises? string[] of a field

---@class dbrun.manual.Comment
---@field about string the text above the tags
---@field raises string from "Raises" on
---@field examples string[] Lua code
---@field tags dbrun.manual.Tag[]

---A text with the lines that go on with it.
---@param text string
---@param more string[]?
---@return string
function M.joined(text, more)
    local joined <const> = table.concat({ text, table.unpack(more or {}) }, " ")
    return (joined:gsub("^%s*#?%s*", ""):gsub("%s+$", ""):gsub("%s%s+", " "))
end

---@param block string[] lines without their dashes
---@return dbrun.manual.Comment
function M.read(block)
    local comment <const> = { examples = {}, tags = {} }
    local about <const>, raises <const> = {}, {}
    local into, code = about, nil
    for _, line in ipairs(block) do
        local tag <const>, text <const> = line:match "^@(%a+)%s*(.*)$"
        local last <const> = comment.tags[#comment.tags]
        if code then
            if line:find "^%s*```" then
                local list <const> = last and last.tag == "field" and last or comment
                list.examples = list.examples or {}
                list.examples[#list.examples + 1] = table.concat(code, "\n")
                code = nil
            else
                code[#code + 1] = line
            end
        elseif tag then
            comment.tags[#comment.tags + 1] = { tag = tag, text = text, more = {} }
            into = comment.tags[#comment.tags].more
        elseif line:find "^%s*```lua%s*$" then
            code = {}
        elseif last and line:find "^|" then
            last.text = last.text .. "|" .. line:match "^|%s*(.-)%s*$":gsub("%s*#.*$", "")
        else
            if line:find "^Raises " then
                into = raises
                if last and last.tag == "field" then
                    last.raises = {}
                    into = last.raises
                end
            end
            into[#into + 1] = line:match "^%s*(.-)%s*$"
        end
    end
    comment.about = table.concat(about, "\n"):gsub("^%s+", ""):gsub("%s+$", "")
    comment.raises = M.joined("", raises)
    return comment
end

return M
