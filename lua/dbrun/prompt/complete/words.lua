--- Words that completion offers: of SQL, of Redis, of Lua.
local M = {}

local function list(text)
    local words = {}
    for word in text:gmatch "%S+" do words[#words + 1] = word end
    return words
end

local function set(text)
    local words = {}
    for word in text:gmatch "%S+" do words[word] = true end
    return words
end

--- First words of statements.
M.STATEMENTS = list [[abort alter analyze begin call checkpoint close cluster comment commit copy create deallocate
    declare delete discard do drop end execute explain fetch grant import insert listen lock merge move notify prepare
    reassign refresh reindex release reset revoke rollback savepoint security select set show start table truncate
    unlisten update
    vacuum values with]]

--- Inside of statements.
M.SQL = list [[add all alter always analyze and any as asc authorization before between both buffers by cascade case
    cast check coalesce collate column comment commit committed concurrently conflict constraint create cross
    current_database current_date current_role current_schema current_time current_timestamp current_user cursor cycle
    data database default deferrable deferred delete desc distinct do domain drop each else end enable except exclude
    execute exists explain extension extract false fetch filter first following for foreign format from full function
    generated grant group grouping having identity if ilike immediate in include index inherit initially inner insert
    instead intersect interval into is isnull isolation join json key language last lateral leading left level like
    limit local lock locked materialized matched maxvalue merge minvalue name natural no nothing notnull nowait null
    nullif nulls of off offset on only or order outer over overriding owner partition policy preceding primary
    procedure public range read references refresh reindex rename repeatable replace restart restrict returning
    returns revoke right role rollback row rows schema security select sequence serializable session set setof share
    show similar skip some start statistics storage system_user table tables tablesample tablespace temporary then to
    trailing transaction trigger true truncate type unbounded union unique unlogged until update user using valid
    value values verbose view volatile when where window with
    within without work write zone]]

--- Words that must be quoted as names: reserved, or not allowed as the name of a table or function.
M.RESERVED = set [[all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean
    both case cast char character check coalesce collate collation column concurrently constraint create cross
    current_catalog current_date current_role current_schema current_time current_timestamp current_user dec decimal
    default deferrable desc distinct do else end except exists extract false fetch float for foreign freeze from full
    grant greatest group grouping having ilike in initially inner inout int integer intersect interval into is isnull
    join json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar json_serialize
    json_table json_value lateral leading least left like limit localtime localtimestamp merge_action national natural
    nchar none normalize not notnull null nullif numeric offset on only or order out outer overlaps overlay placing
    position precision primary real references returning right row select session_user setof similar smallint some
    substring symmetric system_user table tablesample then time timestamp to trailing treat trim true union unique
    user using values varchar variadic verbose when where window with xmlattributes xmlconcat xmlelement xmlexists
    xmlforest xmlnamespaces xmlparse
    xmlpi xmlroot xmlserialize xmltable]]

M.TYPES = list [[bigint bigserial bit boolean bytea char character cidr date daterange double float inet int int4range
    int8range integer interval json jsonb macaddr money numeric numrange real regclass regproc regtype serial smallint
    text
    time timestamp timestamptz tsquery tsrange tstzrange tsvector uuid varchar xml]]

M.LUA = require "dbrun.reserved".words

--- Modules of dbrun that scripts use.
M.MODULES = list [[dbrun dbrun.cli dbrun.config dbrun.csv dbrun.db dbrun.error dbrun.fs dbrun.json dbrun.log
    dbrun.migrate dbrun.process dbrun.progress dbrun.redis dbrun.seed dbrun.stack dbrun.table dbrun.task dbrun.testing
    dbrun.time dbrun.tty dbrun.verify]]

M.REDIS = list [[append auth bgrewriteaof bgsave bitcount bitfield bitop bitpos blmove blmpop blpop brpop bzmpop
    bzpopmax bzpopmin client cluster command config copy dbsize decr decrby del discard dump echo eval evalsha exec
    exists
    expire expireat expiretime failover flushall flushdb function geoadd geodist geohash geopos geosearch
    geosearchstore get getbit getdel getex getrange getset hdel hello hexists hget hgetall hincrby hincrbyfloat hkeys
    hlen hmget hmset hrandfield hscan hset hsetnx hstrlen hvals incr incrby incrbyfloat info keys lastsave latency lcs
    lindex linsert llen lmove lmpop lolwut lpop lpos lpush lpushx lrange lrem lset ltrim memory mget migrate module
    move mset msetnx multi object persist pexpire pexpireat pexpiretime pfadd pfcount pfmerge ping psetex psubscribe
    pttl publish pubsub punsubscribe quit randomkey rename renamenx replicaof reset restore role rpop rpoplpush rpush
    rpushx sadd save scan scard script sdiff sdiffstore select set setbit setex setnx setrange shutdown sinter
    sintercard sinterstore sismember slowlog smembers smismember smove sort sort_ro spop spublish srandmember srem
    sscan ssubscribe strlen subscribe sunion sunionstore sunsubscribe swapdb time touch ttl type unlink unsubscribe
    unwatch wait waitaof watch xack xadd xautoclaim xclaim xdel xgroup xinfo xlen xpending xrange xread xreadgroup
    xrevrange xtrim zadd zcard zcount zdiff zdiffstore zincrby zinter zintercard zinterstore zlexcount zmpop zmscore
    zpopmax zpopmin zrandmember zrange zrangebylex zrangebyscore zrangestore zrank zrem zremrangebylex zremrangebyrank
    zremrangebyscore zrevrange zrevrangebyscore zrevrank zscan zscore
    zunion zunionstore]]

---The words that begin with the prefix, ignoring case; they are in capitals if the prefix is.
---@param words string[]
---@param prefix string
---@param out string[] they are added here
function M.add(words, prefix, out)
    local low <const> = prefix:lower()
    local capitals <const> = prefix ~= low and prefix == prefix:upper()
    for _, word in ipairs(words) do
        if word:sub(1, #low) == low then out[#out + 1] = capitals and word:upper() or word end
    end
end

---Sorted, each once, `most` at most.
---@param out string[]
---@param most integer
---@return string[]
function M.finish(out, most)
    table.sort(out)
    local kept = {}
    for _, word in ipairs(out) do
        if word ~= kept[#kept] and #kept < most then kept[#kept + 1] = word end
    end
    return kept
end

return M
