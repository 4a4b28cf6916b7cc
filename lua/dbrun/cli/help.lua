--- The help of a script, and its options as a table, from its specification.
local host_option = require "dbrun.host_option"
local tty = require "dbrun.tty"

local M = {}

local WIDTH <const> = 100

--- "dbrun tidy", or the file if the script is not scripts/NAME.lua.
---@param root dbrun.cli.Level
---@param path? string of the script
---@return string
function M.program(root, path)
    path = tty.printable(path or "")
    if path == "" or path:find("scripts/" .. root.name:gsub("%p", "%%%0") .. "%.lua$") then
        return "dbrun " .. root.name
    end
    return path:find "%.lua$" and "dbrun " .. path or path
end

local function wrapped(text, left, first)
    local lines, line = {}, first
    for word in text:gmatch "%S+" do
        if #line > left and utf8.len(line .. word) and utf8.len(line .. word) > WIDTH then
            lines[#lines + 1] = line:gsub("%s+$", "")
            line = (" "):rep(left)
        end
        line = line .. word .. " "
    end
    lines[#lines + 1] = line:gsub("%s+$", "")
    return lines
end

local function shown(value)
    if type(value) == "table" then
        local texts = {}
        for i, v in ipairs(value) do texts[i] = tostring(v) end
        return table.concat(texts, ",")
    end
    return tostring(value)
end

--- "at least 1, default 90", "required".
local function facts(option)
    local out = {}
    if option.choices then out[1] = table.concat(option.choices_text, ", ") end
    if option.min ~= nil and option.max ~= nil then
        out[#out + 1] = ("%s to %s"):format(shown(option.min), shown(option.max))
    elseif option.min ~= nil then
        out[#out + 1] = "at least " .. shown(option.min)
    elseif option.max ~= nil then
        out[#out + 1] = "at most " .. shown(option.max)
    end
    if option.required then out[#out + 1] = "required" end
    if option.default ~= nil and option.type ~= "flag" and not (type(option.default) == "table"
        and #option.default == 0) then
        out[#out + 1] = "default " .. (option.default_text or shown(option.default))
    elseif option.default then
        out[#out + 1] = "on unless --no-" .. option.name
    end
    if option.env then out[#out + 1] = "key " .. option.env end
    return #out > 0 and ("(%s)"):format(table.concat(out, "; ")) or ""
end

local function option_left(option)
    local name = "--" .. option.name
    if option.type == "flag" and (option.default or option.env) then name = "--[no-]" .. option.name end
    local short = option.short and ("-%s, "):format(option.short) or "    "
    return short .. name .. (option.type ~= "flag" and " " .. option.argname or "")
end

local function argument(arg)
    local name = arg.variadic and arg.argname .. "..." or arg.argname
    return arg.optional and ("[%s]"):format(name) or name
end

local function section(lines, title, rows)
    if #rows == 0 then return end
    local width = 0
    for _, row in ipairs(rows) do
        if #row[1] <= 28 then width = math.max(width, #row[1]) end
    end
    lines[#lines + 1] = ""
    lines[#lines + 1] = title .. ":"
    for _, row in ipairs(rows) do
        local first, left = "  " .. row[1], width + 4
        if #row[1] > width and row[2]:find "%S" then
            lines[#lines + 1] = first
            first = (" "):rep(left)
        else
            first = first .. (" "):rep(left - #first)
        end
        for _, line in ipairs(wrapped(row[2], left, first)) do lines[#lines + 1] = line end
    end
end

local function usage(level, program)
    local words = { "usage:", program, level.path ~= "" and level.path or nil }
    words[#words + 1] = "[options]"
    local at = level
    while at do
        for _, option in ipairs(at.options) do
            if option.required then words[#words + 1] = ("--%s %s"):format(option.name, option.argname) end
        end
        at = at.parent
    end
    for _, arg in ipairs(level.args) do words[#words + 1] = argument(arg) end
    if #level.commands > 0 then words[#words + 1] = level.run and "[COMMAND]" or "COMMAND" end
    return table.concat(words, " ")
end

--- Whether the script has an option of that name. Under another host dbrun has none.
local function has_dry_run(level)
    while level do
        for _, option in ipairs(level.options) do
            if option.name == "dry-run" then return true end
        end
        level = level.parent
    end
    return not host_option.is "--dry-run"
end

---The help of a level.
---@param level dbrun.cli.Level
---@param program string what is typed to run the script
---@return string text without a line end
function M.text(level, program)
    local lines = { usage(level, program) }
    if level.about then
        lines[2] = ""
        for _, line in ipairs(wrapped(level.about, 0, "")) do lines[#lines + 1] = line end
    end
    local rows = {}
    for i, command in ipairs(level.commands) do rows[i] = { command.name, command.about or "" } end
    section(lines, "commands", rows)
    rows = {}
    for i, arg in ipairs(level.args) do rows[i] = { arg.argname, (arg.help or "") .. " " .. facts(arg) } end
    section(lines, "arguments", rows)
    rows = {}
    local at = level
    while at do
        for _, option in ipairs(at.options) do
            rows[#rows + 1] = { option_left(option), (option.help or "") .. " " .. facts(option) }
        end
        at = at.parent
    end
    if not has_dry_run(level) then
        rows[#rows + 1] = { "    --dry-run", "keep nothing; show what would change" }
    end
    rows[#rows + 1] = { "-h, --help", "show this help" }
    section(lines, "options", rows)
    rows = {}
    for i, example in ipairs(level.examples or {}) do rows[i] = "  " .. example end
    if #rows > 0 then lines[#lines + 1] = "\nexamples:\n" .. table.concat(rows, "\n") end
    if level.epilog then lines[#lines + 1] = "\n" .. level.epilog:gsub("%s+$", "") end
    return table.concat(lines, "\n")
end

local function described(option)
    return { name = option.name, type = option.type, of = option.of, short = option.short, help = option.help,
        choices = option.choices, default = option.default, required = option.required, env = option.env,
        argname = option.type ~= "flag" and option.argname or nil, optional = option.optional,
        variadic = option.variadic }
end

---The options, arguments and commands as a plain table, for completion and other programs.
---@param level dbrun.cli.Level
---@return dbrun.cli.Description
function M.describe(level)
    local json = require "dbrun.json"
    local out = { name = level.name, about = level.about, options = {}, args = {}, commands = {} }
    for _, name in ipairs { "options", "args" } do
        for i, option in ipairs(level[name]) do out[name][i] = described(option) end
    end
    for i, command in ipairs(level.commands) do out.commands[i] = M.describe(command) end
    for _, name in ipairs { "options", "args", "commands" } do out[name] = json.array(out[name]) end
    return out
end

return M
