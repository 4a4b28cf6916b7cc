--- The command line of `dbrun init`: makes a project and says what to do next.
local cli <const> = require "dbrun.command_line"
local errors <const> = require "dbrun.error"
local files <const> = require "dbrun.start.files"
local fs <const> = require "dbrun.fs"
local stubs <const> = require "dbrun.start.stubs"
local texts <const> = require "dbrun.manual.texts"

local M = {}

local EPILOG <const> = [[
Files that are there are kept; to .gitignore lines are added. A project with migrations of its own gets no sample.
Stubs for editors with lua-language-server are written to .dbrun/stubs, and anew when dbrun has another version.]]

local function parser()
    local p = cli.parser {
        name = "dbrun init",
        description = "Make a project: a migration, a seed, an expectation, a script and its test.",
        examples = { "dbrun init          in this folder", "dbrun init shop     in the folder shop, which is made" },
        epilog = EPILOG,
    }
    p:argument("folder", "Where (default: here)."):args "?"
    return p
end

---The first migration in a folder, when there is one.
local function migration_in(folder, pattern)
    if not fs.exists(folder) then return nil end
    for _, name in ipairs(fs.list(folder)) do
        if name:find(pattern) then return name end
    end
end

---Whether the project has migrations other than the sample's.
local function has_own(folder)
    local own <const> = fs.join(folder, "scripts/migrations")
    if migration_in(own, "_create_notes%.sql$") then return false end
    return migration_in(own, "^%d.*%.%l+$") ~= nil
        or migration_in(fs.join(folder, "db/migrations"), "%.sql$") ~= nil
end

---The path of a file in the project, with the time in it; an existing file keeps its name.
local function named(folder, name, now)
    local path <const>, rest <const> = name:match "^(.*/)<now>(.*)$"
    if not path then return name end
    local there <const> = migration_in(fs.join(folder, path), rest:gsub("%p", "%%%0") .. "$")
    return path .. (there or now .. rest)
end

---Refuses a dangling link, whose target cannot be read or made.
local function check_link(path)
    if fs.stat(path, true) and not fs.stat(path) then
        errors.fail("io", ("'%s' is a dangling link"):format(path), "remove it; nothing was written")
    end
end

---Refuses obstacles before anything is written.
local function check(folder, list)
    check_link(folder)
    local here <const> = fs.stat(folder)
    if here and here.kind ~= "folder" then
        errors.fail("usage", ("'%s' is a %s, not a folder"):format(folder, here.kind), "dbrun init --help")
    end
    for _, file in ipairs(list) do
        local there <const> = fs.stat(fs.join(folder, file.path))
        if there and there.kind == "folder" then
            errors.fail("io", ("'%s' is a folder, where a file must be"):format(fs.join(folder, file.path)),
                "move it away; nothing was written")
        end
        if file.lines then check_link(fs.join(folder, file.path)) end
        local above = fs.dirname(file.path)
        while above ~= "." do
            local path <const> = fs.join(folder, above)
            check_link(path)
            local stat <const> = fs.stat(path)
            if stat and stat.kind ~= "folder" then
                errors.fail("io", ("'%s' is a %s, where a folder must be"):format(path, stat.kind),
                    "move it away; nothing was written")
            end
            if stat and not there and not fs.access(path, "w") then
                errors.fail("io", ("cannot write to the folder '%s'"):format(path), "nothing was written")
            end
            above = fs.dirname(above)
        end
    end
    if here and not fs.access(folder, "w") then
        errors.fail("io", ("cannot write to the folder '%s'"):format(folder), "nothing was written")
    end
end

local function bare(line) return (line:gsub("%s+$", ""):gsub("^/", ""):gsub("/$", "")) end

---Adds the lines that a file lacks. Returns whether there was one.
local function add_lines(path, text)
    local old = fs.read(path)
    local has, new = {}, {}
    for line in old:gmatch "[^\n]+" do has[bare(line)] = true end
    for line in text:gmatch "[^\n]+" do
        if not has[bare(line)] then new[#new + 1] = line .. "\n" end
    end
    if #new == 0 then return false end
    if old ~= "" and old:sub(-1) ~= "\n" then old = old .. "\n" end
    fs.write(path, old .. table.concat(new), fs.stat(path).mode)
    return true
end

---Makes one file. Returns what became of it.
local function make(folder, file)
    local path <const> = fs.join(folder, file.path)
    if fs.stat(path, true) then
        return file.lines and add_lines(path, file[2]) and "added to" or "kept"
    end
    fs.mkdir_p(fs.dirname(path))
    fs.write(path, file[2], file.mode or tonumber("644", 8))
    return "created"
end

local function quoted(word)
    return word:find "^[%w/._+-]+$" and word or "'" .. word:gsub("'", "'\\''") .. "'"
end

---The next commands: only those that this dbrun and this project have.
local function next_steps(folder, sample)
    local rows = {}
    local function step(command, about, there)
        if there ~= false then rows[#rows + 1] = { command, about } end
    end
    if folder ~= "." then step("cd " .. quoted(folder:find "^%-" and "./" .. folder or folder), "") end
    step("dbrun --stack migrate up", "a private PostgreSQL and Redis in .dbrun/, and the first migration")
    step("dbrun --stack seed", "two rows", sample)
    step("dbrun --stack tidy --dry-run", "the first script, nothing kept", sample and texts.read "dbrun/cli.lua" ~= nil)
    step("dbrun --stack test", "its test", sample and texts.read "dbrun/testing.lua" ~= nil)
    step("dbrun --stack verify", "is everything there?")
    step("dbrun --stack", "the prompt")
    return cli.table(rows, { indent = 2 })
end

---@param folder string
---@return integer status
local function init(folder)
    local list, made, kept, now = {}, 0, 0, os.date "!%Y%m%d%H%M%S"
    local sample <const> = not (fs.exists(folder) and fs.stat(folder).kind == "folder" and has_own(folder))
    for _, file in ipairs(files) do
        if sample or not file.sample then
            list[#list + 1] = setmetatable({ path = fs.exists(folder) and named(folder, file[1], now)
                or file[1]:gsub("<now>", now) }, { __index = file })
        end
    end
    check(folder, list)
    fs.mkdir_p(folder)
    for _, file in ipairs(list) do
        local what <const> = make(folder, file)
        if what == "created" then made = made + 1 else kept = kept + 1 end
        cli.report(("%-8s  %s"):format(what, cli.one_line(fs.join(folder, file.path):gsub("^%./", ""))))
    end
    stubs.write(folder)
    cli.report("")
    cli.report(("%s%s. Next:"):format(cli.plural(made, "file"), kept > 0 and (", %d kept"):format(kept) or ""))
    for _, line in ipairs(next_steps(folder, sample)) do cli.report(line) end
    local cron <const> = quoted(fs.realpath(folder)):gsub("%%", "\\%%")
    cli.report("Your own servers: cp .env.example .env, and leave --stack out."
        .. (sample and ("  Every night: 15 3 * * *  cd %s && dbrun --timeout 600 tidy"):format(cron) or ""))
    return cli.OK
end

---Runs the command.
---@param argv string[] the arguments
---@return integer status
function M.main(argv)
    return cli.main("init", function()
        local args, help = cli.parse(parser(), argv)
        if not args then
            cli.write(help, "\n")
            return cli.OK
        end
        if args.folder == "" then errors.fail("usage", "the folder's name is empty", "dbrun init --help") end
        return init(args.folder or ".")
    end)
end

return M
