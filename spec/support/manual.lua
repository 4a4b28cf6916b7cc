--- Runs the examples of the README and of the manual's chapters as a user would run them: each in an empty folder with
--- the scripts that ship, against a database and a Redis database of its own; what it prints must be what the text
--- says. An example is marked with `<!-- run -->` (readme.lua).
---
---     manual.specs(manual.chapters "redis")
local assert <const> = require "luassert"
local busted <const> = require "busted"
local core <const> = require "dbrun.core"
local fs <const> = require "dbrun.fs"
local initdb <const> = require "spec.support.initdb"
local process <const> = require "dbrun.process"
local readme <const> = require "spec.support.readme"
local servers <const> = require "spec.support.servers"

local M = {}

local ROOT <const> = fs.cwd()
local FOLDER <const> = "lua/manual"
local PROGRAM <const> = core.options.program

-- The runner runs spec files in parallel, so each group has its own file, spec/live/manual/<group>_spec.lua.
-- others_spec.lua runs the chapters that are in no group.
M.GROUPS = {
    postgres = { "postgres", "types", "transactions", "copy", "pools", "tasks" },
    redis = { "redis", "redis-servers" },
    commands = { "config", "migrate", "lint", "dbmate", "import", "seed", "verify", "stack" },
    scripts = { "scripts", "maintenance", "log", "batch", "batch-kinds" },
    testing = { "testing", "dry-run", "trace", "batch-dry-run" },
    terminal = { "start", "install", "prompt", "prompt-commands", "sql", "redis-command", "results", "table", "csv" },
}

---The files of a group's chapters; of "others" those that are in no group.
---@param group string
---@return string[]
function M.chapters(group)
    local of <const>, files <const> = {}, {}
    for name, chapters in pairs(M.GROUPS) do
        for _, chapter in ipairs(chapters) do of[chapter] = name end
    end
    for _, name in ipairs(fs.list(FOLDER)) do
        local chapter <const> = name:match "^(.+)%.md$"
        if chapter and (of[chapter] or "others") == group then files[#files + 1] = FOLDER .. "/" .. name end
    end
    return files
end

---The environment of an example: nothing from the environment in which the specs run.
local function environment(folder, url, redis_url)
    local lua_dir = os.getenv "DBRUN_LUA_DIR"
    local path = fs.dirname(PROGRAM) .. ":" .. os.getenv "PATH"
    return { "env", "-i", "PATH=" .. path, "HOME=" .. folder, "DATABASE_URL=" .. url, "REDIS_URL=" .. redis_url,
        "DBRUN_PG_BINDIR=" .. initdb.bindir(), lua_dir and "DBRUN_LUA_DIR=" .. fs.realpath(lua_dir) or nil }
end

---Runs an example in `folder`: what it prints on both outputs, and its exit status.
local function run(example, folder)
    fs.write(folder .. "/example", example.code .. "\n")
    local command = environment(folder, (servers.database()), (servers.redis_db()))
    table.move(example.language == "lua" and { "dbrun", "example" } or { "sh", "-e", "example" }, 1, 3,
        #command + 1, command)
    command.cwd, command.stderr, command.timeout = folder, "stdout", 60
    return process.run(command)
end

---Specs for the examples of each file. They run in the order of the text, each on its own.
---@param files string[] Markdown, from the root of the sources
function M.specs(files)
    local it <const> = busted.it
    local folder

    busted.before_each(function()
        folder = initdb.folder()
        fs.mkdir_p(folder .. "/scripts")
        for _, name in ipairs(fs.list(ROOT .. "/scripts")) do
            if name:find "%.lua$" then
                fs.write(folder .. "/scripts/" .. name, fs.read(ROOT .. "/scripts/" .. name))
            end
        end
    end)
    busted.after_each(function()
        if fs.exists(folder .. "/.dbrun") then -- a failed example can leave its servers running
            process.run { PROGRAM, "stack", "reset", "--force", cwd = folder, timeout = 60 }
        end
        fs.rmtree(folder)
    end)

    it("is looked at as a whole", function()
        for _, file in ipairs(files) do
            assert.is_true(#fs.read(ROOT .. "/" .. file) > 0, file)
        end
    end)

    for _, file in ipairs(files) do
        for _, example in ipairs(readme.examples(fs.read(ROOT .. "/" .. file))) do
            it(("is right about the %s in line %d of %s"):format(example.language, example.line, file), function()
                local result = run(example, folder)
                if example.output and not readme.fits(result.stdout, example.output) then
                    assert.equal(example.output, result.stdout)
                end
                assert.equal(example.status, result.code, result.stdout)
            end)
        end
    end
end

return M
