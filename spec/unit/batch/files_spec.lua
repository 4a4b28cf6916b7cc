--- The files of an archive: unrecorded bytes are cut off, and files of others are never touched.
local files <const> = require "dbrun.batch.kinds.files"
local fs <const> = require "dbrun.fs"
local log <const> = require "dbrun.log"
local process <const> = require "dbrun.process"

describe("the files of an archive", function()
    local dir, pattern
    before_each(function()
        dir = fs.mkdtemp()
        pattern = dir .. "/deep/rows-%w.csv"
    end)
    after_each(function() fs.rmtree(dir) end)

    local function raised(fn, ...)
        local ok <const>, e <const> = pcall(fn, ...)
        assert.is_false(ok)
        return e
    end

    it("grow by recorded bytes, and lose the bytes of a chunk without a commit", function()
        local file <const> = files.take(pattern, "a job", {}, false)
        assert.equal(dir .. "/deep/rows-1.csv", file.path)
        local note <const> = files.append(file, {}, "one\n")
        assert.same({ [process.host_name() .. ":" .. file.path] = 4 }, note)
        files.append(file, { note }, "lost, and longer\n")
        assert.equal("one\nlost, and longer\n", fs.read(file.path))
        local second <const> = files.append(file, { {}, note }, "two\n")
        assert.equal("one\ntwo\n", fs.read(file.path))
        assert.equal(8, files.length(file, { note, second }))
    end)

    it("are one for each worker, and are found again by their numbers", function()
        local one <const> = files.take(pattern, "a job", {}, false)
        local note <const> = files.append(one, {}, "one\n")
        local two <const> = files.take(pattern, "a job", { note }, false)
        assert.equal("rows-2.csv", fs.basename(two.path))
        files.append(two, { note }, "not noted")
        one.lock:release()
        two.lock:release()
        assert.equal(one.path, files.take(pattern, "a job", { note }, false).path)
        local again <const> = files.take(pattern, "a job", { note }, false)
        assert.equal(two.path, again.path)
        files.append(again, { note }, "2")
        assert.equal("2", fs.read(two.path))
    end)

    it("of others are never touched", function()
        fs.mkdir_p(dir .. "/deep")
        fs.write(dir .. "/deep/rows-1.csv", "of last year")
        assert.equal("rows-2.csv", fs.basename(files.take(pattern, "a job", {}, false).path))
        assert.is_false(fs.exists(dir .. "/deep/rows-1.csv.lock"))
        -- The earlier job of that name has left its lock file: this is another job.
        assert.equal("rows-3.csv", fs.basename(files.take(pattern, "a job, later", {}, false).path))
        assert.equal("of last year", fs.read(dir .. "/deep/rows-1.csv"))
    end)

    it("whose record is lost are not cut: a new one is begun", function()
        local file <const> = files.take(pattern, "a job", {}, false)
        local note <const> = files.append(file, {}, "one\n")
        files.append(file, { note }, "two\n")
        file.lock:release()
        assert.equal("rows-2.csv", fs.basename(files.take(pattern, "a job", {}, false).path))
        assert.equal("one\ntwo\n", fs.read(file.path))
    end)

    it("that are shorter than their record stop the job; one that was moved away does not", function()
        local file <const> = files.take(pattern, "a job", {}, false)
        local note <const> = files.append(file, {}, "one\n")
        file.lock:release()
        fs.write(file.path, "o")
        local e <const> = raised(files.take, pattern, "a job", { note }, false)
        assert.equal(("'%s' has 1 bytes, and 4 were written: rows of the archive are lost"):format(file.path),
            e.message)
        fs.unlink(file.path)
        local level <const> = log.level()
        log.level "error"
        local other <const> = files.take(pattern, "a job", { note }, false)
        log.level(level)
        assert.equal("rows-2.csv", fs.basename(other.path))
    end)

    it("are gzip members, one per chunk", function()
        local file <const> = files.take(dir .. "/rows-%w-%%.gz", "a job", {}, true)
        local note = files.append(file, {}, ("one\n"):rep(1000))
        note = files.append(file, { note }, "two\n")
        assert.equal(fs.stat(file.path).size, files.length(file, { note }))
        assert.is_true(fs.stat(file.path).size < 200)
        assert.equal(("one\n"):rep(1000) .. "two\n", process.run { "gzip", "-dc", file.path }.stdout)
    end)

    it("have no partial data and no lock file when the job is done", function()
        local one <const> = files.take(pattern, "a job", {}, false)
        local two <const> = files.take(pattern, "a job", {}, false)
        local note <const> = files.append(one, {}, "one\n")
        files.append(one, { note }, "killed")
        files.append(two, {}, "killed before its first commit")
        one.lock:release()
        two.lock:release()
        files.finish(pattern, "a job", { note })
        assert.same({ "rows-1.csv" }, fs.list(dir .. "/deep"))
        assert.equal("one\n", fs.read(one.path))
    end)

    it("report a wrong name, and a full disk", function()
        assert.equal("batch.archive: the file's name has no %w", raised(files.check, "batch.archive", "a.csv").message)
        assert.equal("batch.archive: the file's name has %x", raised(files.check, "batch.archive", "a-%x-%w").message)
        files.check("batch.archive", "%h-%w-100%%.csv")
        local e <const> = raised(files.append, { path = "/dev/full", key = "k", known = true, job = "" }, {}, "text")
        assert.equal("io", e.kind)
        assert.match("^cannot write '/dev/full': .*No space left on device", e.message)
        assert.match("^the rows are still in the table", e.hint)
    end)
end)
