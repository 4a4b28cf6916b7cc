--- Writes command_table.c from the descriptions of commands that come with the sources of Redis and Valkey:
---     dbrun runtime/bind/redis/table/generate.lua OUT.c FOLDER...
--- A FOLDER has JSON files, src/commands of a server's sources or files of the same form. Where two folders describe a
--- command, the first one counts. The files are read for their facts and are no part of this project.
local here <const> = arg[0]:match "^(.*)/" or "."
package.path = here .. "/?.lua;" .. package.path
local fs <const> = require "dbrun.fs"
local json <const> = require "dbrun.json"
local rules <const> = require "rules"
local shape <const> = require "shape"

-- ---- reading ----

local function words(list)
    local set = {}
    for name in list:gmatch "%s*([^;]+);" do
        set[name:gsub("%s+", " ")] = true
    end
    return set
end
local READS <const>, PRIMARY_ONLY <const> = words(rules.reads), words(rules.primary_only)
local OVERTAKES <const> = words(rules.overtakes)

--- All commands by their full names.
local function read(folders)
    local commands = {}
    for _, folder in ipairs(folders) do
        for _, file in ipairs(fs.list(folder)) do
            if file:find "%.json$" then
                for name, command in pairs(json.decode(fs.read(fs.join(folder, file)))) do
                    local full <const> = (command.container and command.container .. " " or "") .. name
                    commands[full] = commands[full] or command
                end
            end
        end
    end
    return commands
end

local function set_of(list)
    local set = {}
    for _, word in ipairs(list or {}) do
        set[word:upper()] = true
    end
    return set
end

-- ---- keys ----

local UNKNOWN <const>, KEYWORD <const> = "unknown", "keyword"

--- One key specification as a rule; nil for those that an option says.
local function key_rule(name, spec)
    local begin <const>, find <const> = spec.begin_search, spec.find_keys
    if begin[UNKNOWN] ~= nil or begin[KEYWORD] then
        -- SORT's BY and GET name patterns, which belong to no slot.
        assert(name == "SORT_RO" or rules.option_keys[name], name .. ": keys that need a rule")
        return nil
    end
    local at <const> = begin.index.pos
    if find.keynum then
        return { kind = "COUNTED", first = at + find.keynum.firstkey, last = at + find.keynum.keynumidx,
            step = find.keynum.step }
    end
    local last <const> = find.range.lastkey
    assert(find.range.limit == 0, name)
    return { kind = rules.not_empty[name] and "RANGE_NOT_EMPTY" or "RANGE", first = at,
        last = last < 0 and last or at + last, step = find.range.step }
end

local function keys_of(name, command)
    local list = rules.keys[name]
    if not list then
        list = {}
        for _, spec in ipairs(command.key_specs or {}) do
            list[#list + 1] = key_rule(name, spec)
        end
    end
    -- One key after the other is a range.
    local first <const>, second <const> = list[1], list[2]
    if #list == 2 and first.kind == "RANGE" and second.kind == "RANGE" and first.last == first.first
        and second.first == first.last + 1 and second.step == 1 then
        list = { { kind = "RANGE", first = first.first, last = second.last, step = 1 } }
    end
    return list
end

-- ---- options ----

--- How many arguments follow the token of an argument.
local function takes(argument)
    if argument.type == "pure-token" then
        return 0
    elseif argument.type == "block" then
        return #argument.arguments
    end
    return 1
end

--- Adds the tokens with which an argument may begin. False: it begins with none, so it is known by its place.
local function tokens(argument, into)
    if argument.token then
        into[argument.token:upper()] = takes(argument)
    elseif argument.type == "oneof" and argument.optional then
        for _, choice in ipairs(argument.arguments) do
            tokens(choice, into)
        end
    elseif argument.type == "block" and argument.arguments[1].token then
        into[argument.arguments[1].token:upper()] = #argument.arguments - 1
    else
        return false
    end
    return true
end

--- How many arguments come before the first option, the options, and whether arguments known by their place follow.
local function layout(name, command)
    local at <const> = { after = command.container and 1 or 0, after_keys = 0, words = {}, begun = false }
    local function add(arguments)
        for _, argument in ipairs(arguments) do
            if tokens(argument, at.words) then
                at.begun = true
            elseif argument.type == "block" and argument.optional then
                add(argument.arguments) -- HRANDFIELD key [count [WITHVALUES]]
            elseif at.begun then
                at.followed = true
            elseif argument.name == "numkeys" then
                at.after = at.after + 1
                at.after_keys = at.after
            elseif not argument.multiple then
                at.after = at.after + 1
            end
        end
    end
    add(command.arguments or {})
    local rule <const> = rules.begin[name]
    if rule then
        at.after, at.after_keys = rule.after, 0
    end
    return at
end

local function blocks_at(argument)
    return argument.token == "BLOCK"
end

--- The options that matter, sorted; nil when none does.
local function options_of(name, command)
    local shaped <const>, keyed <const> = rules.options[name], rules.option_keys[name]
    local blocking = false
    for _, argument in ipairs(command.arguments or {}) do
        blocking = blocking or blocks_at(argument)
    end
    if not (shaped or keyed or blocking) then
        return nil
    end
    local at <const> = layout(name, command)
    local found <const> = at.words
    for word, count in pairs(rules.words[name] or {}) do
        found[word] = count
    end
    local list = { after = at.after, after_keys = at.after_keys, both = shaped and shaped.both,
        speaks = shaped ~= nil or blocking, followed = at.followed, blocking = blocking }
    for word, count in pairs(found) do
        local keys <const> = keyed and keyed[word] or "no"
        list[#list + 1] = { word = word, takes = (keys == "all" or keys == "half") and "all" or count, keys = keys,
            shape = shaped and shaped[word], blocks = word == "BLOCK" and blocking }
    end
    for word in pairs(shaped or {}) do
        assert(word == "both" or found[word], name .. " has no option " .. word)
    end
    for word in pairs(keyed or {}) do
        assert(found[word], name .. " has no option " .. word)
    end
    table.sort(list, function(a, b) return a.word < b.word end)
    return list
end

-- ---- shapes, flags, policies ----

local function shape_of(name, commands)
    local rule = rules.shapes[name]
    if type(rule) == "string" then
        return shape_of(rule, commands)
    elseif rule then
        return rule
    end
    local schema <const> = commands[name].reply_schema
    if not schema or schema == json.null then
        return nil
    end
    local ok <const>, result <const> = pcall(shape.of, schema)
    if not ok then
        error(("%s needs a rule for its reply: %s"):format(name, result), 0)
    end
    return result
end

local function has_fields(arguments)
    for _, argument in ipairs(arguments or {}) do
        local parts <const> = argument.type == "block" and argument.arguments
        if parts and argument.multiple and #parts == 2 and parts[1].name == "field" and parts[2].name == "value" then
            return true
        end
    end
    return false
end

local function flags_of(name, command, containers, keys, options)
    local flags, given <const> = {}, set_of(command.command_flags)
    local reads <const> = (given.READONLY or READS[name]) and not given.WRITE
    local keyed <const> = #keys > 0 or rules.option_keys[name]
    flags.HAS_SUB = containers[name]
    flags.READS = reads
    flags.REPLICA = reads and (given.READONLY or not keyed) and not PRIMARY_ONLY[name]
    flags.FIELDS = has_fields(command.arguments)
    flags.OPTIONS = options and options.speaks
    flags.OVERTAKES = OVERTAKES[name]
    flags.WORDS_END = options and options.followed
    flags.BLOCK_WORD = options and options.blocking
    if given.BLOCKING then
        local arguments <const> = command.arguments
        local last <const> = arguments[#arguments]
        if arguments[1].name == "timeout" then
            flags.BLOCK_FIRST = true
        elseif last.name == "timeout" then
            flags[last.type == "integer" and "BLOCK_MS" or "BLOCK_LAST"] = true
        else
            assert(flags.BLOCK_WORD, name .. " blocks, and nothing says for how long")
        end
    end
    return flags
end

local REQUEST <const> = { ALL_SHARDS = "SHARDS", ALL_NODES = "NODES", MULTI_SHARD = "SPLIT" }
local RESPONSE <const> = { ALL_SUCCEEDED = "ALL_SUCCEEDED", ONE_SUCCEEDED = "ONE_SUCCEEDED", AGG_SUM = "SUM",
    AGG_MIN = "MIN", AGG_LOGICAL_AND = "AND" }

local function policy_of(name, command)
    local rule <const> = rules.policies[name]
    if rule then
        return rule[1], rule[2]
    end
    local request, response = "ONE", "JOIN"
    for _, tip in ipairs(command.command_tips or {}) do
        local which <const>, policy <const> = tip:match "^(%u+)_POLICY:([%u_]+)$"
        if which == "REQUEST" then
            request = assert(REQUEST[policy], name .. " needs a rule for its policy " .. policy)
        elseif which == "RESPONSE" then
            response = assert(RESPONSE[policy], name .. " needs a rule for its policy " .. policy)
        end
    end
    return request, response
end

-- ---- facts ----

local function facts_of(commands)
    local containers, facts = {}, {}
    for _, command in pairs(commands) do
        if command.container then
            containers[command.container] = true
        end
    end
    for name, command in pairs(commands) do
        local keys <const>, options <const> = keys_of(name, command), options_of(name, command)
        local reply <const> = shape_of(name, commands)
        assert(reply or containers[name], name .. " has no schema of its reply, and no rule")
        local request <const>, response <const> = policy_of(name, command)
        facts[#facts + 1] = {
            name = name, shape = reply or shape.plain, keys = keys, options = options,
            flags = flags_of(name, command, containers, keys, options), request = request, response = response,
        }
    end
    table.sort(facts, function(a, b) return a.name < b.name end)
    for name in pairs(READS) do
        assert(commands[name], "a rule about " .. name .. ", which is in no folder")
    end
    return facts
end

-- ---- writing ----

local out <const> = {}
local function put(format, ...)
    out[#out + 1] = format:format(...)
end

local function sorted(map)
    local names = {}
    for name in pairs(map) do
        names[#names + 1] = name
    end
    table.sort(names)
    return names
end

local shape_rows <const>, shape_parts <const>, shape_ids <const>, named_ids <const> = {}, {}, {}, {}

--- The number of a shape; equal ones have the same.
local function id_of(s)
    if shape.is_plain(s) then
        return 0
    elseif s.name and named_ids[s.name] then
        return named_ids[s.name]
    end
    local reserved
    if s.name then -- it may contain itself
        reserved = #shape_rows + 1
        shape_rows[reserved], named_ids[s.name] = "", reserved
    end
    local each <const>, parts = s.each and id_of(s.each) or 0, {}
    for i, part in ipairs(s.parts or {}) do
        parts[i] = ("{NULL, %d}"):format(id_of(part))
    end
    for _, name in ipairs(sorted(s.fields or {})) do
        local id <const> = id_of(s.fields[name])
        if id ~= 0 then
            parts[#parts + 1] = ("{\"%s\", %d}"):format(name, id)
        end
    end
    local text <const> = table.concat(parts, ", ")
    local key <const> = ("%s %d %s"):format(s.kind, each, text)
    local id = reserved or shape_ids[key]
    if id and not reserved then
        return id
    end
    local array = "NULL"
    if #parts > 0 then
        array = ("parts_%d"):format(#shape_parts + 1)
        shape_parts[#shape_parts + 1] = ("static const struct redis_shape_part %s[] = {%s};"):format(array, text)
    end
    id = id or #shape_rows + 1
    shape_rows[id], shape_ids[key] = ("{SHAPE_IS_%s, %d, %d, %s}"):format(s.kind, each, #parts, array), id
    return id
end

local arrays <const>, array_names <const> = {}, {}

--- The name of a C array with this content; equal ones are written once.
local function array_of(kind, ctype, rows, last)
    if #rows == 0 then
        return "NULL"
    end
    local text <const> = table.concat(rows, ", ") .. ", " .. last
    if not array_names[ctype .. text] then
        local name <const> = ("%s_%d"):format(kind, #arrays + 1)
        array_names[ctype .. text] = name
        arrays[#arrays + 1] = ("static const struct %s %s[] = {%s};"):format(ctype, name, text)
    end
    return array_names[ctype .. text]
end

local KEYS_OF_OPTION <const> = { no = "OPTION_NO_KEYS", key = "OPTION_KEY", all = "OPTION_ALL_KEYS",
    half = "OPTION_HALF_KEYS" }

local function options_array(options)
    local rows = {}
    for i, option in ipairs(options) do
        rows[i] = ("{\"%s\", %s, %s, %d, %d}"):format(option.word,
            option.takes == "all" and "OPTION_TAKES_ALL" or option.takes, KEYS_OF_OPTION[option.keys],
            option.shape and id_of(option.shape) or 0, option.blocks and 1 or 0)
    end
    return array_of("options", "redis_option", rows, "{NULL, 0, 0, 0, 0}")
end

local function keys_array(keys)
    local rows = {}
    for i, rule in ipairs(keys) do
        rows[i] = ("{KEYS_%s, %d, %d, %d}"):format(rule.kind, rule.first, rule.last, rule.step)
    end
    return array_of("keys", "redis_keys", rows, "{KEYS_END, 0, 0, 0}")
end

local function flags_text(flags)
    if flags.READS and flags.REPLICA then
        flags.READS, flags.REPLICA, flags.READS_ANYWHERE = nil, nil, true
    end
    local list = {}
    for _, flag in ipairs(sorted(flags)) do
        if flags[flag] then
            list[#list + 1] = "COMMAND_" .. flag
        end
    end
    return #list > 0 and table.concat(list, " | ") or "0"
end

--- Long lines are broken at their commas.
local function wrapped(text)
    local lines, line = {}, ""
    for piece in (text .. " "):gmatch "(.-,?) " do
        if #line + #piece + 1 > 112 then
            lines[#lines + 1], line = line, "    "
        end
        line = line == "" and piece or line:find "^ +$" and line .. piece or line .. " " .. piece
    end
    lines[#lines + 1] = line
    return table.concat(lines, "\n")
end

local function write(facts)
    local rows = {}
    for i, fact in ipairs(facts) do
        local options <const> = fact.options or {}
        local policy <const> = fact.request == "ONE" and "ONE_NODE"
            or ("REQUEST_%s, RESPONSE_%s"):format(fact.request, fact.response)
        rows[i] = ("{\"%s\", %d, %d, %s, %s, %d, %d, %s, %s},"):format(fact.name, id_of(fact.shape),
            options.both and id_of(options.both) or 0, flags_text(fact.flags), policy,
            options.after or 0, options.after_keys or 0, keys_array(fact.keys),
            options_array(options))
    end
    put [[
/*
 * Generated by table/generate.lua (make redis-table); do not edit. The facts come from the JSON files in
 * src/commands of Redis 8 and Valkey 9, which are read when the table is made and are no part of this
 * project, and from table/rules.lua.
 */
#include "bind/redis/command_table.h"

/* clang-format off */
#define ONE_NODE REQUEST_ONE, RESPONSE_JOIN
#define COMMAND_READS_ANYWHERE (COMMAND_READS | COMMAND_REPLICA)
]]
    for _, line in ipairs(shape_parts) do
        put("%s", wrapped(line))
    end
    put "\nconst struct redis_shape redis_shapes[] = {\n    {SHAPE_IS_PLAIN, 0, 0, NULL},"
    for _, row in ipairs(shape_rows) do
        put("    %s,", row)
    end
    put "};\nconst size_t redis_shape_count = sizeof redis_shapes / sizeof *redis_shapes;\n"
    for _, line in ipairs(arrays) do
        put("%s", wrapped(line))
    end
    put "\nconst struct redis_fact redis_facts[] = {"
    for _, row in ipairs(rows) do
        put("    %s", (wrapped(row):gsub("\n", "\n    ")))
    end
    put "};\nconst size_t redis_fact_count = sizeof redis_facts / sizeof *redis_facts;\n/* clang-format on */"
    return table.concat(out, "\n") .. "\n"
end

local target <const> = arg[1]
local commands <const> = read(table.move(arg, 2, #arg, 1, {}))
if not target or not next(commands) then
    io.stderr:write "usage: dbrun generate.lua OUT.c FOLDER...: no folder has a description of a command\n"
    os.exit(2)
end
local facts <const> = facts_of(commands)
fs.write(target, write(facts))
print(("%d commands, %d shapes, %d lists of keys and options"):format(#facts, #shape_rows + 1, #arrays))
