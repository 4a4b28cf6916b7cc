--- What the checks of the PostgreSQL server share: how one that judges the facts of dbrun.verify.server is made.
local M = {}

---Returns a function that adds a check `postgres.NAME` to the list.
---@param list dbrun.verify.Check[]
---@return fun(name: string, about: string, run: fun(ctx: table, server: table): any, after?: string[])
function M.adder(list)
    return function(name, about, run, after)
        list[#list + 1] = {
            name = "postgres." .. name, about = about, needs = { "postgres.server" }, after = after,
            run = function(ctx) return run(ctx, ctx.server) end,
        }
    end
end

---The status for a difference from an expectation: WARN, and FAIL with --strict.
---@param text string
---@param cause string
---@param ... string what to do
---@return dbrun.verify.Found
function M.differs(text, cause, ...)
    return { status = "INCOMPLETE", text = text, cause = cause, remedy = { ... } }
end

return M
