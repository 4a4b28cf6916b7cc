--- The options of the operations, and their checks.
local args = require "dbrun.args"

local M = {}

local COMMON <const> = {
    url = "string", dirs = "table", table = "string", lock_wait = args.seconds, lock_timeout = args.seconds,
    lock_retries = args.whole(0), statement_timeout = args.seconds, hooks = "string", target = "string",
    listener = "table",
}

local STEPS <const> = args.whole(1)

---Further options of an operation.
local OWN <const> = {
    up = { to = "string", steps = STEPS, strict = "boolean" },
    down = { steps = STEPS },
    redo = { steps = STEPS },
    new = { lua = "boolean" },
    repair = { missing = "boolean", version = "string", statement = STEPS },
    import = { from = args.path, from_table = "string", files_only = "boolean", placeholders = "table" },
    plan = { direction = args.one_of("up", "down"), to = "string", steps = STEPS },
    lint = {
        files = "table", from = "string", down = "boolean", style = "boolean", pending = "boolean", since = "string",
        baseline = args.path,
    },
}

local LISTENER <const> = {
    target = "function", waiting = "function", begin = "function", statement = "function", ran = "function",
    plan = "function", resumed = "function", retry = "function", notice = "function", done = "function",
}

---@param name string of the operation, "up"
---@return table<string, dbrun.args.Rule>
local function known(name)
    local all = {}
    for key, rule in pairs(COMMON) do all[key] = rule end
    for key, rule in pairs(OWN[name] or {}) do all[key] = rule end
    return all
end

---Raises unless the options are those of the operation.
---@param name string "up"
---@param opts table|nil
---@return table opts an empty table for nil
function M.check(name, opts)
    local fn <const> = "migrate." .. name
    opts = args.options(fn, opts, known(name))
    args.optional_list(fn, "dirs", opts.dirs, args.path)
    args.optional_list(fn, "files", opts.files, args.path)
    if opts.listener then args.options(fn .. "{listener=}", opts.listener, LISTENER) end
    return opts
end

---The options of an operation among the arguments of its command.
---@param name string
---@param arguments table
---@return table
function M.pick(name, arguments)
    local opts = {}
    for key in pairs(known(name)) do opts[key] = arguments[key] end
    return opts
end

return M
