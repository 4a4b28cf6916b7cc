--- Finds what a dry run must know about an SQL text before it is sent: what is refused, and what the end of a
--- transaction would undo. The text is read by dbrun's common scanner; what database functions do inside the server is
--- not seen.
local core <const> = require "dbrun.core"
local ends <const> = require "dbrun.sql.ends"

local scan <const> = core.sql.scan

local M = {}

---@class dbrun.dry.Statement one statement of a text
---@field sql string
---@field words string[] in lower case; a quoted name without its quotes
---@field targets string[] possible names of tables that it changes
---@field savepoint? string the name that it makes
---@field back? string the savepoint that it goes back to
---@field release? string
---@field settings string[] settings that SET LOCAL, and set_config with a literal name, change
---@field drops? string a temporary table that the end of the transaction drops
---@field empties? string one that it empties
---@field notifies boolean
---@field advisory boolean it takes a lock that the session keeps
---@field isolation? string the replacement for SET TRANSACTION ISOLATION LEVEL
---@field changes? string "ALTER TABLE", "TRUNCATE orders": the schema change, for the summary
---@field truncates boolean
---@field needs? string it needs a transaction: "LOCK TABLE"

---@class dbrun.dry.Facts
---@field statements dbrun.dry.Statement[]
---@field refused? { [1]: string, [2]: string } what is refused, and what to do
---@field savepoints boolean one of them uses savepoints
---@field truncates boolean one of them truncates
---@field defers boolean it may make deferred constraints

-- ---- what is refused ----

local EFFECT <const> = "it has an effect that no rollback takes back"
local ELSEWHERE <const> = "it works on another connection, whose work would be kept"

---@type table<string, string>
local FUNCTIONS <const> = {}
for name in ([[pg_terminate_backend pg_cancel_backend pg_reload_conf pg_rotate_logfile pg_switch_wal
    pg_switch_xlog pg_promote pg_create_restore_point pg_start_backup pg_stop_backup pg_backup_start pg_backup_stop
    pg_wal_replay_pause pg_wal_replay_resume pg_log_backend_memory_contexts lo_export lo_import pg_file_write
    pg_file_sync pg_file_rename pg_file_unlink pg_logfile_rotate pg_create_physical_replication_slot
    pg_create_logical_replication_slot pg_copy_physical_replication_slot pg_copy_logical_replication_slot
    pg_drop_replication_slot pg_replication_slot_advance pg_sync_replication_slots pg_logical_slot_get_changes
    pg_logical_slot_get_binary_changes pg_logical_emit_message pg_replication_origin_create
    pg_replication_origin_drop pg_replication_origin_advance pg_replication_origin_session_setup pg_stat_reset
    pg_stat_reset_shared pg_stat_reset_slru pg_stat_reset_single_table_counters
    pg_stat_reset_single_function_counters pg_stat_reset_replication_slot pg_stat_reset_subscription_stats
    pg_stat_statements_reset pg_background_launch setval]]):gmatch "%S+" do
    FUNCTIONS[name] = EFFECT
end
for name in ([[dblink dblink_connect dblink_connect_u dblink_exec dblink_open dblink_send_query dblink_fetch
    dblink_get_result]]):gmatch "%S+" do
    FUNCTIONS[name] = ELSEWHERE
end

local SETVAL <const> = "alter sequence ... restart with n does the same and is rolled back"
local LEAVE_OUT <const> = "leave it out in a dry run: if not require(\"dbrun\").dry_run then ... end"

local TRANSACTION <const> = "engine:transaction(fn) or engine:session() begins and ends one; in a dry run each is a "
    .. "savepoint of one transaction"

local function refuse_function(name)
    local message <const> = ("%s() cannot run in a dry run: %s"):format(name, FUNCTIONS[name])
    return { message, name == "setval" and SETVAL or LEAVE_OUT }
end

local function refuse_transaction(words)
    local name <const> = words[1] .. ((words[1] == "prepare" or words[2] == "prepared") and " " .. words[2] or "")
    return { ("%s cannot run in a dry run: all of it is one transaction, which is rolled back at the end")
        :format(name:upper()), TRANSACTION }
end

local function is_rollback_to(words)
    return words[1] == "rollback" and (words[2] == "to" or words[3] == "to")
end

local ENDS <const> = { begin = true, commit = true, ["end"] = true, abort = true }

---@param words string[]
local function ends_transaction(words)
    local first <const>, second <const> = words[1], words[2]
    return ENDS[first] or (first == "rollback" and not is_rollback_to(words))
        or (first == "start" and second == "transaction") or (first == "prepare" and second == "transaction")
end

--- COPY from or to a program or a file of the server; to and from the client it cannot be run as a statement.
local function copies_to_server(statement)
    local depth = 0
    for i, piece in ipairs(statement.pieces) do
        if piece == "(" then depth = depth + 1 elseif piece == ")" then depth = depth - 1 end
        local behind <const> = statement.pieces[i + 1]
        if depth == 0 and (piece == "from" or piece == "to") and (behind == "program" or behind == "'") then
            return behind == "program" and "a program" or "a file"
        end
    end
end

---@return { [1]: string, [2]: string }?
local function refused(statement)
    local words <const> = statement.words
    if ends_transaction(words) then return refuse_transaction(words) end
    if statement.calls then return refuse_function(statement.calls) end
    if words[1] == "alter" and words[2] == "system" then
        return { "ALTER SYSTEM cannot run in a dry run: it changes a file of the server", LEAVE_OUT }
    end
    local what <const> = words[1] == "copy" and copies_to_server(statement)
    if what then
        return { ("COPY with %s on the server cannot run in a dry run: %s"):format(what, EFFECT),
            "engine:copy_in and engine:copy_out read and write on this side" }
    end
end

-- ---- facts about a statement ----

local SCHEMA <const> = {
    create = true, alter = true, drop = true, truncate = true, grant = true, revoke = true, comment = true,
    refresh = true, reindex = true, cluster = true, analyze = true,
}
local BEFORE_KIND <const> = {
    ["or"] = true, replace = true, unique = true, temp = true, temporary = true, unlogged = true, global = true,
    ["local"] = true, materialized = true, constraint = true, recursive = true, foreign = true, event = true,
    default = true,
}

local BEFORE_NAMES <const> = { ["table"] = true, only = true, ["if"] = true, exists = true, ["*"] = true }
local AFTER_NAMES <const> = { restart = true, continue = true, cascade = true, restrict = true }
--- The longest list of names for the summary.
local MOST_NAMES <const> = 60

--- The tables that a TRUNCATE or DROP TABLE names.
local function names_in(pieces, at)
    local list = ""
    while pieces[at] and not AFTER_NAMES[pieces[at]] do
        if not BEFORE_NAMES[pieces[at]] then list = list .. (pieces[at] == "," and ", " or pieces[at]) end
        at = at + 1
    end
    return (#list > 0 and #list <= MOST_NAMES and " " .. list or "")
        .. (pieces[#pieces] == "cascade" and " CASCADE" or "")
end

--- "ALTER TABLE", "CREATE INDEX", "TRUNCATE orders".
local function change_of(words, pieces)
    local first <const> = words[1]
    if not SCHEMA[first] then return nil end
    if first == "truncate" then return "TRUNCATE" .. names_in(pieces, 2) end
    if first == "drop" and words[2] == "table" then return "DROP TABLE" .. names_in(pieces, 3) end
    if first ~= "create" and first ~= "alter" and first ~= "drop" then return first:upper() end
    local at = 2
    while BEFORE_KIND[words[at]] do at = at + 1 end
    return words[at] and (first .. " " .. words[at]):upper() or first:upper()
end

--- The server's names of settings that SET LOCAL writes as two words.
local SPOKEN <const> = { time = "TimeZone", session = "session_authorization", names = "client_encoding" }

--- The name of a table, as it is written, and the next piece.
local function name_at(statement, at)
    local raw <const> = statement.raw
    local name = raw[at]
    while raw[at + 1] == "." and raw[at + 2] do
        name, at = name .. "." .. raw[at + 2], at + 2
    end
    return name
end

local function read_temporary(statement)
    local words <const> = statement.words
    if words[1] ~= "create" then return end
    local at = 2
    while words[at] == "global" or words[at] == "local" do at = at + 1 end
    if words[at] ~= "temp" and words[at] ~= "temporary" then return end
    at = at + 1
    if words[at] == "unlogged" then at = at + 1 end
    if words[at] ~= "table" then return end
    at = at + 1
    if words[at] == "if" then at = at + 3 end -- IF NOT EXISTS
    for i = at, #words - 2 do
        if words[i] == "on" and words[i + 1] == "commit" then
            local name <const> = (statement.raw[at + 1] == "." and "" or "pg_temp.") .. name_at(statement, at)
            if words[i + 2] == "drop" then statement.drops = name end
            if words[i + 2] == "delete" then statement.empties = name end
        end
    end
end

--- Isolation cannot be set in a savepoint; the other parts of SET TRANSACTION are sent.
local function read_set_transaction(statement)
    local text <const> = " " .. table.concat(statement.words, " ") .. " "
    if not (text:find " isolation " or text:find " deferrable " or text:find " snapshot ") then return end
    statement.isolation = text:find " read only " and "set transaction read only"
        or text:find " read write " and "set transaction read write" or "set local dbrun.dry_run = 'on'"
end

local function read_set(statement)
    local words <const> = statement.words
    if words[2] == "transaction" then
        read_set_transaction(statement)
    elseif words[2] == "local" and words[3] then
        table.insert(statement.settings, SPOKEN[words[3]] or name_at(statement, 3))
    end
end

local TARGET <const> = { update = true, into = true, truncate = true }
--- ONLY, a schema and the table, or TABLE.
local FAR <const> = 3

local function read_targets(statement)
    local words <const>, targets <const> = statement.words, {}
    for i, word in ipairs(words) do
        if TARGET[word] or (word == "from" and words[i - 1] == "delete") then
            table.move(words, i + 1, math.min(#words, i + FAR), #targets + 1, targets)
        end
    end
    if words[1] == "refresh" then table.move(words, 1, #words, #targets + 1, targets) end
    statement.targets = targets
end

local function behind_word(words, at, skipped)
    while skipped[words[at]] do at = at + 1 end
    return words[at]
end

local AFTER_BACK <const> = { work = true, transaction = true, to = true, savepoint = true }

--- DECLARE without WITH HOLD.
local function holds_not(words)
    for i, word in ipairs(words) do
        if word == "for" then return true end
        if word == "hold" and words[i - 1] == "with" then return false end
    end
    return true
end

---Records the facts from the words of a finished statement.
local function read(statement)
    local words <const> = statement.words
    local first <const> = words[1]
    if first == "savepoint" then
        statement.savepoint = words[2]
    elseif first == "release" then
        statement.release = behind_word(words, 2, { savepoint = true })
    elseif is_rollback_to(words) then
        statement.back = behind_word(words, 2, AFTER_BACK)
    elseif first == "set" then
        read_set(statement)
    end
    statement.needs = first == "lock" and "LOCK TABLE" or nil
    if first == "declare" and holds_not(words) then statement.needs = "DECLARE CURSOR" end
    read_temporary(statement)
    read_targets(statement)
    statement.changes = change_of(words, statement.pieces)
    statement.truncates = statement.truncates or first == "truncate"
    statement.notifies = statement.notifies or first == "notify"
end

-- ---- reading ----

--- The most words that are read: long lists of values add nothing.
local MOST_PIECES <const> = 2000

local function new_statement()
    return { sql = "", words = {}, raw = {}, pieces = {}, settings = {}, notifies = false, truncates = false,
        advisory = false }
end

--- set_config('name', value, true) is SET LOCAL. A name that is not in the text, such as a parameter, is unknown.
local function read_set_config(statement, kind, text, word)
    if statement.configures == true then
        statement.configures = kind == "string" and text:match "^'([%w_.]+)'$" or false
    elseif word == "true" and statement.configures then
        table.insert(statement.settings, statement.configures)
        statement.configures = nil
    elseif text == "(" and statement.last == "set_config" then
        statement.configures = true
    end
end

---The body of a DO block is a string: function calls are looked for in its text.
local function look_inside(statement, text)
    text = text:lower()
    for name in text:gmatch "%f[%w_]([%a_][%w_]*)%s*%(" do
        if FUNCTIONS[name] then statement.calls = statement.calls or name end
        if name == "pg_notify" then statement.notifies = true end
        if name:find "^pg_.*advisory_lock" then statement.advisory = true end
    end
    statement.defers = statement.defers or text:find("deferred", 1, true) ~= nil
    statement.truncates = statement.truncates or text:find("truncate", 1, true) ~= nil
end

local function add_piece(statement, kind, text)
    local pieces <const> = statement.pieces
    local word = kind == "word" and text:lower() or kind == "quoted" and text:sub(2, -2):gsub('""', '"') or nil
    read_set_config(statement, kind, text, word)
    if text == "(" and statement.last then
        if FUNCTIONS[statement.last] then statement.calls = statement.calls or statement.last end
        if statement.last == "pg_notify" then statement.notifies = true end
        if statement.last:find "^pg_.*advisory_lock" then statement.advisory = true end
    end
    statement.last = word
    if word == "deferred" then statement.defers = true end
    if kind == "dollar" or (kind == "string" and pieces[1] == "do") then look_inside(statement, text) end
    if #pieces >= MOST_PIECES then
        if word then statement.words[#statement.words + 1] = word end
        return
    end
    pieces[#pieces + 1] = word or (kind == "string" or kind == "dollar") and "'" or text
    if word then
        statement.words[#statement.words + 1] = word
    end
    -- Names are looked up by the number of their word: nothing between two words belongs to a name, except dots.
    if word or text == "." then statement.raw[#statement.raw + 1] = text end
end

---@param sql string
---@param escapes boolean plain strings have escapes: standard_conforming_strings is off
---@return dbrun.dry.Facts
local function facts_of(sql, escapes)
    local facts <const> = { statements = {}, savepoints = false, truncates = false, defers = false }
    local statement, from, state = new_statement(), nil, ends.new()
    local function finish(last)
        if not from then return end
        statement.sql = sql:sub(from, last)
        read(statement)
        facts.statements[#facts.statements + 1] = statement
        facts.refused = facts.refused or refused(statement)
        facts.savepoints = facts.savepoints or (statement.savepoint or statement.back or statement.release) ~= nil
        facts.truncates = facts.truncates or statement.truncates
        facts.defers = facts.defers or statement.defers or false
        statement.pieces, statement.raw, statement.configures = nil, nil, nil
        statement, from, state = new_statement(), nil, ends.new()
    end
    local at = 1
    while true do
        local behind <const>, kind <const> = scan(sql, at, escapes)
        if not behind then break end
        if kind ~= "blank" and kind ~= "comment" then
            local text <const> = sql:sub(at, behind - 1)
            if ends.take(state, kind, kind == "word" and text or kind == "sign" and text or "") then
                finish(at - 1)
            else
                from = from or at
                add_piece(statement, kind, text)
            end
        end
        at = behind
    end
    finish(#sql)
    return facts
end

local known, count = {}, 0

---The facts about a text.
---@param sql string
---@param escapes boolean
---@return dbrun.dry.Facts
function M.facts(sql, escapes)
    local facts = not escapes and known[sql]
    if facts then return facts end
    facts = facts_of(sql, escapes)
    if not escapes and #sql <= 10000 then
        if count == 1000 then known, count = {}, 0 end
        known[sql], count = facts, count + 1
    end
    return facts
end

return M
