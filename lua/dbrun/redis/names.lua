--- Classes of objects that have the methods of a client, and names from other libraries (redis-py, node-redis, ioredis,
--- lua-resty-redis, redis-lua) for what dbrun calls otherwise.
local args <const> = require "dbrun.args"

local M = {}

-- ---- clients ----

local clients <const> = {}

---Objects with this metatable have the methods of a client.
---@param metatable table
function M.add_client(metatable)
    clients[metatable] = true
end

---Raises unless a method was called on a client: `r.scan{...}` passes none.
---@param method string
---@param self any
function M.on_client(method, self)
    args.self(method, self, clients, "a client", "r")
end

-- ---- what is meant ----

local TO_CLOSE <const> = "disconnect end_ shutdown_client connection_pool_disconnect set_keepalive destroy"
local TO_SEND <const> = "execute_command send_command sendcommand raw_command command_raw rawcall"

local COMMANDS <const> = {
    { "delete remove", '{}:del(key)' },
    { TO_SEND, '{}:call("NAME", ...)' },
    { "get_connection set_timeout set_timeouts get_reused_times read_reply",
        "redis.client{command_timeout = seconds, ...}: connections come from a pool" },
}

local CLIENT <const> = {
    { "scan_iter scaniter scaniterator scan_iterator", 'for key in r:scan{match = "user:*"} do ... end' },
    { "hscan_iter hscaniterator", "for field, value in r:hscan(key) do ... end" },
    { "sscan_iter sscaniterator", "for member in r:sscan(key) do ... end" },
    { "zscan_iter zscaniterator", "for member, score in r:zscan(key) do ... end" },
    { "register_script load_script define_command definecommand createscript",
        "local f = r:script(source); f(keys, args)" },
    { "transaction atomic", "r:multi(function(tx) tx:incr(key) end)" },
    { "init_pipeline pipelined", "r:pipeline(function(p) p:get(key) end)" },
    { "commit_pipeline execute", "r:pipeline(function(p) ... end) sends what the function queues" },
    { "cancel_pipeline", "p:clear()" },
    { "listen listener get_message on_message", "local s <close> = r:subscribe(channel); "
        .. "for m in s:messages() do ... end" },
    { "connect duplicate open is_open isopen isready checkout", "a client connects when it is used; "
        .. "local conn <close> = r:acquire() is a dedicated connection" },
    { TO_CLOSE .. " release", "r:close()" },
    { "pool_stats get_stats", "r:stats()" },
    { "redlock mutex", "local l <close> = r:lock(name, {ttl = seconds})" },
}

local CONNECTION <const> = {
    { "pipeline", "a client has it: r:pipeline(fn)" },
    { "script", 'conn:call("SCRIPT", "LOAD", source) is the command; r:script(source) is a method of a client' },
    { "lock library consume", "a client has it: r:lock(name), r:library(source)" },
    { "acquire with stats", "a client has it: r:acquire(), r:with{...}, r:stats()" },
    { TO_CLOSE .. " release free", "conn:close() returns it to the pool" },
}

local PIPELINE <const> = {
    { "run commit flush sync results get_results fetch commit_pipeline exec_pipeline", "p:execute() sends the commands "
        .. "and returns the replies" },
    { "cancel cancel_pipeline", "p:clear()" },
    { "script", 'p:call("SCRIPT", "LOAD", source) is the command; r:script(source) is a method of a client' },
    { "acquire pipeline lock library consume", "a client has it: r:acquire(), r:lock(name), r:library(source)" },
}

local POOL <const> = {
    { "get set call query", "redis.client{pool = pool} has the commands" },
    { "acquire get_connection checkout connection getconn", "redis.client{pool = pool}:acquire()" },
    { "release", "conn:close() returns a connection" },
    { TO_CLOSE, "pool:close()" },
}

local SUBSCRIPTION <const> = {
    { "listen get_message next receive read messages_iter iter events read_reply", "for m in s:messages() do ... end" },
    { "psubscribe ssubscribe", "r:psubscribe(pattern) makes a separate subscription" },
    { "punsubscribe sunsubscribe", "s:unsubscribe(name)" },
    { "disconnect quit reset release", "s:close()" },
    { "publish", "r:publish(channel, payload)" },
}

local LOCK <const> = {
    { "unlock free close", "l:release()" },
    { "owned locked is_valid isvalid is_locked is_held held", "l:valid()" },
    { "wait on_lost await", "l:lost() waits until it is lost" },
    { "fencing_token fence_token", "l.fence" },
    { "acquire take lock", "r:lock(name, {ttl = seconds, wait = seconds}) takes it" },
    { "renew refresh reacquire expire touch", "l:extend(seconds)" },
}

local LIBRARY <const> = {
    { "fcall run execute invoke eval", 'lib:call(name, {key}, {argument})' },
    { "register install deploy replace", "lib:load()" },
}

local MODULE <const> = {
    { "connect new create open createclient create_client redis strictredis from_url fromurl cluster rediscluster "
        .. "sentinel", "redis.get() is the client from the configuration; redis.client{url = ...} makes another" },
    { "connectionpool connection_pool create_pool", "redis.pool{url = ...}" },
    { "default instance singleton shared", "redis.get()" },
    { "null", "a reply of nil is nil" },
}

local KINDS <const> = {
    module = { "redis", "redis", MODULE },
    client = { "a client", "r", CLIENT, COMMANDS },
    connection = { "a connection", "conn", CONNECTION, COMMANDS },
    pipeline = { "a pipeline", "p", PIPELINE, COMMANDS },
    pool = { "a pool", "pool", POOL },
    subscription = { "a subscription", "s", SUBSCRIPTION },
    lock = { "a lock", "l", LOCK },
    library = { "a library", "lib", LIBRARY },
}

local meant <const> = args.foreign_names

---For objects whose unknown names are commands: raises with the probable name if Redis has no such command.
---@param kind "client"|"connection"|"pipeline"
---@param name string
function M.check_command(kind, name)
    local words <const> = KINDS[kind]
    if meant(words)[name:lower()] then
        args.unknown_name(words[1], name, {}, { [name] = words.meant[name:lower()] })
    end
end

---Makes the methods of a class without commands answer for names that they do not have.
---@param kind "pool"|"subscription"|"lock"|"library"
---@param methods table
---@return table methods
function M.answer(kind, methods)
    local words <const> = KINDS[kind]
    return args.answer_for_names(methods, words[1], meant(words))
end

---For the module: commands are methods of a client.
---@param name any
---@param functions table<string, any>
---@return nil
function M.unknown_function(name, functions)
    if type(name) ~= "string" then
        return nil
    end
    local words <const> = KINDS.module
    local instead = meant(words)[name:lower()]
    if not instead and require "dbrun.redis.keys".is_command(name) then
        instead = ("commands are methods of a client: redis.get():%s(...), or of redis.client{...}"):format(name)
    end
    return args.unknown_name("redis", name, functions, { [name] = instead })
end

---The remedy for a command that the server does not know.
---@param name string
---@return string? hint
function M.hint_for(name)
    local instead <const> = meant(KINDS.client)[name:lower()]
    if instead then
        return instead
    end
    local keys <const> = require "dbrun.redis.keys"
    if keys.is_command(name) then
        return "it is spelled right: a newer server, or one of another kind, has it (INFO server tells the version), "
            .. "unless it was renamed there"
    end
    local near <const> = require "dbrun.nearest".find(name, keys.commands())
    return near and ("did you mean '%s'?"):format(near)
end

return M
