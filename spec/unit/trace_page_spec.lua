-- The page of --trace FILE.html: its computed numbers (run by node, if installed), and that no content of a trace is
-- executed.
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local process = require "dbrun.process"
local numbers = require "spec.support.trace_numbers"
local random = require "spec.support.trace_random"

local VIEWER <const> = "runtime/trace/viewer/"
local has_node <const> = os.execute "node --version >/dev/null 2>&1"

local COMPUTE <const> = [[
const numbers = require(process.argv[1]), fs = require("fs");
const list = process.argv.slice(2).map(file => {
    const r = numbers.compute(fs.readFileSync(file, "utf8"), 50);
    for (const s of r.statements) s.tasks = s.tasks.size;
    r.repeated = r.repeated.map(({ statement, ...more }) => ({ sql: statement.sql, place: statement.place, ...more }));
    return r;
});
console.log(JSON.stringify(list));
]]

---The numbers that the page computes from these traces.
local function computed(...)
    local folder = fs.mkdtemp()
    finally(function() fs.rmtree(folder) end)
    local command = { "node", "-e", COMPUTE, fs.realpath(VIEWER .. "numbers.js") }
    for i, text in ipairs { ... } do
        command[#command + 1] = ("%s/%d.json"):format(folder, i)
        fs.write(command[#command], text)
    end
    local result = process.run(command)
    assert.equal("", result.stderr)
    return json.decode(result.stdout)
end

local function near(expected, got, what)
    assert(math.abs(expected - got) < 0.5, ("%s: %s expected, got %s"):format(what, expected, got))
end

local function compare(text, page)
    local mine = numbers.compute(text)
    assert.equal(0, page.bad)
    for _, key in ipairs { "spans", "failed", "unfinished" } do assert.equal(mine[key], page[key], key) end
    assert.equal(mine.stop, page["end"])
    assert.equal(mine.repeated, #page.repeated)
    for _, row in ipairs(page.times) do
        if row.kind ~= "rest" then
            near(mine.times[row.kind].share, row.share, "share of " .. row.kind)
            near(mine.times[row.kind].sum, row.sum, "sum of " .. row.kind)
        end
    end
    for _, s in ipairs(page.statements) do
        local key = table.concat({ s.category, numbers.shape(s.sql), s.place }, "|")
        local own = assert(mine.statements[key], key)
        for _, name in ipairs { "calls", "total", "rows", "errors", "p95", "max" } do
            assert.equal(own[name], s[name], name .. " of " .. key)
        end
        mine.statements[key] = nil
    end
    assert.is_nil(next(mine.statements))
    local longest = {}
    for i, e in ipairs(page.events) do longest[i] = e.dur end
    table.sort(longest, function(a, b) return a > b end)
    assert.same(table.move(mine.durations, 1, math.min(50, #mine.durations), 1, {}), longest)
end

describe("the numbers of the page of a trace", function()
    if not has_node then
        pending "node is not installed, by which the page's computing runs here"
        return
    end

    it("are equal to those computed in Lua, for one task and for many", function()
        local texts = {}
        for i, tasks in ipairs { 1, 2, 5 } do
            texts[i] = table.concat(random.lines { calls = 200, tasks = tasks, seed = i })
        end
        for i, page in ipairs(computed(table.unpack(texts))) do
            compare(texts[i], page)
            assert.is_true(page.ended)
            assert.is_false(page.cut)
            assert.is_true(i > 1 or #page.repeated > 0)
        end
    end)

    it("are right for a trace without its end, and a last line that is cut is dropped", function()
        local text = table.concat(random.lines { calls = 120, tasks = 3, seed = 9, ended = false })
        local texts = { text, text:sub(1, -2), text:sub(1, -30), text:sub(1, #text // 2) }
        for i, page in ipairs(computed(table.unpack(texts))) do
            compare(texts[i], page)
            assert.is_false(page.ended)
            assert.equal(i > 2, page.cut)
        end
    end)

    it("use the counts at the end of the trace for events that were left out", function()
        local function counts(cat, sql, place, more)
            return ('{"name":"dbrun_statement","ph":"M","args":{"cat":"%s","sql":"%s","place":"%s",%s}},\n')
                :format(cat, sql, place, more)
        end
        local page = computed(table.concat {
            "[\n",
            '{"name":"select 1","cat":"postgres","ph":"X","ts":10,"dur":30,"pid":1,"tid":1,',
            '"args":{"sql":"select 1","place":"a.lua:1","task":1,"rows":1}},\n',
            counts("postgres", "select 1", "a.lua:1",
                '"calls":1000,"errors":2,"rows":998,"total_us":5000,"max_us":60,"p95_us":12'),
            counts("redis", "GET", "a.lua:2", '"calls":7,"errors":0,"rows":0,"total_us":70,"max_us":11,"p95_us":11'),
            counts("sleep", "sleep", "a.lua:2", '"calls":7,"errors":0,"rows":0,"total_us":70,"max_us":11,"p95_us":11'),
            '{"name":"dbrun_totals","ph":"M","args":{"elapsed_us":10000,"left_out":1005,',
            '"time_us":{"postgres":5000,"redis":70,"lua":4000}}}\n]\n',
        })[1]
        local sql, get = page.statements[1], page.statements[2]
        assert.equal(2, #page.statements)
        assert.same({ 1000, 5000, 998, 2, 60, 12, 5 },
            { sql.calls, sql.total, sql.rows, sql.errors, sql.max, sql.p95, sql.mean })
        assert.same({ "GET", 7, 70, false }, { get.sql, get.calls, get.total, get.counted })
        local share = {}
        for _, row in ipairs(page.times) do share[row.kind] = row.share end
        near(5000, share.postgres, "PostgreSQL")
        near(70, share.redis, "Redis")
        near(4000, share.lua, "Lua")
        near(930, share.rest, "the rest")
    end)

    it("find repeated statements, but not the beginnings and ends of transactions", function()
        local function often(sql)
            local line = '{"cat":"postgres","ph":"X","ts":%d,"dur":9,"pid":1,"tid":1,"args":{"sql":"%s","task":1}},\n'
            local list = { "[\n" }
            for i = 1, 20 do list[i + 1] = line:format(i * 10, sql:format(i)) end
            return table.concat(list)
        end
        local pages = computed(often "BEGIN", often "begin_work(%d)", often "select '%d'", often "rollback to s")
        for i, n in ipairs { 0, 1, 1, 0 } do assert.equal(n, #pages[i].repeated) end
        assert.equal(20, pages[3].repeated[1].calls)
    end)

    it("accept an empty file, and lines that are not events", function()
        local pages = computed("", "[\n", "[\n]\n", [=[
[
null,
7,
"text",
[1],
{},
{"ph":"X"},
{"ph":"X","cat":"__proto__","ts":"soon","dur":-5,"args":null},
{"ph":"X","cat":"postgres","ts":1e308,"dur":1e308,"args":{"sql":7,"place":{},"rows":"many"}},
{"ph":"e","cat":"shared","id":1,"ts":5},
{"ph":"i","cat":"error"},
{"ph":"M","name":"thread_name","args":{"name":3}},
{"ph":"M","name":"dbrun_totals","args":7},
{"ph":"X","cat":"postgres","ts":1,"dur":
{"ph":"X","cat":"constructor","ts":1,"dur":2,"pid":1,"tid":1,"args":{"sql":"</script>"}}
]=])
        for i = 1, 3 do assert.equal(0, pages[i].spans) end
        assert.is_true(pages[3].ended)
        assert.equal(4, pages[4].spans)
        assert.equal(4, pages[4].bad)
        assert.equal(1, pages[4].failed)
    end)
end)

describe("the page of a trace", function()
    local folder, page
    setup(function()
        folder = fs.mkdtemp()
        local path = folder .. "/trace.html"
        assert.equal(0, process.run({ core.options.program, "--no-env", "--trace", path, "-e", "return" }).code)
        page = fs.read(path)
    end)
    teardown(function() fs.rmtree(folder) end)

    it("runs its own script and nothing else", function()
        local hash = assert(page:match "script%-src 'sha256%-([%w+/=]+)';")
        local script = assert(page:match "<script>(.-)</script>")
        local bytes = core.digest("sha256", script):gsub("%x%x", function(x) return string.char(tonumber(x, 16)) end)
        local out = process.run({ "base64", "-w0", stdin = bytes })
        assert.equal(out.stdout, hash)
        for _, part in ipairs { "default-src 'none'", "base-uri 'none'", "form-action 'none'",
            "trusted-types 'none'" } do
            assert.is_truthy(page:find(part, 1, true), part)
        end
        assert.equal(2, select(2, page:gsub("<script", "")))
    end)

    it("loads no other file, and is small", function()
        for _, word in ipairs { "http:", "https:", "src=", "url(", "@import", "<link", "fetch(", "XMLHttp" } do
            assert.is_nil(page:find(word, 1, true), word)
        end
        assert.is_true(#page < 48 * 1024, #page)
    end)

    it("shows the contents of a trace only as text", function()
        for _, name in ipairs(fs.list(VIEWER)) do
            local text = fs.read(VIEWER .. name)
            for _, word in ipairs { "innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function(",
                "DOMParser", "Fragment", "srcdoc", "setHTML" } do
                assert.is_nil(text:find(word, 1, true), name .. " has " .. word)
            end
        end
    end)
end)
