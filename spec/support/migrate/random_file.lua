--- Random migration files: statements, blocks, comments, strings and quotes of all kinds, and session settings. A seed
--- and a number make the same file each time.
local M = {}

---A separate sequence of random numbers.
---@param seed integer
---@return fun(n: integer): integer from 1 to n
function M.random(seed)
    local x = seed * 0x9E3779B97F4A7C15 + 0x1234567
    return function(n)
        x = x ~ (x << 13)
        x = x ~ (x >> 7)
        x = x ~ (x << 17)
        return (x >> 11) % n + 1
    end
end

---@class spec.migrate.RandomFile
---@field text string the whole file, as dbrun and psql read it
---@field transaction boolean
---@field refused boolean something in it must be refused before anything runs
---@field name string of its schema

local COMMENTS <const> = {
    "/* ; */", "/* a /* ; ' */ $$ */", "-- ; ' \" $$ /*\n", "/**/", "/* commit; */", "--\n", "/* \n\n */",
    "-- begin;\n",
}
-- (psql forgets the E of a string that continues on the next line.)
local STRINGS <const> = {
    "'a;b'", "'it''s; /* no */'", "E'a\\';b'", "e'\\\\'", "U&'\\0041;'", "'--'", "'$$;$$'", "$$;'$$", "$a1$ $$;$$ $a1$",
    "$é1$ ; $é $é1$", "'\n;\n'", "'a'\n';b'", "'commit;'", "''", "E'\\'\\''\n'b;'", "'\"'",
}
local NUMBERS <const> = { "5--1\n", "5/* - */-1", "1e3", "7", "2*/* ; */3", "- -4", "1.5" }

local File = {}
File.__index = File

function File:pick(list) return list[self.random(#list)] end
function File:one_in(n) return self.random(n) == 1 end

---Replaces each `~` by blanks or comments, and changes the case of words.
function File:say(text, ...)
    if select("#", ...) > 0 then text = text:format(...) end
    return (text:gsub("~", function()
        if self:one_in(8) then return " " .. self:pick(COMMENTS) .. " " end
        return self:one_in(12) and "\n" or " "
    end))
end

function File:string()
    local text <const> = self:pick(STRINGS)
    if self.off then return text:find "^[E$e]" and text or self:pick { "'a\\';b'", "'\\\\'", "'x;'" } end
    return text
end

function File:table_name() return self.count > 0 and "t" .. self.random(self.count) or nil end

local kinds = {}

function kinds.create_table(f)
    f.count = f.count + 1
    return f:say("create~table t%d~(id~int, v~text default~%s)", f.count, f:string())
end

function kinds.insert(f)
    local t <const> = f:table_name()
    return t and f:say("insert~into~%s~values~(%s, %s)", t, f:pick(NUMBERS), f:string())
end

function kinds.several_rows(f)
    local t <const> = f:table_name()
    return t and f:say("insert into %s (id)~select~n~from generate_series(1, %d) as a$$b(n)", t, f.random(5))
end

function kinds.update(f)
    local t <const> = f:table_name()
    return t and f:say("update~%s set v = v || %s~where id~> %s", t, f:string(), f:pick(NUMBERS))
end

function kinds.function_body(f)
    local body <const> = f:pick { "$$ select 1; $$", "$é1$ select 1; -- $$ ;\n $é1$", "'select 1;'" }
    return f:say("create~or~replace~function f%d()~returns int language sql as %s", f.random(3), body)
end

function kinds.atomic(f)
    return f:say("create or replace function g%d(x int)~returns int language sql~begin~atomic~select 1;"
        .. " select~case~when x > 1~then 2 else 3~end;~end", f.random(3))
end

function kinds.rule(f)
    local t <const> = f:table_name()
    return t and f:say("create or replace rule r%d as~on delete to %s do also~(select 1;~select~';')", f.random(3), t)
end

function kinds.draw(f)
    return f.sequences and f:say "select~nextval('drawn')"
end

function kinds.plain_do(f)
    local draw <const> = f.sequences and "perform nextval('drawn');" or "perform 1;"
    return f:say("do~$x$ begin %s if true then null; end if; end $x$", draw)
end

function kinds.committing_do(f)
    if not f.sequences or f.transaction then return nil end
    return f:say "do $$ begin perform nextval('drawn'); commit; perform nextval('drawn'); end $$ language plpgsql"
end

function kinds.call(f)
    return f.sequences and not f.transaction and f:say "call~work()"
end

function kinds.comment_on(f)
    local t <const> = f:table_name()
    return t and f:say("comment~on table %s is~%s", t, f:pick { "'x;y'", "E'\\';'", "null" })
end

function kinds.alter(f)
    local t <const> = f:table_name()
    f.columns = f.columns + 1
    return t and f:say('alter~table %s~add "c;%d" int default %s', t, f.columns, f:pick(NUMBERS))
end

function kinds.schema(f) return f:say("set~search_path~=~%s", f:pick { f.name, f.name .. "_b" }) end
function kinds.config(f)
    return f:say("select set_config('search_path', '%s', false)", f:pick { f.name, f.name .. "_b" })
end
function kinds.config_local(f) return f:say("select set_config('work_mem', '%dMB', true)", f.random(3)) end
function kinds.set(f)
    return f:say("set~%s", f:pick { "work_mem = '3MB'", "app.x = 'a;b'", "datestyle = 'German'",
        "local work_mem = '2MB'", "session characteristics as transaction isolation level repeatable read",
        "lock_timeout = '3s'", "time zone 'UTC'", "client_encoding = 'UTF8'", "role spec_a", "role none",
        "session authorization spec_b",
        "session authorization default", "statement_timeout = '30s'", "constraints all deferred" })
end
function kinds.reset(f) return f:say("reset~%s", f:pick { "work_mem", "role", "session authorization", "app.x" }) end
function kinds.temporary(f)
    f.temporary = f.temporary + 1
    return f:say("create~temp table z%d~(id int)%s", f.temporary, f:pick { "", " on commit drop" })
end
function kinds.session(f)
    f.prepared = f.prepared + 1
    return f:pick { "listen ch", "unlisten *", f:say("prepare p%d~as select 1", f.prepared),
        "select pg_advisory_lock(77)", "select pg_advisory_unlock_all()" }
end
function kinds.nothing(f) return f:pick { "", "/* ; */", "--;\n", "select 1", "values (1)" } end

function kinds.bits(f)
    return f:say("select~%s", f:pick { "B'101'", "x'1F'", "b''", "B'10'\n'01'", "U&'d!0061t;'~uescape~'!'", "n'a;'" })
end

function kinds.cursor(f)
    f.prepared = f.prepared + 1
    return f:say("declare~c%d~cursor~with~hold for select ';'; fetch~all~from c%d; close~c%d", f.prepared, f.prepared,
        f.prepared)
end

function kinds.prepared(f)
    f.prepared = f.prepared + 1
    return f:say("prepare~e%d(int) as select $1, ';'; execute~e%d(%s); deallocate~e%d", f.prepared, f.prepared,
        f:pick { "1", "(2)" }, f.prepared)
end

---A COPY with its rows, after which a line must end: not for File:add.
function kinds.copy(f)
    local t <const> = f:table_name()
    if not t then return nil end
    f.list[#f.list + 1] = f:say("\ncopy~%s (id, v)~from~stdin;", t) .. "\n" .. f:pick { "1\ta;b\n2\t'x\n", "",
        "3\t/* $$ \n", "4\t\\N\n", "5\t-- begin;\n6\t\\\\. \n" } .. "\\.\n"
end

function kinds.deferred(f)
    f.count = f.count + 1
    return f:say("create table t%d (id int, v text~unique~deferrable initially deferred)", f.count)
end

---Only outside of blocks.
local outside = {}

function outside.vacuum(f)
    local t <const> = f:table_name()
    return t and f:say("vacuum~%s", t)
end

function outside.index(f)
    local t <const> = f:table_name()
    f.columns = f.columns + 1
    return t and f:say("create~index~concurrently~i%d on %s~(id)", f.columns, t)
end

function outside.empty_end(f) return f:pick { "commit work", "end", "abort", "rollback~/* to */" }:gsub("~", " ") end
function outside.local_set(f) return f:say(f:pick { "set~local~work_mem = '4MB'", "set transaction~read only" }) end
function outside.discard(f) return f.sequences and f:say "discard~all" end

local names, outside_names = {}, {}
for name in pairs(kinds) do names[#names + 1] = name end
for name in pairs(outside) do outside_names[#outside_names + 1] = name end
table.sort(names)
table.sort(outside_names)

local WRONG <const> = {
    "select 1~/~0", "craete table x ()", "select~nope", "insert into missing values (1)", "select 'a'::int",
    "create table broken (a int", "select )", "set~role nobody_there", "vacuum missing",
}

function File:add(sql)
    if not sql then return end
    self.list[#self.list + 1] = sql .. (self:one_in(10) and " " .. self:pick(COMMENTS) or "") .. ";"
        .. self:pick { "\n", "\n", " ", "\n\n", ";", "\n" .. self:pick(COMMENTS) .. "\n" }
end

function File:statement()
    if self.errors and self:one_in(40) then return self:add(self:say(self:pick(WRONG))) end
    if self:one_in(60) then
        -- psql checks the setting once a line.
        self.list[#self.list + 1] = "\nset standard_conforming_strings = off;\n"
        self.off = true
        self:add(self:say("select %s", self:string()))
        self.list[#self.list + 1] = "\nset standard_conforming_strings = on;\n"
        self.off = false
        return
    end
    self:add(kinds[self:pick(names)](self))
end

---A block; with `wrong_ends` sometimes one whose end must be refused.
function File:block()
    self:add(self:say(self:pick { "begin", "Begin~work", "start~transaction", "begin~transaction",
        "begin~isolation level~serializable", "start transaction~isolation level repeatable read, read write",
        "begin~read~only" }))
    for _ = 1, self.random(4) do
        if self:one_in(6) then
            self:add(self:say "savepoint~s")
            self:statement()
            self:add(self:say(self:pick { "release~s", "rollback~to~s", "rollback work to savepoint s" }))
        elseif self:one_in(12) then
            self:add(self:say(self:pick { "declare c cursor for select 1", "set constraints all immediate",
                "set local work_mem = '2MB'", "set local role spec_a", "select pg_advisory_xact_lock(5)", "begin" }))
        else
            self:statement()
        end
    end
    if self.wrong_ends and self:one_in(30) then
        self.refused = true
        return self:add(self:say(self:pick { "commit~and~chain", "rollback and chain", "prepare~transaction~'x'" }))
    end
    self:add(self:say(self:pick { "commit", "Commit~work", "end", "end~transaction", "commit~and no~chain", "rollback",
        "abort", "rollback~/* to */", "rollback~transaction" }))
end

function File:outside_statement()
    if self.wrong_ends and self:one_in(15) then
        self.refused = true
        return self:add(self:say(self:pick { "savepoint~s", "release s", "rollback to s", "lock~table t1",
            "declare c cursor~for select 1", "prepare transaction~'x'" }))
    end
    self:add(outside[self:pick(outside_names)](self))
end

local UNFINISHED <const> = { "/* ;", "select 'a;", 'select "a;', "select $x$;", "select 1 /* /* */ ;", "select E'\\';" }

---@param seed integer
---@param name string of the schema that the file works in; name .. "_b" is another
---@param opts { errors?: boolean, sequences?: boolean, wrong_ends?: boolean, transaction?: boolean }
---@return spec.migrate.RandomFile
function M.new(seed, name, opts)
    local f <const> = setmetatable({
        random = M.random(seed), name = name, list = {}, count = 0, columns = 0, temporary = 0, prepared = 0,
        errors = opts.errors, sequences = opts.sequences, wrong_ends = opts.wrong_ends, refused = false,
    }, File)
    f.transaction = opts.transaction or opts.transaction == nil and f:one_in(3)
    for _ = 1, 2 + f.random(10) do
        local what <const> = f.random(10)
        if f.transaction and what <= 1 and f.wrong_ends and f:one_in(6) then
            f.refused = true
            f:add(f:say(f:pick { "commit", "rollback~/* to */", "begin", "end~work" }))
        elseif not f.transaction and what <= 3 then f:block()
        elseif not f.transaction and what == 4 then f:outside_statement()
        else f:statement() end
    end
    if f.wrong_ends and not f.transaction and f:one_in(25) then
        f.refused = true
        f:add "begin"
        f:statement()
    elseif f.wrong_ends and f:one_in(25) then
        f.refused = true
        f.list[#f.list + 1] = f:pick(UNFINISHED) .. "\n"
    elseif f:one_in(6) then
        f.list[#f.list + 1] = "select 1"
    end
    local text = "-- migrate:up" .. (f.transaction and "" or " transaction:false") .. "\n" .. table.concat(f.list)
        .. "\n-- migrate:down\n"
    if f:one_in(6) then text = text:gsub("\n", "\r\n") end
    if f:one_in(8) then text = "\xEF\xBB\xBF" .. text end
    return { text = text, transaction = f.transaction, refused = f.refused, name = name }
end

return M
