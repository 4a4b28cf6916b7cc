--- Splits SQL into statements while it is being read: a piece of text goes in, the statements that it completes come
--- out. Memory holds one statement at a time. The rows after a COPY ... FROM stdin are returned piece by piece, psql's
--- own commands, which begin with a backslash, as commands.
---
---     local reader = statements.new()
---     reader:feed("select 1; select\n")
---     reader:next()  --> { sql = "select 1", line = 1, ended = true }
---     reader:next()  --> nil: the rest of the second has not been fed yet
local args = require "dbrun.args"
local ends = require "dbrun.sql.ends"

local scan <const> = require "dbrun.core".sql.scan

local M = {}

---@class dbrun.sql.Statement
---@field sql string without the blanks and comments before it, and without its semicolon
---@field line integer of its first word, from 1
---@field ended boolean by a semicolon; false: the text ended

---@class dbrun.sql.Command a command of psql's
---@field command string its name, without the backslash
---@field rest string what stands behind the name in its line
---@field line integer
---@field inside boolean it is inside a statement that has begun

---@class dbrun.sql.Reader
---@field escapes boolean standard_conforming_strings is off: plain strings have escapes; set between two statements
---@field terminated boolean the rows that `data` returned last ended with a line `\.`
local Reader <const> = {}
local Metatable <const> = { __index = Reader }

local KNOWN <const> = { read = args.callable, line = args.whole(1), escapes = "boolean" }

---Makes a reader.
---@param options? { read?: (fun(): string?), line?: integer, escapes?: boolean } read: gives the next piece of the text
---    and nil at its end; without it the text is fed. line: the number of the first line (1)
---@return dbrun.sql.Reader
function M.new(options)
    options = args.options("statements.new", options, KNOWN)
    local self <const> = setmetatable({
        read = options.read, escapes = options.escapes or false, line = options.line or 1, over = false,
        terminated = false, buf = "", counted = 1, pending = {},
    }, Metatable)
    self:begin(1)
    return self
end

-- ---- the buffered text ----

--- The fields: `buf` is the buffered text, `at` the byte in it where the next piece of SQL begins. The statement begins
--- with the text in `head` and goes on at `from` in buf. `line` is the number of the line at byte `counted`. `pending`
--- has pieces of text that are not in buf yet, because they cannot end the open piece: only one that matches the
--- pattern `waits` can. `stuck`: nothing ends in the buffered text.

---The next statement begins at byte `at`.
---@package
function Reader:begin(at)
    self.at, self.from, self.head = at, at, {}
    self.first, self.ends = nil, ends.new()
    self.waits, self.stuck = nil, false
end

---The number of the line at byte `at`.
---@package
function Reader:line_at(at)
    for _ in self.buf:sub(self.counted, at - 1):gmatch "\n" do self.line = self.line + 1 end
    self.counted = math.max(at, self.counted)
    return self.line
end

--- The meaning of a string depends on the three bytes before it (U&).
local BACK <const> = 4

---Moves the pending text into the buffer, and the scanned part of the statement out of it, so that a long statement is
---not copied with each new piece.
---@package
function Reader:join()
    if #self.pending == 0 then return end
    local cut <const> = math.max(self.from, self.at - BACK)
    self:line_at(cut)
    if self.first then self.head[#self.head + 1] = self.buf:sub(self.from, cut - 1) end
    self.buf = self.buf:sub(cut) .. table.concat(self.pending)
    self.pending, self.stuck = {}, false
    self.counted, self.at, self.from = 1, self.at - cut + 1, 1
end

---Adds a piece of text.
---@param text string
function Reader:feed(text)
    args.check("feed", "the text", text, "string")
    self.pending[#self.pending + 1] = text
    if not self.waits or text:find(self.waits) then self:join() end
end

---Marks the end of the text: the last statement may have no semicolon.
function Reader:finish()
    self:join()
    self.over, self.waits, self.stuck = true, nil, false
end

---Gets more text from `read`; false at its end, or when text must be fed.
---@package
function Reader:pull()
    if self.over or not self.read then return false end
    local text <const> = self.read()
    if text then self:feed(text) else self:finish() end
    return true
end

-- ---- pieces ----

--- The patterns that must come before an open piece can end.
local CLOSES <const> = { string = "'", quoted = '"', dollar = "%$", comment = "[\n/]" }

local function is_between(kind) return kind == "blank" or kind == "comment" end

---Whether a string that ends at byte `behind` may continue in quotes on the next line: unknown before the next piece.
local function string_may_go_on(self, behind)
    for _, kind in scan, self.buf, behind do -- blanks and comments are the same with escapes
        if not is_between(kind) then return false end
    end
    return true
end

---Whether the piece is complete, independent of the text after it.
local function is_whole(self, behind, kind, text, open)
    if self.over then return true end
    self.waits = nil
    if open then
        self.waits = CLOSES[kind]
        return false
    elseif kind == "string" then
        return self.buf:find("^[^%s%-/']", behind) ~= nil or not string_may_go_on(self, behind)
    elseif text == "$" then
        return not self.buf:find("^[%w_\x80-\xff]*$", behind) -- the tag of a dollar quote may continue
    elseif behind <= #self.buf or kind == "blank" or text == ";" then
        return true
    end
    return kind == "comment" and text:sub(1, 2) == "/*"
end

---The text of the statement up to byte `last`, without blanks at its end.
local function text_of(self, last)
    self.head[#self.head + 1] = self.buf:sub(self.from, last)
    local text <const> = table.concat(self.head)
    local stop = #text
    while stop > 0 and text:find("^%s", stop) do stop = stop - 1 end
    return text:sub(1, stop)
end

local function take_statement(self, last, ended)
    local statement <const> = { sql = text_of(self, last), line = self.first, ended = ended }
    self:begin(last + (ended and 2 or 1))
    return statement
end

---At a backslash: the command in the rest of its line. nil: the line is not complete yet.
local function take_command(self, at)
    local stop = self.buf:find("\n", at, true)
    if not stop and not self.over then
        self.waits = "\n"
        return nil
    end
    stop = stop or #self.buf + 1
    local text <const> = self.buf:sub(at + 1, stop - 1):gsub("\r$", "")
    local name <const> = text:match "^[%a_]+%+?" or text:match "^%S" or ""
    local command <const> = {
        command = name, rest = text:sub(#name + 1):match "^%s*(.-)%s*$", line = self:line_at(at),
        inside = self.first ~= nil,
    }
    if self.first then
        -- The statement continues after the command.
        self.head[#self.head + 1] = self.buf:sub(self.from, at - 1)
        self.at, self.from = stop, stop
    else
        self:begin(stop)
    end
    return command
end

---Reads to the end of a statement in the buffered text.
local function scan_on(self)
    while true do
        local at <const> = self.at
        local behind <const>, kind <const>, _, open <const> = scan(self.buf, at, self.escapes)
        if not behind then
            self.waits = "[;\\]"
            if not self.over or not self.first then return nil end
            return take_statement(self, #self.buf, false)
        end
        local short <const> = (kind == "word" or kind == "sign" or kind == "comment") and self.buf:sub(at, behind - 1)
        if short == "\\" then return take_command(self, at) end
        if not is_whole(self, behind, kind, short, open) then return nil end
        if ends.take(self.ends, kind, short) then
            if self.first then return take_statement(self, at - 1, true) end
            self:begin(behind) -- an empty statement
        else
            -- A comment that is never closed may hide statements: the server says that it is open.
            local never_closed <const> = open and kind == "comment" and short:sub(1, 2) == "/*"
            if not self.first and (never_closed or not is_between(kind)) then
                self.first, self.from = self:line_at(at), at
            end
            self.at = behind
            if not self.first then self.from = behind end
        end
    end
end

---The next statement, or command of psql's.
---@return dbrun.sql.Statement|dbrun.sql.Command|nil found nil: more must be fed; at the end of the text: there is none
function Reader:next()
    repeat
        local found <const> = not self.stuck and scan_on(self)
        if found then return found end
        self.stuck = true
    until not self:pull()
end

---Whether a statement has begun and not ended.
---@return boolean
function Reader:is_open()
    return self.first ~= nil
end

---The text of the statement that has begun, as far as it is known; "" when none has.
---@return string
function Reader:text()
    if not self.first then return "" end
    return table.concat(self.head) .. self.buf:sub(self.from) .. table.concat(self.pending)
end

---Discards text that has been fed and not returned.
function Reader:drop()
    self:join()
    self:line_at(#self.buf + 1)
    self:begin(#self.buf + 1)
end

-- ---- rows below a COPY ----

---Moves on to byte `at`, which begins no statement.
local function skip_to(self, at)
    self:line_at(at)
    self:begin(at)
end

---After the COPY: its rows begin in the next line. The rest of its own line is run after the rows.
local function begin_rows(self)
    local newline <const> = self.buf:find("\n", self.at, true)
    if not newline and not self.over then return false end
    local stop <const> = newline or #self.buf + 1
    local rest <const> = self.buf:sub(self.at, stop - 1)
    local plain <const> = rest:find "^%s*$" or rest:find "^%s*%-%-"
    self.behind = not plain and { text = rest, line = self:line_at(self.at) } or nil
    skip_to(self, math.min(stop + 1, #self.buf + 1))
    self.rows, self.terminated = "line", false
    return true
end

local function end_rows(self, at)
    skip_to(self, at)
    self.rows = nil
    local behind <const> = self.behind
    if behind then
        local rest <const> = self.buf:sub(self.at)
        self.buf = behind.text .. ("\n"):rep(self.line - behind.line) .. rest
        self.line, self.counted, self.behind = behind.line, 1, nil
        self:begin(1)
    end
    return false
end

---Where the line `\.` that ends the rows begins and ends, or where an incomplete one may begin.
local function find_end(self)
    local buf <const>, at <const> = self.buf, self.at
    local begin = self.rows == "line" and at or nil
    local search = at
    while true do
        if begin then
            local _, stop = buf:find("^\\%.\r?\n", begin)
            if not stop then _, stop = buf:find("^\\%.\r?$", begin) end
            if stop and (self.over or buf:byte(stop) == 10) then return begin, stop end
            if not self.over and buf:find("^\\?%.?\r?$", begin) then return begin, nil end
        end
        local newline <const> = buf:find("\n\\", search, true)
        if not newline then break end
        begin, search = newline + 1, newline + 1
    end
    return nil
end

---The next piece of the rows after the statement that `next` returned last: a COPY ... FROM stdin. They end with a line
---`\.`, or with the text.
---@return string|false|nil piece false: they have ended; nil: more must be fed
function Reader:data()
    while true do
        self.waits = nil
        self:join()
        if self.rows or begin_rows(self) then
            local begin <const>, stop <const> = find_end(self)
            local last <const> = begin and begin - 1 or #self.buf
            if last >= self.at then
                local piece <const> = self.buf:sub(self.at, last)
                self.rows = piece:byte(-1) == 10 and "line" or "inside"
                skip_to(self, last + 1)
                return piece
            elseif stop then
                self.terminated = true
                return end_rows(self, stop + 1)
            elseif self.over then
                return end_rows(self, #self.buf + 1)
            end
        end
        if not self:pull() then return nil end
    end
end

return M
