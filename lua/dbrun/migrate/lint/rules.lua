--- The rules of lint: what each finds, its severity, the reason, and the safe alternative.

---@class dbrun.migrate.Rule
---@field name string
---@field severity "error"|"warning"|"note" fails or loses data; blocks others or breaks programs; style
---@field why string
---@field safe string what to do instead
---@field rows? "stored"|"seen" skipped for a table that the transaction has truncated; "seen": or deleted from
---@field style? boolean off unless it is asked for
---@field statement? fun(ctx: dbrun.migrate.LintContext, report: fun(message: string, table?: string, safe?: string))

---@type dbrun.migrate.Rule[]
local RULES <const> = {}

for _, part in ipairs {
    require "dbrun.migrate.lint.rules_index", require "dbrun.migrate.lint.rules_table",
    require "dbrun.migrate.lint.rules_object", require "dbrun.migrate.lint.rules_data",
    require "dbrun.migrate.lint.rules_timescale", require "dbrun.migrate.lint.rules_lock",
    require "dbrun.migrate.lint.rules_style",
} do
    table.move(part, 1, #part, #RULES + 1, RULES)
end

-- Rules that check a file, not a statement.
for _, rule in ipairs {
    {
        name = "missing-down",
        severity = "note",
        why = "the migration cannot be reverted",
        safe = "write the down section; if it cannot be reverted, say so with a lint comment",
    },
    {
        name = "not-looked-at",
        severity = "warning",
        why = "lint uses the parser of PostgreSQL 15: the statement is newer, or wrong",
        safe = "check it yourself, then switch this off with a lint comment",
    },
    {
        name = "refused",
        severity = "error",
        why = "'up' does not run such a file: what it would record and what would happen are not the same",
        safe = "what 'up' says to it",
    },
    {
        name = "unreadable",
        severity = "error",
        why = "'up' cannot read this file either",
        safe = "correct it as the message says",
    },
} do
    RULES[#RULES + 1] = rule
end

return RULES
