--- Keys of the `.env` and the environment that differ from one of dbrun's by a letter or two.
local core <const> = require "dbrun.core"
local keys <const> = require "dbrun.config.keys"
local nearest <const> = require "dbrun.nearest"
local sources <const> = require "dbrun.config.sources"

local M = {}

--- A project and its machine have their own keys: more than two edits are not a typo.
local TYPO <const> = 2

---The names in the environment of this process, or of the configuration.
local function environment(state)
    local names <const> = {}
    if state.options.environ then
        for name in pairs(state.options.environ) do names[#names + 1] = name end
    else
        for _, line in ipairs(core.process.environ()) do names[#names + 1] = line:match "^([^=]+)=" end
    end
    table.sort(names)
    return names
end

---How often each byte is in a word, in upper case.
local function counts_of(word)
    local counts <const> = {}
    for _, byte in ipairs { word:upper():byte(1, -1) } do counts[byte] = (counts[byte] or 0) + 1 end
    return counts
end

---The words that two edits can lead to: an edit changes the counts of two bytes at most. Computing the distance takes
---ten times as long.
local function candidates(name, words)
    local list <const>, counts = {}, nil
    for _, word in ipairs(words) do
        if math.abs(#word.name - #name) <= TYPO then
            counts = counts or counts_of(name)
            local changed = 0
            for byte, count in pairs(word.counts) do changed = changed + math.abs(count - (counts[byte] or 0)) end
            for byte, count in pairs(counts) do changed = changed + (word.counts[byte] and 0 or count) end
            if changed <= 2 * TYPO then list[#list + 1] = word.name end
        end
    end
    return list
end

---A sentence for each key that is probably a mistyped one.
---@param state dbrun.ConfigState
---@param wanted string[] keys of dbrun that are looked for
---@param worth? fun(name: string): boolean whether to search for a name of the environment
---@return string[]
function M.notes(state, wanted, worth)
    sources.lookup(state, "DATABASE_URL") -- from here on the file has been read
    local notes <const>, seen <const>, words <const> = {}, {}, {}
    for i, name in ipairs(wanted) do words[i] = { name = name, counts = counts_of(name) } end
    local function look(name)
        if seen[name] or keys.specs[name] or #name > 64 then return end
        seen[name] = true
        local near <const> = nearest.find(name, candidates(name, words), TYPO)
        if not near then return end
        local _, source <const> = sources.find(state, name)
        notes[#notes + 1] = ("%s (%s) is not a key of dbrun; did you mean %s?"):format(name, source, near)
    end
    for _, name in ipairs(state.dotenv and state.dotenv.order or {}) do look(name) end
    for name in pairs(state.arguments) do look(name) end
    for name in pairs(state.overlay) do look(name) end
    for _, name in ipairs(environment(state)) do
        if not worth or worth(name) then look(name) end
    end
    return notes
end

local warned <const> = {}

---Warns of mistyped keys when the default would be used: the default server, 20 connections.
---Once in a process for each file, for the environment stays.
---@param state dbrun.ConfigState
---@param wanted string[] the keys that would set the value, and are not given
function M.warn(state, wanted)
    local name <const> = wanted[1] .. " " .. (state.dotenv and state.dotenv.name or "")
    if warned[name] and not state.options.environ then return end
    warned[name] = true
    for _, note in ipairs(M.notes(state, wanted)) do sources.log("warn", note) end
end

---Whether a name begins almost like DB_ or DBRUN_. An environment has dozens of names, and each search takes 20 us.
local function begins_with_db(name)
    local start <const> = name:sub(1, 3)
    return start:find "[Dd]" ~= nil and start:find "[Bb]" ~= nil
end

---Warns once of names that resemble a key with a default that is not given: of the pool, of folders, of the log.
---@param state dbrun.ConfigState
function M.warn_of_defaults(state)
    local name <const> = "defaults " .. (state.dotenv and state.dotenv.name or "")
    if warned[name] and not state.options.environ then return end
    warned[name] = true
    local wanted <const> = {}
    for _, key in ipairs(keys.order) do
        if key:find "^DB" and sources.lookup(state, key) == nil then wanted[#wanted + 1] = key end
    end
    for _, note in ipairs(M.notes(state, wanted, begins_with_db)) do sources.log("warn", note) end
end

return M
