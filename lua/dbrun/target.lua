--- Which database a script is about to work on, in a few words without a password: asked of the server, because what
--- counts is where the connection ended up.
local M = {}

local WHERE <const> = [[
select current_user::text as role, current_database()::text as database, host(inet_server_addr()) as address,
       inet_server_port() as port, current_setting('server_version') as version]]

---The host as the URL names it: a person knows that name better than the address behind it.
local function host_in(url)
    local ok, parsed = pcall(require("dbrun.url").parse_postgres, url, "url")
    local first = ok and #parsed.hosts == 1 and parsed.hosts[1]
    return first and first.host or nil
end

---@param conn table anything with `one`
---@param url string the URL it was opened with
---@return string target "app@db.example:5432/shop (PostgreSQL 15.10)"
function M.describe(conn, url)
    local row = conn:one(WHERE)
    local host = host_in(url) or row.address or "local socket"
    if row.port and host:sub(1, 1) ~= "/" then host = ("%s:%d"):format(host, row.port) end
    return ("%s@%s/%s (PostgreSQL %s)"):format(row.role, host:gsub("/+$", ""), row.database,
        row.version:match "^%S+")
end

return M
