--- The completions of the Tab key after `dbrun`, and the shells that request them.
local run <const> = require "spec.support.command".run

describe("dbrun completion", function()
    local TIDY <const> = [[
local cli = require "dbrun.cli"
io.open("ran", "w"):close()
return cli.run {
    options = { { "days", "integer", default = 90, help = "older than this" }, { "mode", "choice",
        choices = { "fast", "slow" } }, { "into", "file" }, { "force", "flag", short = "f" } },
    commands = { { "purge", about = "Deletes all.", options = { { "vacuum", "flag" } }, run = print },
        { "count", run = print } },
}
]]

    ---The words offered, with blanks between them.
    local function offered(...)
        local list <const> = { ... }
        for i, word in ipairs(list) do list[i] = "'" .. word .. "'" end
        local r <const> = run("mkdir -p scripts/migrations test; mv *.lua scripts 2>/dev/null; lua completion words -- "
            .. table.concat(list, " "), { ["tidy.lua"] = TIDY, ["expect.lua"] = "return {}" })
        assert.equal(0, r.code, r.err)
        return (r.out:gsub("\t[^\n]*", ""):gsub("\n", " "):gsub(" $", ""))
    end

    it("offers commands, including the project's, and files", function()
        assert.equal("batch completion config dbmate help init migrate redis seed sql stack test tidy verify version "
            .. ":files", offered "")
        assert.equal("migrate :files", offered "mig")
        assert.equal("tidy :files", offered("--stack", "--timeout", "5", "ti"))
    end)

    it("offers the program's options, and their values", function()
        assert.matches("%-%-env%-file %-%-no%-env %-%-stack ", offered "--")
        assert.equal("--lock-timeout --log --log-format --log-parameters", offered "--lo")
        assert.equal("error warn info debug", offered("--log", ""))
        assert.equal("--log=warn", offered "--log=w")
        assert.equal(":files", offered("--env-file", ""))
        assert.equal(":folders", offered("-C", ""))
        assert.equal("tidy :files", offered("-C", "scripts", "tid"))
    end)

    it("offers sub-commands, options and values of each command", function()
        assert.equal("up", offered("migrate", "u"))
        assert.equal("--lock-wait --lock-timeout --lock-retries", offered("migrate", "up", "--lo"))
        assert.equal("json", offered("migrate", "lint", "--format", "j"))
        assert.equal("--format=json", offered("migrate", "lint", "--format=j"))
        assert.equal("goose golang-migrate flyway alembic", offered("migrate", "import", ""))
        assert.equal("DBRUN_MIGRATIONS_DIR", offered("config", "--show", "DBRUN_M"))
        assert.equal("types", offered("help", "ty"))
        assert.equal(":folders", offered("init", ""))
        assert.equal("--migrations-dir --migrations-table", offered("dbmate", "--mig"))
        assert.equal("bash zsh fish", offered("completion", ""))
        assert.equal("run", offered("batch", "ru"))
        assert.equal("--wait", offered("batch", "pause", "orders-cents", "--w"))
        for _, name in ipairs { "batch", "config", "init", "migrate", "redis", "seed", "sql", "stack", "test", "verify",
            "version" } do
            assert.matches("%-%-help", offered(name, "--"), name)
        end
    end)

    it("offers the options of a project's script, without running it", function()
        assert.equal("--help --dry-run --days --mode --into --force", offered("tidy", "--"))
        assert.equal("fast slow", offered("tidy", "--mode", ""))
        assert.equal(":files", offered("tidy", "--into", ""))
        assert.equal("purge count", offered("tidy", ""))
        assert.equal("--vacuum", offered("tidy", "purge", "--v"))
        assert.equal("--days", offered("scripts/tidy.lua", "--da"))
        assert.equal("", offered("tidy", "--days", ""))
        assert.equal("0\n", run("mv tidy.lua t.lua; lua completion words -- t.lua --; ls ran 2>/dev/null | wc -l",
            { ["tidy.lua"] = TIDY }).out:match "[^\n]*\n$")
    end)

    it("describes words, a line for each", function()
        assert.matches("\n%-%-days\tolder than this\n", run("lua completion words -- ./tidy.lua --",
            { ["tidy.lua"] = TIDY }).out)
    end)

    it("offers files for unknown commands", function()
        assert.equal(":files", offered("no-such", ""))
        assert.equal(":files", offered("other.lua", ""))
    end)

    it("refuses an unknown shell", function()
        local r = run "lua completion tcsh"
        assert.equal(2, r.code)
        assert.matches("must be one of", r.err)
    end)

    -- ---- the shells ----

    local SETUP <const> = "mkdir scripts bin; mv tidy.lua scripts; ln -s $(readlink -f $(command -v lua)) bin/dbrun; "
        .. "PATH=$PWD/bin:$PATH; "

    local function shell(name, command)
        if run("command -v " .. name).code ~= 0 then
            pending(name .. " is not installed")
            return nil
        end
        local r <const> = run(SETUP .. command, { ["tidy.lua"] = TIDY, ["a b.sql"] = "" })
        assert.equal("", r.err)
        return r.out
    end

    it("works in bash", function()
        local out <const> = shell("bash", [[bash -c 'compopt() { :; }; source <(dbrun completion bash)
            try() { COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _dbrun dbrun; printf "<%s>" "${COMPREPLY[@]}"; echo; }
            try dbrun mig; try dbrun migrate lint --format = j; try dbrun tidy --da; try dbrun sql -f "a"
            try dbrun --log = w
            complete -p dbrun']])
        if not out then return end
        assert.equal("<migrate>\n<json>\n<--days>\n<a b.sql>\n<warn>\ncomplete -F _dbrun dbrun\n", out)
    end)

    it("works in fish", function()
        local out <const> = shell("fish", [[HOME=$PWD fish -c 'dbrun completion fish | source
            complete -C "dbrun mig"; complete -C "dbrun migrate lint --format=j"; complete -C "dbrun tidy --da"']])
        if out then assert.equal("migrate\n--format=json\n--days\tolder than this\n", out) end
    end)

    it("can be read by zsh", function()
        local out <const> = shell("zsh", [[dbrun completion zsh > _dbrun; zsh -f -n _dbrun && head -1 _dbrun]])
        if out then assert.equal("#compdef dbrun\n", out) end
    end)
end)
