--- Records of CSV (RFC 4180 section 2) out of chunks of any size. Differences from the RFC: a line can end with LF
--- alone, a quote inside an unquoted field is an ordinary character, and an empty line is a record with an empty text,
--- which the reader handles.
local errors <const> = require "dbrun.error"

local M = {}

--- The largest record; beyond it a quote was not closed, or the text is not CSV.
local LARGEST <const> = 64 << 20

---@class dbrun.csv.Record
---@field line integer where it begins
---@field text string as it stands in the source, without its end of line
---@field fields string[]
---@field quoted table<integer, true> which fields were in quotes
---@field n integer
---@field wrong string|nil why it is no record
---@field stop integer bytes of the source up to the end of its line
---@field below integer the line behind it

---@class dbrun.csv.Place where a record begins
---@field byte integer bytes of the source before it
---@field line integer

---@param read fun(): string|nil the next piece of the source, nil at its end
---@param delimiter string one byte
---@param quote string one byte
---@param from? dbrun.csv.Place where `read` begins; default: at the beginning of the source
---@return fun(): dbrun.csv.Record|nil
function M.records(read, delimiter, quote, from)
    local buffer, at, ended, wanted = "", 1, false, 0
    local base, line = from and from.byte or 0, from and from.line or 1 -- base: bytes before the buffer
    local plain_end <const> = "[\n" .. (delimiter:gsub("%W", "%%%0")) .. "]"

    --- Reads more of the source; false at its end. The amount grows with the record, so that a long record is not
    --- scanned again for each small piece.
    local function more()
        if ended then return false end
        if at > 1 then base, buffer, at = base + at - 1, buffer:sub(at), 1 end
        wanted = math.max(wanted, #buffer)
        local pieces, got = { buffer }, 0
        repeat
            local piece <const> = read()
            if piece == nil then
                ended = true
            else
                pieces[#pieces + 1] = piece
                got = got + #piece
            end
        until ended or got > 0 and got >= wanted
        buffer = table.concat(pieces)
        if #buffer > LARGEST and at == 1 then
            errors.fail("io", ("line %d: the record that begins here is larger than %d MiB"):format(line,
                LARGEST >> 20),
                "is a quote not closed, or is the delimiter another one?")
        end
        return true
    end

    --- The end of a quoted field that begins at `start`: its text and the position after the quote; nil when the buffer
    --- ends before.
    local function quoted(start)
        local p = start + 1
        while true do
            local q <const> = buffer:find(quote, p, true)
            if not q or q == #buffer and not ended then return nil end
            if buffer:sub(q + 1, q + 1) ~= quote then
                return (buffer:sub(start + 1, q - 1):gsub(quote:gsub("%W", "%%%0") .. quote:gsub("%W", "%%%0"),
                    (quote:gsub("%%", "%%%%")))), q + 1
            end
            p = q + 2
        end
    end

    --- One record from `at` on, nil when the buffer ends in it. Returns where the next one begins.
    local function record()
        local fields, is_quoted, n, p = {}, {}, 0, at
        local wrong
        while true do
            local text, stop
            local in_quotes <const> = buffer:sub(p, p) == quote
            if in_quotes then
                text, p = quoted(p)
                if not text then return nil end
                stop = buffer:find(plain_end, p)
                local rest = buffer:sub(p, stop and stop - 1)
                if rest ~= "" and not ((not stop or buffer:sub(stop, stop) == "\n") and rest == "\r") then
                    wrong = wrong or ("field %d has text after its closing quote"):format(n + 1)
                    stop = buffer:find("\n", p, true)
                end
            else
                stop = buffer:find(plain_end, p)
                text = buffer:sub(p, stop and stop - 1)
                if (not stop or buffer:sub(stop, stop) == "\n") and text:sub(-1) == "\r" then text = text:sub(1, -2) end
            end
            if not stop and not ended then return nil end
            n = n + 1
            fields[n], is_quoted[n] = text, in_quotes or nil
            if not stop or buffer:sub(stop, stop) == "\n" then
                local last = (stop or #buffer + 1) - 1
                if buffer:sub(last, last) == "\r" then last = last - 1 end
                return { line = line, text = buffer:sub(at, last), fields = fields, quoted = is_quoted, n = n,
                    wrong = wrong }, (stop or #buffer) + 1
            end
            p = stop + 1
        end
    end

    local function lines_in(text)
        local count, p = 0, 0
        repeat
            p = text:find("\n", p + 1, true)
            if p then count = count + 1 end
        until not p
        return count
    end

    local first = base == 0
    return function()
        while true do
            if first then
                while #buffer < 3 and more() do end
                if buffer:sub(1, 3) == "\xef\xbb\xbf" then at = 4 end
                first = false
            end
            if at > #buffer and not more() then return nil end
            if at <= #buffer then
                local found, behind = record()
                if found then
                    at, wanted = behind, 0
                    line = line + lines_in(found.text) + 1
                    found.stop, found.below = base + behind - 1, line
                    return found
                elseif not more() then
                    local ok, after = record()
                    if not ok then
                        errors.fail("io",
                            ("line %d: a quote that is opened in this record is never closed"):format(line),
                            "a quote inside of a field in quotes is written twice")
                    end
                    at = after
                    line = line + lines_in(ok.text) + 1
                    ok.stop, ok.below = base + after - 1, line
                    return ok
                end
            end
        end
    end
end

return M
