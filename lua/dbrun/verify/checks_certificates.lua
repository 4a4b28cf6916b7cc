--- Certificates of encrypted connections that expire soon. Skipped without encryption.
local findings <const> = require "dbrun.verify.findings"
local limits <const> = require "dbrun.verify.limits"

local M = {}

local DAY <const> = 86400

---"12 days", "5 hours"
local function words(seconds)
    local left = math.abs(seconds)
    if left >= 2 * DAY then return ("%d days"):format(left // DAY) end
    return ("%d hours"):format(left // 3600)
end

---@param ctx dbrun.verify.Context
---@param limit string
---@param peer? number seconds that the server's certificate is valid
---@param own? number
---@param renew { server: string, client: string } what to do
local function judge(ctx, limit, peer, own, renew)
    if not peer and not own then return { status = "SKIP", text = "the connection is not encrypted" } end
    local peers = { { "the server's certificate", peer, renew.server }, { "the client's", own, renew.client } }
    local found, texts = findings.new(), {}
    for _, one in ipairs(peers) do
        local name, left, todo = one[1], one[2], one[3]
        if left then
            local text = left < 0 and ("%s ended %s ago"):format(name, words(left))
                or ("%s is valid for %s"):format(name, words(left))
            texts[#texts + 1] = text
            local status = limits.judge(ctx, limit, left / DAY)
            if status ~= "PASS" then
                found.add(status, ("%s: %s that verifies it connects"):format(text,
                    left < 0 and "no client" or "after that no client"), todo)
            end
        end
    end
    return found.result(table.concat(texts, ", "))
end

---@param ctx dbrun.verify.Context
---@return dbrun.verify.Found|string
function M.postgres(ctx)
    local function ask(conn) return conn:certificates() end
    local peer, own
    if ctx.lease then
        peer, own = ask(ctx.lease)
    else
        local conn <close> = ctx.conn:acquire()
        peer, own = ask(conn)
    end
    return judge(ctx, "postgres.certificates", peer, own, {
        server = "renew the file of ssl_cert_file on the server; then: select pg_reload_conf();",
        client = "renew the file of sslcert (~/.postgresql/postgresql.crt)",
    })
end

---@param ctx dbrun.verify.Context
---@return dbrun.verify.Found|string
function M.redis(ctx)
    local url = require("dbrun.url").parse_redis(ctx.config.redis_url, "REDIS_URL")
    if not url.tls then return { status = "SKIP", text = "the connection is not encrypted" } end
    if url.scheme:find "cluster" then
        return { status = "SKIP", text = "a cluster has a certificate for each node" }
    end
    local conn <close> = require("dbrun.redis").get():acquire()
    local peer, own = conn:certificates()
    return judge(ctx, "redis.certificates", peer, own, {
        server = "renew tls-cert-file; then: redis-cli config set tls-cert-file FILE",
        client = "renew the file of ssl_certfile in REDIS_URL",
    })
end

return M
