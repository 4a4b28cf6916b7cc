--- `\d` and the lists: descriptions of the database from its catalogs.
---
---     describe.run(conn, "d", "notes")       -- blocks for dbrun.prompt.blocks
---
--- One statement finds what the pattern means, one describes it. The statements name everything in pg_catalog, take the
--- pattern as a parameter, and need no privilege. If another session locks a relation exclusively, that session is
--- named instead of waiting for it.
local errors <const> = require "dbrun.error"
local facts <const> = require "dbrun.prompt.describe.facts"
local find <const> = require "dbrun.prompt.describe.find"
local lists <const> = require "dbrun.prompt.describe.lists"
local pattern <const> = require "dbrun.prompt.pattern"
local show <const> = require "dbrun.prompt.describe.show"
local tty <const> = require "dbrun.tty"

local M = {}

---The most relations that are described; for more than that a pattern gives the list.
local MOST <const> = 50

---The command's name without the suffixes `S` (system objects) and `+` (more columns), and these suffixes.
---@param command string without the backslash: "d", "dt+", "dS"
---@return string name
---@return boolean system
---@return boolean more
function M.parse(command)
    local name, suffix = command:match "^(%a-)([S+]*)$"
    if not name then return command, false, false end
    return name, suffix:find "S" ~= nil, suffix:find("+", 1, true) ~= nil
end

---Is it a command of this module?
---@param command string without the backslash
---@return boolean
function M.knows(command)
    local name <const> = M.parse(command)
    return name == "sf" or lists.find(name) ~= nil
end

local function check_database(conn, wanted)
    if not wanted.database then return end
    local current <const> = conn:value "select pg_catalog.current_database()::pg_catalog.text"
    if wanted.database ~= current then
        errors.fail("usage", ("%s is in another database: this one is %s"):format(tty.printable(wanted.text),
            tty.printable(current)), "PostgreSQL sees one database at a time.")
    end
end

local function add_list(blocks, conn, list, wanted, opts)
    local block <const> = lists.block(conn, list, wanted, opts)
    if #block.rows == 0 and wanted then
        errors.fail("usage", ("there is no %s %s"):format(list.what, tty.printable(wanted.text)),
            "The command without a name lists all.")
    elseif #block.rows == 0 then
        errors.fail("usage", ("there is no %s"):format(list.what),
            not opts.system and "S after the command's name includes system objects." or nil)
    end
    blocks[#blocks + 1] = block
end

local function add_described(blocks, conn, wanted, opts)
    local found <const> = find.relations(conn, wanted, { system = opts.system, limit = MOST + 1 })
    if #found == 0 then
        local message <const>, hint <const> = find.missing(conn, wanted)
        errors.fail("usage", message, hint)
    end
    if #found > MOST then
        local all <const> = { title = "Relations", what = "relation", sql = lists.find "d".sql, kinds = "rpvmSfiItc" }
        add_list(blocks, conn, all, wanted, opts)
        return
    end
    local oids = {}
    for _, relation in ipairs(found) do
        if not relation.locked_by then oids[#oids + 1] = relation.oid end
    end
    local by_oid <const> = facts.read(conn, oids)
    for _, relation in ipairs(found) do
        if relation.locked_by then
            blocks[#blocks + 1] = show.locked(relation)
        elseif by_oid[relation.oid] then
            blocks[#blocks + 1] = show.block(relation, by_oid[relation.oid])
        end
    end
end

local function add_source(blocks, conn, wanted)
    local sources <const> = require "dbrun.prompt.describe.sources"
    for _, block in ipairs(sources.blocks(conn, wanted)) do blocks[#blocks + 1] = block end
end

local function blocks_of(conn, name, argument, opts)
    local blocks, texts = {}, pattern.split(argument)
    local list <const> = lists.find(name)
    if #texts == 0 then
        if not list then errors.fail("usage", ("\\%s needs a name"):format(name), "For example: \\sf now") end
        add_list(blocks, conn, list, nil, opts)
    end
    for _, text in ipairs(texts) do
        local wanted <const> = pattern.read(text)
        check_database(conn, wanted)
        local these <const> = { more = opts.more, system = opts.system or find.wants_system(wanted) }
        if name == "d" then
            add_described(blocks, conn, wanted, these)
        elseif list then
            add_list(blocks, conn, list, wanted, these)
        else
            add_source(blocks, conn, wanted)
        end
    end
    return blocks
end

---The blocks that a command shows.
---@param conn dbrun.Connection
---@param command string without the backslash: "d", "dt", "dt+", "df", "sf", ...
---@param argument? string patterns as they were typed
---@return dbrun.prompt.Block[]
---Raises an error of kind `usage` where nothing has the name (its hint has the nearest ones), for a malformed pattern,
---and in a failed transaction; else the server's error.
function M.run(conn, command, argument)
    local name <const>, system <const>, more <const> = M.parse(command)
    if not M.knows(command) then errors.fail("usage", ("there is no command \\%s"):format(tty.printable(command))) end
    local state <const> = conn:in_transaction()
    if state == "failed" then
        errors.fail("usage", ("the transaction has failed: until it ends the server answers nothing, \\%s neither")
            :format(command), "rollback; ends it.")
    end
    local opts <const> = { system = system, more = more }
    if state ~= "open" then return blocks_of(conn, name, argument or "", opts) end
    -- In a savepoint, so that an error here, such as a malformed pattern, does not fail the user's transaction.
    return conn:transaction(function() return blocks_of(conn, name, argument or "", opts) end)
end

return M
