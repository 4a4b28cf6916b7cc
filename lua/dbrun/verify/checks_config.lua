--- Is the configuration complete and well-formed?
local M = {}

---@type dbrun.verify.Check
M.configuration = {
    name = "configuration",
    about = "every value of the environment and .env is well-formed",
    run = function(ctx)
        local config = ctx.config
        local notes = config.check()
        local text = ("PostgreSQL from %s, Redis from %s"):format(config.source "async_database_url",
            config.source "redis_url")
        if #notes == 0 then return text end
        return {
            status = "WARN", text = text, cause = table.concat(notes, "\n"),
            remedy = { "mend the name, or take it out; dbrun config lists what is known" },
        }
    end,
}

return M
