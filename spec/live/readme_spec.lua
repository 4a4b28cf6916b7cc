-- Every example of the README that is marked with `<!-- run -->` is run as a user would run it, in an empty folder with
-- the scripts that ship, against a database of its own; what it prints must be what the README says.
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local readme = require "spec.support.readme"
local servers = require "spec.support.servers"

local root <const> = fs.cwd()
local program <const> = core.options.program

---What an example finds in its environment: nothing of the one that runs the specs.
local function environment(folder, url, redis_url)
    local lua_dir = os.getenv "DBRUN_LUA_DIR"
    local path = fs.dirname(program) .. ":" .. os.getenv "PATH"
    return { "env", "-i", "PATH=" .. path, "HOME=" .. folder, "DATABASE_URL=" .. url, "REDIS_URL=" .. redis_url,
        lua_dir and "DBRUN_LUA_DIR=" .. fs.realpath(lua_dir) or nil }
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

describe("the README", function()
    local examples <const> = readme.examples(fs.read(root .. "/README.md"))
    local folder

    before_each(function()
        folder = fs.mkdtemp()
        fs.mkdir_p(folder .. "/scripts")
        for _, name in ipairs(fs.list(root .. "/scripts")) do
            if name:find "%.lua$" then
                fs.write(folder .. "/scripts/" .. name, fs.read(root .. "/scripts/" .. name))
            end
        end
    end)
    after_each(function()
        if fs.exists(folder .. "/.dbrun") then -- an example that failed may have left its servers running
            process.run { program, "stack", "reset", "--force", cwd = folder, timeout = 60 }
        end
        fs.rmtree(folder)
    end)

    it("has examples", function()
        assert.is_true(#examples > 10)
    end)

    for _, example in ipairs(examples) do
        it(("is right about the %s in line %d"):format(example.language, example.line), function()
            local result = run(example, folder)
            if example.output and not readme.fits(result.stdout, example.output) then
                assert.equal(example.output, result.stdout)
            end
            assert.equal(example.status, result.code, result.stdout)
        end)
    end
end)
