--- Pieces of text in a temporary file: the data of a COPY are read to the end, so that other statements can run on the
--- connection while the script uses them; and the data of a producer are complete before a COPY begins.
local errors <const> = require "dbrun.error"

local M = {}

---@class dbrun.dry.Spool an iterator over the pieces; closable
---@field file file*
local Spool <const> = {}
local Metatable <const> = { __name = "dbrun.dry.Spool" }

local function failed(what, why)
    errors.fail("io", ("dry run: cannot %s a temporary file: %s"):format(what, tostring(why)),
        "COPY goes through one in a dry run: is there room in $TMPDIR?")
end

---Reads the pieces of an iterator, as a generic `for` would.
---@param f function
---@param state any
---@param first any the value before the first one
---@return dbrun.dry.Spool
function M.of(f, state, first)
    local file <const>, why <const> = io.tmpfile()
    if not file then failed("make", why) end
    local spool <const> = setmetatable({ file = file }, Metatable)
    for piece in f, state, first do
        if type(piece) ~= "string" then
            file:close()
            errors.usage("copy_in", "the iterator returned a %s after pieces of text", type(piece))
        end
        local ok <const>, reason <const> = file:write(string.pack("<s8", piece))
        if not ok then
            file:close()
            failed("write", reason)
        end
    end
    file:seek "set"
    return spool
end

---@return string? piece
function Metatable:__call()
    local head <const> = io.type(self.file) == "file" and self.file:read(8)
    if not head then
        Spool.close(self)
        return nil
    end
    local n <const> = string.unpack("<I8", head)
    return n == 0 and "" or self.file:read(n)
end

---Idempotent.
function Spool:close()
    if io.type(self.file) == "file" then self.file:close() end
end
Metatable.__index = Spool
Metatable.__close = Spool.close

return M
