--- The commands of the prompt that describe the database: `\d` and the lists.
local blocks = require "dbrun.prompt.blocks"
local describe = require "dbrun.prompt.describe"

local SUMMARIES <const> = {
    d = { "\\d [NAME]", "relations, or all about one" }, dt = { "\\dt [PATTERN]", "tables" },
    di = { "\\di [PATTERN]", "indexes" }, dv = { "\\dv [PATTERN]", "views" },
    dm = { "\\dm [PATTERN]", "materialized views" }, ds = { "\\ds [PATTERN]", "sequences" },
    df = { "\\df [PATTERN]", "functions" }, dn = { "\\dn [PATTERN]", "schemas" }, du = { "\\du [PATTERN]", "roles" },
    l = { "\\l [PATTERN]", "databases" }, dx = { "\\dx [PATTERN]", "extensions" }, dT = { "\\dT [PATTERN]", "types" },
    dp = { "\\dp [PATTERN]", "privileges" }, sf = { "\\sf NAME", "the source of a function" },
}

local commands <const> = {}
for name, entry in pairs(SUMMARIES) do
    local function run(session, argument, typed)
        local shown <const> = describe.run(session:conn(), typed, argument)
        session:write(table.concat(blocks.lines(shown, session:options()), "\n"))
    end
    for _, suffix in ipairs { "", "+", "S", "S+", "+S" } do
        commands[name .. suffix] = { usage = entry[1], summary = entry[2], run = run, hidden = suffix ~= "" or nil }
    end
end

return commands
