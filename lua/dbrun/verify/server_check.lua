--- Makes the checks of the PostgreSQL server, which judge the facts of dbrun.verify.server.
local M = {}

---The result of a check whose facts the server does not provide.
---@param refused dbrun.Error
---@return dbrun.verify.Found
function M.not_offered(refused)
    if refused.sqlstate ~= "22021" and refused.sqlstate ~= "22P05" then
        return { status = "SKIP", text = ("not offered here: %s"):format(refused.message) }
    end
    return { status = "WARN", text = "cannot be read", cause = "a name is not in the encoding of this database: "
        .. refused.message, remedy = { "PGCLIENTENCODING=SQL_ASCII psql   (shows it: rename it)",
        "or create the database anew: createdb -E UTF8 -T template0" } }
end

---Returns a function that adds a check `postgres.NAME` to the list. `groups` names the groups of facts that it judges:
---it is skipped if the server does not provide one of them.
---@param list dbrun.verify.Check[]
---@return fun(name: string, about: string, run: function, groups?: string[], after?: string[])
function M.adder(list)
    return function(name, about, run, groups, after)
        list[#list + 1] = {
            name = "postgres." .. name, about = about, needs = { "postgres.server" }, after = after,
            run = function(ctx)
                local server = ctx.server
                for _, group in ipairs(groups or {}) do
                    local refused = server.refused[group]
                    if refused then return M.not_offered(refused) end
                end
                return run(ctx, server)
            end,
        }
    end
end

---A word as an identifier of SQL.
local function ident(word)
    return word:find "^[%l_][%l%d_]*$" and word or '"' .. word:gsub('"', '""') .. '"'
end
M.ident = ident

---What the role cannot see, and the GRANT for it; nil when it sees every session.
---@param server dbrun.verify.Server
---@param hidden? integer default: the hidden sessions
---@return { cause: string, remedy: string[] }?
function M.blind(server, hidden)
    hidden = hidden or server.hidden or 0
    if hidden == 0 then return nil end
    return {
        cause = ("cannot see other roles' sessions: %d hidden from %s"):format(hidden, server.role),
        remedy = { ("grant pg_monitor to %s;"):format(ident(server.role)) },
    }
end

---A result that is not PASS while the role cannot see what the check judges.
---@param server dbrun.verify.Server
---@param text string
---@param facts? table
---@param hidden? integer
---@return dbrun.verify.Found
function M.seen(server, text, facts, hidden)
    local blind = M.blind(server, hidden)
    if not blind then return { text = text, facts = facts } end
    text = text .. ", as far as this role can see"
    return { status = "WARN", text = text, cause = blind.cause, remedy = blind.remedy, facts = facts }
end

---Findings about the sessions that the role can see, with a note about those that it cannot see.
---@param server dbrun.verify.Server
---@param found dbrun.verify.Found
---@return dbrun.verify.Found
function M.partly(server, found)
    local blind = M.blind(server)
    if not blind then return found end
    found.cause = found.cause .. "\n" .. blind.cause
    table.insert(found.remedy, 1, blind.remedy[1])
    return found
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
