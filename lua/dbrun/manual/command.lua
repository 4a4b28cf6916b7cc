--- The command line of the manual: `dbrun help [TOPIC | FUNCTION | --search WORD]`.
local cli <const> = require "dbrun.command_line"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local functions <const> = require "dbrun.manual.functions"
local library <const> = require "dbrun.manual.library"
local markdown <const> = require "dbrun.manual.markdown"
local nearest <const> = require "dbrun.nearest"
local objects <const> = require "dbrun.manual.objects"
local page <const> = require "dbrun.manual.page"
local terminal <const> = require "dbrun.manual.terminal"
local tty <const> = require "dbrun.tty"

local M = {}

local REDIS <const> = [[
`%s` is a command of Redis. Each is a method of a client, `r = redis.get()`: its arguments are strings, numbers and flat
tables of those, in the order of Redis; the reply has its natural shape. An error reply is an error of kind `redis`.

## See also

[the chapter](redis.md), `r:call`, [the command](https://redis.io/commands/%s/)
]]

local WIDEST <const> = 100 -- columns that are still easy to read

local function parser()
    local p <const> = cli.parser {
        name = "dbrun help", description = "The manual, at the terminal.",
        examples = {
            "dbrun help                      what there is",
            "dbrun help migrate              a chapter",
            "dbrun help db.async.query       a function; so do engine:query and query",
            "dbrun help fs                   the functions of a module",
            "dbrun help --search upsert      lines in which a word is, the best first",
        },
        epilog = "Exit status: 0 shown, 1 --search found nothing, 2 there is no such topic or function.",
    }
    p:argument("topic", "A topic, a module or a function."):args "*"
    p:option("--search", "Find words in the manual."):argname "<word>":args "+"
    return p
end

local function screen()
    return terminal.new(math.min(tty.width(1), WIDEST), tty.colour(1))
end

local function show(lines)
    require("dbrun.pager").show(table.concat(lines, "\n") .. "\n")
    return cli.OK
end

-- ---- what is shown ----

local function start()
    local s <const> = screen()
    local width <const> = tty.isatty(1) and s.width or WIDEST
    return show(require("dbrun.manual.screen").lines(function(text, style) return s:paint(text, style) end, width))
end

local function chapter(name)
    local s <const> = screen()
    return show(terminal.chapter(library.chapter(name), s.width, s.colour))
end

local function one(entry)
    local s <const> = screen()
    s:flow({ { text = functions.signature(entry), style = "title" } }, 0, "")
    s:blocks(page.blocks(entry, library.functions(), library.example))
    return show(s.lines)
end

local function fields_of(class)
    local s <const> = screen()
    s:flow({ { text = class.name, style = "title" } }, 0, "")
    s:blocks(page.class(class, library.functions()))
    return show(s.lines)
end

---A command of Redis: each is a method of a client.
local function redis_command(word)
    local name <const> = word:lower():gsub("^redis[.:]", ""):gsub("^r[.:]", "")
    if not name:find "^%l+$" or not core.redis.fact(name:upper()) then return nil end
    local s <const> = screen()
    s:flow({ { text = ("r:%s(...)"):format(name), style = "title" } }, 0, "")
    s:blocks(markdown.blocks(REDIS:format(name:upper(), name), "redis"))
    return show(s.lines)
end

---Several functions, one a line.
local function list(entries, about)
    local s <const>, widest = screen(), 0
    if about ~= "" then
        s:flow({ { text = about } }, 0, "")
        s:print()
    end
    for _, entry in ipairs(entries) do
        local width <const> = #functions.signature(entry)
        widest = width <= 36 and math.max(widest, width) or widest
    end
    for _, entry in ipairs(entries) do
        local signature <const> = functions.signature(entry)
        local line = ("%-" .. widest .. "s  "):format(signature) .. page.sentence(entry):gsub("`", "")
        if tty.isatty(1) and utf8.len(line) and utf8.len(line) > s.width then
            line = line:sub(1, utf8.offset(line, s.width - 2) - 1) .. "..."
        end
        s:print(s:paint(line:sub(1, #signature), "strong") .. line:sub(#signature + 1))
    end
    return show(s.lines)
end

---The functions of a module or an object, and what it is: `fs`, `dbrun.fs`, `engine`.
local function of_owner(word)
    local all <const>, found <const> = library.functions(), {}
    local plain <const> = word:lower():gsub("^dbrun%.", "")
    local about = ""
    for _, entry in ipairs(all.entries) do
        local class <const> = entry.class and entry.class.name:lower()
        if entry.owner:lower() == plain or class == word:lower() or class == "dbrun." .. plain then
            found[#found + 1] = entry
            local file <const> = entry.module and all.all.files[("dbrun/%s.lua"):format(entry.module)]
            about = entry.class and entry.class.about or file and file.about or about
        end
    end
    if #found == 0 then
        for _, object in ipairs(objects.OBJECTS) do
            for _, name in ipairs(object.also) do
                if name == plain and #found == 0 then return of_owner(object.name) end
            end
        end
    end
    return found, functions.sentence(about)
end

---Every word that means something.
local function known_words()
    local words <const> = library.topics()
    table.move(library.functions():words(), 1, 1e6, #words + 1, words)
    for _, entry in ipairs(library.functions().entries) do words[#words + 1] = entry.owner end
    return words
end

---Whether the manual has it, as a whole word.
local function in_the_text(word)
    local whole <const> = "%f[%w_]" .. word:lower():gsub("%p", "%%%0") .. "%f[^%w_]"
    for _, line in ipairs(require("dbrun.manual.search").find(word)) do
        if line.text:lower():find(whole) then return true end
    end
    return false
end

---A word that is not a topic may still be in the text: `cron`, `only_one`.
local function unknown(word)
    local said <const> = tty.printable(word)
    local near <const> = nearest.find(word, known_words())
    if not near and in_the_text(word) then
        errors.fail("usage", ("there is no topic or function '%s', but the manual has the word"):format(said),
            "dbrun help --search " .. said)
    end
    errors.fail("usage", ("there is no topic or function '%s'%s"):format(said,
        near and ("; did you mean '%s'?"):format(near) or " (dbrun help lists the topics)"))
end

---A variable of a script's own before the name: `ctx.upsert`. Only the name is looked up, but `t` is a spec's project.
local function of_variable(word)
    local owner <const>, name <const> = word:match "^([%a_][%w_]*)[.:]([%a_][%w_]*)$"
    local project <const> = library.functions().all.classes["dbrun.testing.Project"]
    for _, field in ipairs((owner == "t" or owner == "project") and project.order or {}) do
        if (type(field) == "table" and field.name or field) == name then return fields_of(project) end
    end
    local module <const> = owner and ("dbrun/%s.lua"):format(owner:lower())
    if not owner or library.functions().all.files[module] then return nil end
    local entries <const> = library.functions():find(name)
    if #entries == 1 then return one(entries[1]) end
    return #entries > 1 and list(entries, "") or nil
end

---The chapters of commands that have another name.
local COMMANDS <const> = { init = "start", test = "testing", version = "install" }

local LIBRARIES <const> = {
    string = string, table = table, math = math, io = io, os = os, coroutine = coroutine, utf8 = utf8, debug = debug,
    package = package,
}
local BASE <const> = {
    assert = true, collectgarbage = true, dofile = true, error = true, getmetatable = true, ipairs = true, load = true,
    loadfile = true, next = true, pairs = true, pcall = true, rawequal = true, rawget = true, rawlen = true,
    rawset = true, ["require"] = true, select = true, setmetatable = true, tonumber = true, tostring = true,
    type = true, xpcall = true,
}

---A function of Lua itself: `string.format`, `require`.
local function of_lua(word)
    local owner <const>, name <const> = word:match "^(%l[%l%d]*)%.(%l[%l%d]*)$"
    local values <const> = owner and LIBRARIES[owner]
    if not BASE[word] and (not values or values[name] == nil) then return nil end
    return show { ("%s is of Lua itself: https://www.lua.org/manual/5.4/manual.html#pdf-%s"):format(word, word) }
end

---@param word string
---@return integer status
local function topic(word)
    local name = word:lower():gsub("%.md$", "")
    name = COMMANDS[name] or name
    if library.chapter(name) then return chapter(name) end
    local entries = library.functions():find(word)
    local owned <const>, about <const> = of_owner(word)
    if #owned > 0 and (#entries == 0 or not word:find "[.:]") then
        if owned[1].owner == word:lower() then entries = {} end -- a module; else also the functions of that name
        table.move(owned, 1, #owned, #entries + 1, entries)
        return list(entries, about)
    end
    if #entries == 1 then return one(entries[1]) end
    if #entries > 1 then return list(entries, "") end
    local class <const> = library.functions().all.classes[word]
    if class and word:find "^dbrun%." and #class.order > 0 then return fields_of(class) end
    return redis_command(word) or of_lua(word) or of_variable(word) or unknown(word)
end

---Several words: `help migrate lint`, `help redis lock`.
local function topic_of(words)
    if #words == 1 then return topic(words[1]) end
    local last <const> = words[#words]:lower()
    if library.chapter(table.concat(words, "-"):lower()) then return topic(table.concat(words, "-")) end
    if library.chapter(words[1]:lower()) and library.chapter(last) then return chapter(last) end
    if #library.functions():find(table.concat(words, ".")) > 0 then return topic(table.concat(words, ".")) end
    local container <const> = words[1]:upper() -- CLIENT KILL
    if #words == 2 and core.redis.fact(container) then return redis_command(container) end
    return unknown(table.concat(words, " "))
end

-- ---- searching ----

local function search(query)
    local find <const> = require "dbrun.manual.search"
    local s <const> = screen()
    local lines <const>, widest = find.find(query), 0
    if #lines == 0 then
        cli.note(("dbrun help: nothing in the manual has '%s'"):format(tty.printable(query)))
        return cli.FAILED
    end
    for _, line in ipairs(lines) do widest = math.max(widest, #line.topic) end
    for _, line in ipairs(lines) do
        local part <const>, places <const> = find.part(line.text, query, math.max(40, s.width - widest - 6))
        local parts, at = {}, 1
        for _, place in ipairs(places) do
            local word <const> = part:sub(place[1], place[2])
            parts[#parts + 1] = part:sub(at, place[1] - 1)
            parts[#parts + 1] = s.colour and s:paint(word, "mark") or "*" .. word .. "*"
            at = place[2] + 1
        end
        s:print(s:paint(("%-" .. widest .. "s"):format(line.topic), "strong") .. "  " ..
            table.concat(parts) .. part:sub(at))
    end
    return show(s.lines)
end

---`help --stack`: not an option of this command, nor similar to one, but one that the manual describes.
local function is_option_of_dbrun(argv)
    local word <const> = argv[1]
    return #argv == 1 and word:find "^%-%-%l[%l-]+$" and not nearest.find(word, { "--search", "--help" })
        and #require("dbrun.manual.search").find(word) > 0
end

---@param argv string[] the command line
---@return integer status
function M.main(argv)
    return cli.main("dbrun help", function()
        if #argv == 0 then return start() end
        if is_option_of_dbrun(argv) then return search(argv[1]) end
        local args <const>, help <const> = cli.parse(parser(), argv)
        if not args then
            cli.print(help)
            return cli.OK
        end
        if args.search then
            if #args.topic > 0 then errors.fail("usage", "a topic, or --search, and not both") end
            return search(table.concat(args.search, " "))
        end
        return topic_of(args.topic)
    end)
end

return M
