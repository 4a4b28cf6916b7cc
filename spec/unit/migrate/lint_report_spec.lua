-- The files that lint reads, those it leaves out, and its report.
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local process = require "dbrun.process"
local scripts = require "spec.support.scripts"

describe("dbrun migrate lint", function()
    local dir
    before_each(function() dir = fs.mkdtemp() end)
    after_each(function() fs.rmtree(dir) end)

    local function write(name, text)
        fs.write(dir .. "/" .. name, "-- migrate:up\n" .. text .. "\n-- migrate:down\nselect 1;\n")
    end

    local function lint(...)
        return scripts.run("migrate", { "lint", "--dir", dir, ... })
    end

    local function git(...)
        local result = process.run { "git", "-C", dir, "-c", "user.name=spec", "-c", "user.email=spec@example.org",
            "-c", "commit.gpgsign=false", ... }
        assert.equal(0, result.code, result.stderr)
    end

    it("exits with 1 at a severity of --fail-on", function()
        write("1_x.sql", "create index on t (a);")
        for level, code in pairs { never = 0, error = 0, warning = 1, note = 1 } do
            assert.equal(code, lint("--fail-on", level).code, level)
        end
        assert.equal(1, lint().code)
        write("1_x.sql", "alter table t add c json;")
        assert.equal(0, lint().code)
        assert.equal(1, lint("--fail-on", "note").code)
        write("1_x.sql", "truncate t;")
        assert.equal(1, lint("--fail-on", "error").code)
        assert.equal(2, lint("--fail-on", "fatal").code)
    end)

    it("reports the number and the lines of findings", function()
        write("1_x.sql", "create index on t (a);\n\ncreate index on public.t (b);")
        local result = lint()
        assert.matches("1_x.sql:2: an index on t is built without CONCURRENTLY [index-not-concurrent] warning, "
            .. "2 times, lines 2, 4", result.stdout, 1, true)
        assert.matches("1 finding (0 errors, 1 warning, 0 notes) in 1 file.", result.stdout, 1, true)
    end)

    it("writes JSON, which can be used as a baseline", function()
        write("1_x.sql", "create index on t (a);")
        write("2_y.sql", "drop table u;")
        local result = lint("--format", "json")
        assert.equal(1, result.code)
        local report = json.decode(result.stdout)
        assert.equal(2, report.files)
        assert.same({ error = 1, warning = 1, note = 0 }, report.counts)
        assert.equal("index-not-concurrent", report.findings[1].rule)
        assert.equal("t", report.findings[1].table)
        assert.same({ 2 }, report.findings[1].lines)
        local baseline = dir .. "/known.json"
        fs.write(baseline, result.stdout)
        assert.equal(0, lint("--baseline", baseline).code)
        write("2_y.sql", "-- moved\n\ndrop table u;")
        assert.equal(0, lint("--baseline", baseline).code)
        write("1_x.sql", "create index on t (a); create index on t (b);")
        result = lint("--baseline", baseline)
        assert.equal(1, result.code)
        assert.matches("2 times", result.stdout, 1, true)
        assert.is_nil(result.stdout:find("u is dropped", 1, true))
    end)

    it("refuses an invalid baseline", function()
        write("1_x.sql", "select 1;")
        local result = lint("--baseline", dir .. "/none.json")
        assert.equal(2, result.code)
        assert.matches("there is no baseline", result.stderr, 1, true)
        for _, text in ipairs { "", "[]", "{}", '{"findings": [1]}', '{"findings": 5}', '{"findings": [{}]}' } do
            fs.write(dir .. "/bad.json", text)
            result = lint("--baseline", dir .. "/bad.json")
            assert.equal(2, result.code, text)
            assert.matches("is not a report of lint", result.stderr, 1, true)
        end
    end)

    it("writes annotations of a workflow, escaped", function()
        write("1_x.sql", 'drop table "50%,\n:";')
        assert.matches("::error file=[^\n]*1_x.sql,line=2,title=drop%-table::\"50%%25,[^\n]*:\" is dropped",
            lint("--format", "github").stdout)
        write("1_x.sql", "select 1;")
        local result = lint("--format", "github")
        assert.equal("", result.stdout)
        assert.equal(0, result.code)
    end)

    it("writes SARIF", function()
        write("1_x y.sql", "create index on t (a);")
        local log = json.decode(lint("--format", "sarif").stdout)
        assert.equal("2.1.0", log.version)
        local run = log.runs[1]
        local result = run.results[1]
        assert.equal("index-not-concurrent", result.ruleId)
        assert.equal(result.ruleId, run.tool.driver.rules[result.ruleIndex + 1].id)
        assert.equal("warning", result.level)
        local place = result.locations[1].physicalLocation
        assert.matches("1_x%20y.sql", place.artifactLocation.uri, 1, true)
        assert.equal(2, place.region.startLine)
        write("1_x y.sql", "select 1;")
        assert.same({}, json.decode(lint("--format", "sarif").stdout).runs[1].results)
    end)

    it("escapes control characters and bytes that are not UTF-8", function()
        write("1_x.sql", 'drop table "a\27[31m\xff";')
        for _, format in ipairs { "text", "json", "github", "sarif" } do
            local out = lint("--format", format).stdout
            assert.is_nil(out:find("\27", 1, true), format)
            assert.is_truthy(utf8.len(out), format)
        end
    end)

    it("keeps a file or table with a newline in its name on one line of text", function()
        write("1_a\n::error::b.sql", 'drop table "t\n::stop-commands::x";')
        for _, format in ipairs { "text", "github" } do
            for line in lint("--format", format).stdout:gmatch "[^\n]+" do
                assert.is_nil(line:find "^::[^e]" or line:find "^::error::", line)
            end
        end
        assert.equal(dir .. "/1_a\n::error::b.sql", json.decode(lint("--format", "json").stdout).findings[1].path)
    end)

    it("names a file by its bytes in SARIF, and from the folder it runs in", function()
        write("1_\xff.sql", "truncate t;")
        local function uri(folder, ...)
            local result = scripts.run("migrate", { "lint", "--format", "sarif", ... }, nil, { cwd = folder })
            return json.decode(result.stdout).runs[1].results[1].locations[1].physicalLocation.artifactLocation.uri
        end
        assert.equal("1_%FF.sql", uri(dir, "--dir", "."))
        assert.matches("^file:///.*1_%%FF.sql$", uri(dir, "--dir", dir))
    end)

    it("accepts a baseline with names that JSON cannot represent", function()
        write("1_\xff.sql", 'drop table "a\27\xfe";')
        fs.write(dir .. "/known.json", lint("--format", "json").stdout)
        assert.equal(0, lint("--baseline", dir .. "/known.json").code)
    end)

    it("exits with 2 when a file cannot be read", function()
        local result = scripts.run("migrate", { "lint", dir .. "/1_nosuch.sql" })
        assert.equal(2, result.code)
        assert.matches("1_nosuch.sql: No such file", result.stderr, 1, true)
    end)

    it("reads the files that differ from a revision", function()
        git("init", "-q", "-b", "main")
        write("1_a.sql", "create index on t (a);")
        write("2_b.sql", "create index on t (b);")
        git("add", ".")
        git("commit", "-q", "-m", "first")
        git("checkout", "-q", "-b", "work")
        assert.equal(0, lint("--since", "main").code)
        write("3_c.sql", "create index on u (c);")
        write("2_b.sql", "create index on v (b);")
        local result = lint("--since", "main")
        assert.matches("2_b.sql:2: an index on v", result.stdout, 1, true)
        assert.matches("3_c.sql:2: an index on u", result.stdout, 1, true)
        assert.is_nil(result.stdout:find("1_a.sql", 1, true))
        git("add", ".")
        git("commit", "-q", "-m", "second")
        assert.matches("2 findings", lint("--since", "main").stdout, 1, true)
        assert.equal(0, lint("--since", "HEAD").code)
        git("checkout", "-q", "main")
        write("4_d.sql", "create index on w (d);")
        git("add", ".")
        git("commit", "-q", "-m", "third")
        git("checkout", "-q", "work")
        assert.matches("2 findings", lint("--since", "main").stdout, 1, true)
    end)

    it("reads the same files within a hook of git", function()
        git("init", "-q", "-b", "main")
        write("1_a.sql", "create index on t (a);")
        git("add", ".")
        git("commit", "-q", "-m", "first")
        write("2_b.sql", "create index on u (b);")
        for _, env in ipairs { { GIT_DIR = dir .. "/.git" }, { GIT_DIR = ".git", GIT_INDEX_FILE = ".git/index" },
            { GIT_DIR = dir .. "/.git", GIT_WORK_TREE = dir } } do
            local result = scripts.run("migrate", { "lint", "--dir", dir, "--since", "main" }, env)
            assert.matches("2_b.sql:2", result.stdout, 1, true)
            assert.matches("in 1 file.", result.stdout, 1, true)
        end
    end)

    it("says why a revision does not exist", function()
        write("1_a.sql", "select 1;")
        local result = lint("--since", "main")
        assert.equal(2, result.code)
        assert.matches("not a git repository", result.stderr, 1, true)
        assert.matches("--since takes a revision", result.stderr, 1, true)
        git("init", "-q", "-b", "main")
        git("add", ".")
        git("commit", "-q", "-m", "first")
        result = lint("--since", "nosuch")
        assert.equal(2, result.code)
        assert.matches("has no revision 'nosuch'", result.stderr, 1, true)
        assert.equal(2, lint("--since=--output=x").code)
    end)
end)
