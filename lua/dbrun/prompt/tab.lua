--- The Tab key inserts the common prefix of all candidates; a second Tab lists them. Nothing here waits.
local commands = require "dbrun.prompt.commands"
local complete = require "dbrun.prompt.complete"
local database_names = require "dbrun.prompt.database_names"
local db = require "dbrun.db"
local names = require "dbrun.prompt.names"
local tty = require "dbrun.tty"
local words = require "dbrun.prompt.words"

local M = {}

--- Statements that change the existing names. COMMIT and ROLLBACK make earlier changes visible, or undo them.
local CHANGES <const> = {
    create = true, alter = true, drop = true, commit = true, rollback = true, ["end"] = true, import = true,
    ["do"] = true, call = true,
}

---Whether the statement changes, or may change, the existing names.
---@param sql string without comments before it
---@return boolean
function M.is_change(sql)
    local first <const> = (sql:match "^%a+" or ""):lower()
    return CHANGES[first] or first == "select" and sql:lower():find "%f[%w]into%f[%W]" ~= nil
end

--- The longest common prefix, in whole characters.
local function common(list)
    local prefix = list[1]
    for i = 2, #list do
        local n = 0
        while n < #prefix and prefix:byte(n + 1) == list[i]:byte(n + 1) do n = n + 1 end
        prefix = prefix:sub(1, n)
    end
    while not utf8.len(prefix) and #prefix > 0 do prefix = prefix:sub(1, -2) end
    return prefix
end

---Candidates side by side, sorted downwards, as many as the screen has room for.
---@param list string[]
---@param width integer of the screen
---@param height integer of the screen
---@return string
function M.listing(list, width, height)
    local widest = 0
    for _, name in ipairs(list) do widest = math.max(widest, utf8.len(name) or #name) end
    local across <const> = math.max(1, (width + 1) // (widest + 2))
    local down = (#list + across - 1) // across
    local room <const> = math.max(1, height - 3)
    local left <const> = #list - room * across
    if left > 0 then down = room end
    local lines <const> = {}
    for i = 1, down do
        local parts <const> = {}
        for j = 1, across do
            local name <const> = list[(j - 1) * down + i]
            if name then parts[j] = name .. (" "):rep(widest - (utf8.len(name) or #name)) end
        end
        lines[i] = table.concat(parts, "  "):gsub(" +$", "")
    end
    if left > 0 then lines[#lines + 1] = ("... and %d more"):format(left) end
    return table.concat(lines, "\n") .. "\n"
end

--- A candidate is inserted as keystrokes, so one with a control character, such as an escape in a file's name, is not
--- offered.
local function typeable(list)
    local kept <const> = {}
    for _, name in ipairs(list) do
        if not name:find "%c" then kept[#kept + 1] = name end
    end
    return kept
end

---@class dbrun.prompt.Tab
---@field session dbrun.prompt.Session
---@field known dbrun.prompt.DatabaseNames
local Tab <const> = {}
local Metatable <const> = { __index = Tab }

--- The earlier lines of what is typed, and their language.
local function before(session)
    if session.held then return session.held .. "\n", nil end
    if session.reader then return session.reader:text(), "sql" end
    if session.source then return session.source .. "\n", "lua" end
    return "", nil
end

local function is_value(name)
    return rawget(_G, name) ~= nil
end

--- An SQL word, or a command, is complete: a blank comes next.
local function is_over(line, language, text)
    if text:find "[./(:'\"]$" then return false end
    return language == "sql" or (language == nil and words.kind(line, is_value) ~= "lua")
end

local function command_names()
    local list <const> = {}
    for name, command in pairs(commands.all()) do
        if not command.hidden then list[name] = true end
    end
    return list
end

--- The manual's topics; read once, at the first Tab after \help.
local function topics(self)
    if not self.topics then
        self.topics = {}
        for i, topic in ipairs(require "dbrun.manual.library".topics()) do self.topics[i] = topic end
    end
    return self.topics
end

---What the Tab key does.
---@param line string
---@param point integer bytes before the cursor
---@return integer erased characters before the cursor that go away
---@return string|nil text that comes there
---@return string|nil listing what is shown above the prompt
function Tab:press(line, point)
    local earlier <const>, language <const> = before(self.session)
    local start <const>, all <const> = complete.candidates(line, point, {
        before = earlier, language = language, names = self.known:get(), globals = _G, prompt_names = names.KINDS,
        commands = command_names(), topics = line:find "^\\help%s" and topics(self) or nil,
    })
    local list <const> = typeable(all)
    local again <const> = self.line == line and self.point == point
    self.line, self.point = line, point
    if #list == 0 then return 0 end
    local word <const>, shared = line:sub(start, point), common(list)
    local whole <const> = line:sub(1, start - 1) .. shared
    if #list == 1 and not line:find("^%s", point + 1) and is_over(whole, language, shared) then
        shared = shared .. " "
    end
    if shared:sub(1, #word) == word and #shared > #word then return 0, shared:sub(#word + 1) end
    if #shared >= #word and shared ~= word then return utf8.len(word) or #word, shared end
    if #list > 1 and again then return 0, nil, M.listing(list, tty.width(1), tty.height(1)) end
    return 0
end

---Reads the names of the database again, in the background.
function Tab:refresh() self.known:stale() end

---Ends the reading of names.
function Tab:close() self.known:close() end

---Sets the Tab key.
---@param session dbrun.prompt.Session
---@return dbrun.prompt.Tab
function M.new(session)
    local self <const> = setmetatable({
        session = session, known = database_names.new(function() return db.async end),
    }, Metatable)
    session.terminal:set_complete(function(line, point) return self:press(line, point) end)
    return self
end

return M
