--- Refuses --dry-run before dbrun's own commands and the prompt.
local dry <const> = require "dbrun.dry"
local errors <const> = require "dbrun.error"

local M = {}

local NOTHING <const> = "it changes nothing: leave --dry-run out"

--- The replacement, by the name of a command in messages.
local INSTEAD <const> = {
    migrate = "this shows what it would do: dbrun migrate plan",
    seed = "its own rolls all of it back: dbrun seed --dry-run",
    batch = "its own reads what it would do: dbrun batch run NAME --dry-run",
    sql = "one transaction that is rolled back does it: dbrun sql \"begin; ...; rollback\"",
    redis = "nothing takes a command of Redis back: leave --dry-run out, or use --read-only",
    stack = "it starts, stops and removes servers of the project's own: leave --dry-run out",
    test = "specs have databases of their own: leave --dry-run out",
    init = "it keeps the files that are there: leave --dry-run out",
    dbmate = "this shows what it would do: dbrun migrate plan",
    verify = NOTHING, config = NOTHING, completion = NOTHING,
}

--- Commands that only show something: the option changes nothing.
local SHOW <const> = { ["dbrun help"] = true, version = true }

---A command of dbrun's own.
---@param name string
---@return string? text why it does not run; nil: it may
function M.command(name)
    local instead <const> = INSTEAD[name]
    if not instead and not SHOW[name] then return nil end -- the command line of a script
    dry.leave()
    return instead and ("--dry-run is for scripts; %s"):format(instead)
end

---The prompt.
---Raises an error of kind `usage`.
function M.prompt()
    dry.leave()
    errors.fail("usage", "--dry-run is for scripts: the prompt has none", "begin; ... rollback; does the same there")
end

return M
