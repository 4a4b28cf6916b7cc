--- WAL that waits to be archived: bytes of the segments with a .ready file. If archiving is off, nothing is read, and
--- no right is needed.
local words <const> = require "dbrun.batch.signals.words"

local Archive = { name = "wal_archive", kind = "bytes", critical = true }
Archive.__index = Archive

local PART <const> = {
    name = "archive",
    sql = [[
(select ({count}(*) {*} {pg_size_bytes}({current_setting}('wal_segment_size')))::{int8}
          from {pg_ls_archive_statusdir}() where name {~~} '________________________.ready')]],
}

---@param server dbrun.batch.Server
function Archive.parts(server) return server.archives and { PART } or {} end

function Archive.new() return setmetatable({}, Archive) end

---@param answer dbrun.batch.Answer
---@return dbrun.batch.Reading
function Archive.read(_, answer)
    local bytes <const> = answer.archive or 0
    return { value = bytes, text = ("%s of WAL wait to be archived"):format(words.bytes(bytes)) }
end

return Archive
