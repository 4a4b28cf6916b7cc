-- A small writer for SVG: elements are nested tables, texts and attributes are escaped.
local M = {}

local ESCAPES <const> = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" }

--- A text as XML content or attribute; control characters, which XML cannot hold, become spaces.
---@param text any
---@return string
function M.escape(text)
    return (tostring(text):gsub("[%c]", " "):gsub("[&<>\"']", ESCAPES))
end

local function number(v)
    if math.type(v) == "integer" then return tostring(v) end
    return (("%.2f"):format(v):gsub("%.?0+$", ""))
end

---@class svg.Element
---@field name string
---@field attributes table<string, string|number>
---@field children (svg.Element|string)[]

--- An element. Attributes are the table's named fields (`_` stands for `-`), children its list.
---@param name string
---@param fields table
---@return svg.Element
function M.element(name, fields)
    local attributes <const>, children <const> = {}, {}
    for k, v in pairs(fields) do
        if type(k) == "string" then attributes[k:gsub("_", "-")] = v end
    end
    for i, child in ipairs(fields) do children[i] = child end
    return { name = name, attributes = attributes, children = children }
end

local function write(out, e, indent)
    if type(e) == "string" then
        out[#out + 1] = M.escape(e)
        return
    end
    local names <const>, words <const> = {}, { indent, "<", e.name }
    for k in pairs(e.attributes) do names[#names + 1] = k end
    table.sort(names)
    for _, k in ipairs(names) do
        local v <const> = e.attributes[k]
        words[#words + 1] = (' %s="%s"'):format(k, M.escape(type(v) == "number" and number(v) or v))
    end
    out[#out + 1] = table.concat(words)
    if #e.children == 0 then
        out[#out + 1] = "/>\n"
        return
    end
    local text_only <const> = type(e.children[1]) == "string"
    out[#out + 1] = text_only and ">" or ">\n"
    for _, child in ipairs(e.children) do write(out, child, indent .. "  ") end
    out[#out + 1] = (text_only and "" or indent) .. "</" .. e.name .. ">\n"
end

--- The whole file.
---@param root svg.Element
---@return string
function M.render(root)
    local out <const> = { '<?xml version="1.0" encoding="UTF-8"?>\n' }
    write(out, root, "")
    return table.concat(out)
end

return M
