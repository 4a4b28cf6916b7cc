--- The command line of `dbrun version`.
local cli <const> = require "dbrun.command_line"
local core <const> = require "dbrun.core"

local M = {}

local function parser()
    local p = cli.parser {
        name = "dbrun version",
        description = "Show the versions of dbrun and of its libraries: compiled against, and running with.",
    }
    p:flag("--json", "Print JSON.")
    return p
end

---Runs the command.
---@param argv string[] the arguments
---@return integer status
function M.main(argv)
    return cli.main("version", function()
        local args, help = cli.parse(parser(), argv)
        if not args then
            cli.write(help, "\n")
            return cli.OK
        end
        local libraries <const> = core.versions
        if args.json then
            local all = { dbrun = core.options.version, libraries = {} }
            for _, library in ipairs(libraries) do
                all.libraries[library.name] = { compiled = library.compiled, running = library.running }
            end
            cli.write(cli.json(all, { indent = 2, sort_keys = true }), "\n")
            return cli.OK
        end
        local rows = { { "dbrun", core.options.version } }
        for _, library in ipairs(libraries) do
            local other <const> = library.running and library.running ~= library.compiled
            rows[#rows + 1] = { library.name, library.running or library.compiled,
                other and ("compiled against " .. library.compiled) or nil }
        end
        for _, line in ipairs(cli.table(rows)) do cli.print(line) end
        return cli.OK
    end)
end

return M
