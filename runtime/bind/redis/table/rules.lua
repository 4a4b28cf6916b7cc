--- What the JSON files do not say, or say too widely: written by hand. Every rule names its reason.
local shape <const> = require "shape"

local M = {}

local plain <const>, number <const> = shape.plain, shape.number
local pair <const> = shape.rows { plain, plain }
local scored <const> = shape.rows { plain, number }
local entry <const> = shape.tuple { plain, shape.fields }

-- ---- shapes ----

--- A command of COMMAND DOCS; its arguments may have arguments, its subcommands are described as it is itself.
local argument <const> = shape.named("argument", shape.map {})
argument.fields.arguments = shape.list(argument)
local documented <const> = shape.named("documented", shape.map { arguments = shape.list(argument) })
documented.fields.subcommands = shape.map({}, documented)

--- A command of COMMAND INFO: the 9th value describes its keys, the 10th its subcommands.
local search <const> = shape.map { spec = shape.map {} }
local info <const> = shape.named("info", shape.tuple { plain, plain, plain, plain, plain, plain, plain, plain,
    shape.list(shape.map { begin_search = search, find_keys = search }) })
info.parts[10] = shape.list(info)

--- Replies that are a flat list in RESP2 where the schema (of RESP3) has pairs or a map, and those without a schema.
M.shapes = {
    ["COMMAND DOCS"] = shape.map({}, documented),
    COMMAND = shape.list(info), ["COMMAND INFO"] = shape.list(info),
    ["PUBSUB NUMSUB"] = shape.map {}, ["PUBSUB SHARDNUMSUB"] = shape.map {}, -- a flat list in RESP3 too
    HRANDFIELD = plain, ZRANDMEMBER = plain, ZDIFF = plain, ZINTER = plain, ZUNION = plain, ZRANGE = plain,
    ZRANGEBYSCORE = plain, ZREVRANGE = plain, ZREVRANGEBYSCORE = plain,
    ZPOPMAX = scored, ZPOPMIN = scored,
    XAUTOCLAIM = shape.tuple { plain, shape.list(entry), plain }, -- with JUSTID a list of IDs stands for the entries
    -- Modules of Redis 8 have no schema.
    VADD = plain, VCARD = plain, VDIM = plain, VREM = plain, VSETATTR = plain, VGETATTR = plain, VRANDMEMBER = plain,
    VISMEMBER = plain, VRANGE = plain, VSIM = plain, VLINKS = plain, VEMB = shape.list(number), VINFO = shape.map {},
    ["HOTKEYS GET"] = plain,
    -- A script, a function or a debugging aid replies what it likes.
    DEBUG = plain, PFDEBUG = plain, MONITOR = plain, SYNC = plain, PSYNC = plain,
    SUBSCRIBE = plain, PSUBSCRIBE = plain, SSUBSCRIBE = plain, UNSUBSCRIBE = plain, PUNSUBSCRIBE = plain,
    SUNSUBSCRIBE = plain,
    -- Names of subcommands that came before 7.2.
    ["SENTINEL SLAVES"] = "SENTINEL REPLICAS", ["SENTINEL PRIMARY"] = "SENTINEL MASTER",
    ["SENTINEL PRIMARIES"] = "SENTINEL MASTERS",
}

--- Options that change the shape of a reply; `both`: the shape with two of them. All others leave it alone.
M.options = {
    HRANDFIELD = { WITHVALUES = pair },
    VEMB = { RAW = shape.tuple({ plain, plain }, number) },
    VLINKS = { WITHSCORES = shape.list(scored) },
    VSIM = { WITHSCORES = scored, WITHATTRIBS = pair, both = shape.rows { plain, number, plain } },
}
for _, name in ipairs { "ZDIFF", "ZINTER", "ZUNION", "ZRANDMEMBER", "ZRANGE", "ZRANGEBYSCORE", "ZREVRANGE",
    "ZREVRANGEBYSCORE" } do
    M.options[name] = { WITHSCORES = scored }
end

--- Where options begin, when the arguments of the JSON do not say it: VSIM key (ELE e | FP32 v | VALUES n v...), and
--- modules without a description.
M.begin = {
    VSIM = { after = 1 }, VEMB = { after = 2 }, VLINKS = { after = 2 },
}
--- Options with their number of arguments, when the JSON does not have them.
M.words = {
    VSIM = { ELE = 1, FP32 = 1, VALUES = 1, COUNT = 1, EPSILON = 1, EF = 1, FILTER = 1, ["FILTER-EF"] = 1, TRUTH = 0,
        NOTHREAD = 0, WITHSCORES = 0, WITHATTRIBS = 0 },
    VEMB = { RAW = 0 }, VLINKS = { WITHSCORES = 0 },
    XREADGROUP = { CLAIM = 1 }, -- Redis 8.4
}

-- ---- keys ----

--- Options whose argument is a key: the specification is `unknown`, or finds the word also where it is a key.
M.option_keys = {
    SORT = { STORE = "key" },
    GEORADIUS = { STORE = "key", STOREDIST = "key" }, GEORADIUSBYMEMBER = { STORE = "key", STOREDIST = "key" },
    XREAD = { STREAMS = "half" }, XREADGROUP = { STREAMS = "half" },
    MIGRATE = { KEYS = "all" },
}

--- MIGRATE has "" in place of its key when KEYS names them.
M.not_empty = { MIGRATE = true }

local first <const> = { { kind = "RANGE", first = 1, last = 1, step = 1 } }

--- Modules of Redis 8 have no key specifications.
M.keys = {}
for _, name in ipairs { "VADD", "VREM", "VSIM", "VDIM", "VCARD", "VEMB", "VLINKS", "VINFO", "VSETATTR", "VGETATTR",
    "VRANDMEMBER", "VISMEMBER", "VRANGE" } do
    M.keys[name] = first
end
--- The cursor of CLUSTERSCAN has a hash tag, by which the server redirects. It is no key for COMMAND GETKEYS, and
--- neither are the channels of SPUBLISH; both decide about the node.

-- ---- what a command may change ----

--- Commands without the flag READONLY that change nothing.
M.reads = [[
    ACL CAT; ACL DRYRUN; ACL GENPASS; ACL GETUSER; ACL HELP; ACL LIST; ACL USERS; ACL WHOAMI;
    CLIENT GETNAME; CLIENT GETREDIR; CLIENT HELP; CLIENT ID; CLIENT INFO; CLIENT LIST; CLIENT TRACKINGINFO;
    CLUSTER COUNTKEYSINSLOT; CLUSTER COUNT-FAILURE-REPORTS; CLUSTER GETKEYSINSLOT; CLUSTER GETSLOTMIGRATIONS;
    CLUSTER HELP; CLUSTER INFO; CLUSTER KEYSLOT; CLUSTER LINKS; CLUSTER MYID; CLUSTER MYSHARDID; CLUSTER NODES;
    CLUSTER REPLICAS; CLUSTER SHARDS; CLUSTER SLAVES; CLUSTER SLOT-STATS; CLUSTER SLOTS;
    COMMAND; COMMAND COUNT; COMMAND DOCS; COMMAND GETKEYS; COMMAND GETKEYSANDFLAGS; COMMAND HELP; COMMAND INFO;
    COMMAND LIST; COMMANDLOG GET; COMMANDLOG HELP; COMMANDLOG LEN; CONFIG GET; CONFIG HELP; ECHO;
    FUNCTION DUMP; FUNCTION HELP; FUNCTION LIST; FUNCTION STATS; HOTKEYS GET; INFO; LASTSAVE;
    LATENCY DOCTOR; LATENCY GRAPH; LATENCY HELP; LATENCY HISTOGRAM; LATENCY HISTORY; LATENCY LATEST;
    MEMORY DOCTOR; MEMORY HELP; MEMORY MALLOC-STATS; MEMORY STATS; MODULE HELP; MODULE LIST;
    OBJECT HELP; PING; PUBLISH; PUBSUB; PUBSUB CHANNELS; PUBSUB HELP; PUBSUB NUMPAT; PUBSUB NUMSUB;
    PUBSUB SHARDCHANNELS; PUBSUB SHARDNUMSUB; ROLE; SCRIPT EXISTS; SCRIPT HELP; SCRIPT SHOW;
    SENTINEL CKQUORUM; SENTINEL GET-MASTER-ADDR-BY-NAME; SENTINEL GET-PRIMARY-ADDR-BY-NAME; SENTINEL HELP;
    SENTINEL MASTER; SENTINEL MASTERS; SENTINEL MYID; SENTINEL PRIMARIES; SENTINEL PRIMARY; SENTINEL REPLICAS;
    SENTINEL SENTINELS; SENTINEL SLAVES; SLOWLOG GET; SLOWLOG HELP; SLOWLOG LEN; SPUBLISH; TIME; WAIT; WAITAOF;
    XGROUP HELP; XINFO HELP; OBJECT; XINFO;
]]

--- Commands that change nothing and yet belong to the primary: TOUCH is for its memory, messages come from where
--- writes come from, WAIT waits for one's own writes.
M.primary_only = "PUBLISH; SPUBLISH; TOUCH; WAIT; WAITAOF; XGROUP HELP;"

--- What these end or look at may be running on the connection that all tasks share, where nothing overtakes it.
M.overtakes = "FUNCTION KILL; FUNCTION STATS; SCRIPT KILL; SHUTDOWN;"

-- ---- nodes of a cluster ----

--- Requests and responses of a policy `special`, of none, or of one that does not suit a library.
M.policies = {
    -- Each node knows its own subscribers, a replica too.
    ["PUBSUB CHANNELS"] = { "NODES", "UNION" }, ["PUBSUB SHARDCHANNELS"] = { "NODES", "UNION" },
    ["PUBSUB NUMSUB"] = { "NODES", "SUM" }, ["PUBSUB SHARDNUMSUB"] = { "NODES", "SUM" },
    ["PUBSUB NUMPAT"] = { "NODES", "SUM" },
    RANDOMKEY = { "SHARDS", "ANY" },
    -- Asks whether a server answers: any one will do, and it may stand in a pipeline.
    PING = { "ONE", "JOIN" },
    -- Their texts cannot be made one: r:nodes() has a client for each node.
    INFO = { "ONE", "JOIN" }, SCAN = { "ONE", "JOIN" }, CLUSTERSCAN = { "ONE", "JOIN" },
    ["FUNCTION STATS"] = { "ONE", "JOIN" },
    ["LATENCY DOCTOR"] = { "ONE", "JOIN" }, ["LATENCY GRAPH"] = { "ONE", "JOIN" },
    ["LATENCY HISTOGRAM"] = { "ONE", "JOIN" }, ["LATENCY HISTORY"] = { "ONE", "JOIN" },
    ["LATENCY LATEST"] = { "ONE", "JOIN" },
    ["MEMORY DOCTOR"] = { "ONE", "JOIN" }, ["MEMORY MALLOC-STATS"] = { "ONE", "JOIN" },
    ["MEMORY STATS"] = { "ONE", "JOIN" },
    -- Concern one connection.
    ["CLIENT SETINFO"] = { "ONE", "JOIN" }, ["CLIENT SETNAME"] = { "ONE", "JOIN" },
    -- Its keys are set together or not at all.
    MSETEX = { "ONE", "JOIN" },
}

--- Files that are in a folder of commands and are none that a server has.
M.left_out = {}

return M
