--- What can stand at the end of a command line that begins with `dbrun`.
local core <const> = require "dbrun.core"
local describe <const> = require "dbrun.completion.describe"
local fs <const> = require "dbrun.fs"

local M = {}

--- Lines that are not candidates, but tell the shell what to complete by itself.
M.FILES, M.FOLDERS = ":files", ":folders"

---@class dbrun.completion.Word
---@field [1] string
---@field [2]? string what it is

---Adds the candidates for the value of an option or an argument.
local function add_values(out, takes, choices, before)
    if choices then
        for _, choice in ipairs(choices) do out[#out + 1] = { before .. choice } end
        return
    end
    local word <const> = takes:gsub("[<>%[%]]", ""):lower()
    if word:find "file" or word:find "path" or word == "output" then
        out[#out + 1] = { M.FILES }
    elseif word:find "folder" or word:find "^dir" then
        out[#out + 1] = { M.FOLDERS }
    elseif word == "key" then
        for _, key in ipairs(require "dbrun.config.keys".order) do out[#out + 1] = { before .. key } end
    elseif word == "job" then
        local ok <const>, files <const> = pcall(require "dbrun.batch.show.find".list)
        for _, file in ipairs(ok and files or {}) do out[#out + 1] = { before .. file.stem } end
    elseif word == "topic" then
        for _, name in ipairs(require "dbrun.manual.library".topics()) do out[#out + 1] = { before .. name } end
    end
end

local function find_option(options, name)
    for _, option in ipairs(options) do
        for _, one in ipairs(option.names) do
            if one == name then return option end
        end
    end
end

---The part of a word before the value of `--option=value`.
local function value_in(options, word)
    local name <const> = word:match "^(%-%-[^=]+)="
    local option <const> = name and find_option(options, name)
    return option and option.takes and option, name and name .. "="
end

local function add_options(out, options)
    for _, option in ipairs(options) do
        for _, name in ipairs(option.names) do
            if #name > 2 or #option.names == 1 then out[#out + 1] = { name, option.about } end
        end
    end
end

---@param words string[] the words after the command's name, except the last one
---@param last string which is being typed
local function of_level(out, level, words, last)
    local position, pending, ended = 0, nil, false
    for _, word in ipairs(words) do
        local option <const> = not ended and not pending and find_option(level.options, word)
        if pending then
            pending = nil
        elseif option then
            pending = option.takes and option or nil
        elseif word == "--" then
            ended = true
        elseif ended or word:sub(1, 1) ~= "-" then
            if level.commands[word] and not ended then
                level, position = level.commands[word], 0
            else
                position = position + 1
            end
        end
    end
    local option, before
    if not ended then option, before = value_in(level.options, last) end
    if pending or option then
        return add_values(out, (pending or option).takes, (pending or option).choices, not pending and before or "")
    elseif not ended and last:sub(1, 1) == "-" then
        return add_options(out, level.options)
    end
    for _, name in ipairs(position == 0 and level.order or {}) do
        out[#out + 1] = { name, level.commands[name].about }
    end
    local argument <const> = level.args[position + 1] or level.more and level.args[#level.args]
    if argument then add_values(out, argument.takes, argument.choices, "") end
end

local function own_options()
    local options, scripts <const> = core.words()
    local list, by_name = {}, {}
    for _, option in ipairs(options) do
        local takes <const> = option.value or false
        local choices
        for word in (option.choices or ""):gmatch "%S+" do
            choices = choices or {}
            choices[#choices + 1] = word
        end
        if not by_name[option.name] and option.name ~= "-" then
            by_name[option.name] = true
            list[#list + 1] = { names = { option.name }, about = option.about, takes = takes, choices = choices }
        end
    end
    return list, scripts
end

local function add_commands(out, scripts)
    local seen <const> = {}
    table.sort(scripts)
    for _, name in ipairs(scripts) do
        if not seen[name] and name ~= "expect" and not name:find "[%c%s]" then
            seen[name] = true
            out[#out + 1] = { name }
        end
    end
    out[#out + 1] = { M.FILES }
end

---@param words string[] the words after `dbrun`; the last one is being typed
---@return dbrun.completion.Word[] list those that begin as it does
---@return string? folder of -C: the caller must ask again from there
function M.of(words)
    local out, options, scripts <const> = {}, own_options()
    local last <const> = words[#words] or ""
    local pending, command
    for i = 1, #words - 1 do
        local word <const> = words[i]
        local option <const> = find_option(options, word)
        if pending then
            if pending.names[1] == "-C" then return {}, word end
            pending = nil
        elseif option then
            pending = option.takes and option or nil
        elseif word:sub(1, 1) ~= "-" then
            command = i
            break
        end
    end
    if command then
        local name <const> = words[command]
        local stat <const> = fs.stat(name)
        local level <const> = describe.level(name, name:find "/" ~= nil or stat ~= nil and stat.kind == "file")
        if level then
            of_level(out, level, table.move(words, command + 1, #words - 1, 1, {}), last)
        else
            out[1] = { M.FILES }
        end
    else
        local option, before
        if not pending then option, before = value_in(options, last) end
        if pending or option then
            add_values(out, (pending or option).takes, (pending or option).choices, not pending and before or "")
        elseif last:sub(1, 1) == "-" then
            add_options(out, options)
        else
            add_commands(out, scripts)
        end
    end
    local list <const> = {}
    for _, word in ipairs(out) do
        if word[1]:sub(1, 1) == ":" or word[1]:sub(1, #last) == last then list[#list + 1] = word end
    end
    return list
end

return M
