--- The command line of `dbrun completion`.
local cli <const> = require "dbrun.command_line"
local core <const> = require "dbrun.core"
local shells <const> = require "dbrun.completion.shells"

local M = {}

local EXAMPLES <const> = {
    "source <(dbrun completion bash)                                  in ~/.bashrc",
    "dbrun completion zsh > ~/.zfunc/_dbrun                           a folder of $fpath",
    "dbrun completion fish > ~/.config/fish/completions/dbrun.fish",
}

local function parser()
    local p <const> = cli.parser {
        name = "dbrun completion", description = "Print what a shell needs to complete commands, options and values.",
        examples = EXAMPLES,
        epilog = "make install and the Debian package have installed it for all three shells.",
    }
    p:argument("shell", "The shell."):choices { "bash", "zsh", "fish" }
    return p
end

---Answers a shell: `words -- WORD...` prints one line per candidate.
local function words(list)
    require "dbrun.completion.describe".COMMANDS.completion = function() return M end
    local complete <const> = require "dbrun.completion.words"
    local found <const>, folder <const> = complete.of(list)
    if folder then
        for i, word in ipairs(list) do
            if word == "-C" then
                local command <const> = { core.options.program, "-C", folder, "completion", "words", "--" }
                table.move(list, 1, i - 1, #command + 1, command)
                table.move(list, i + 2, #list, #command + 1, command)
                cli.write(require "dbrun.process".run(command).stdout)
                return cli.OK
            end
        end
    end
    for _, word in ipairs(found) do
        local about <const> = word[2] and word[2] ~= "" and "\t" .. word[2]:gsub("%c+", " ") or ""
        cli.write(word[1], about, "\n")
    end
    return cli.OK
end

---Runs the command.
---@param argv string[] the arguments
---@return integer status
function M.main(argv)
    return cli.main("completion", function()
        if argv[1] == "words" and argv[2] == "--" then return words(table.move(argv, 3, #argv, 1, {})) end
        local args <const>, help <const> = cli.parse(parser(), argv)
        if not args then
            cli.print(help)
            return cli.OK
        end
        cli.write(shells[args.shell])
        return cli.OK
    end)
end

return M
