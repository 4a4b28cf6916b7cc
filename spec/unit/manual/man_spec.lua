-- Man pages, made from chapters and from the output of --help.
local fs = require "dbrun.fs"
local man = require "dbrun.manual.man"
local markdown = require "dbrun.manual.markdown"
local process = require "dbrun.process"

describe("a man page", function()
    it("has no line that begins a request by accident, and no bare backslash", function()
        local page = man.page("x", markdown.chapter([[
# T

What it is for.

.profile is a file, 'quoted', with a \\ and a `-v`.

```sh
.hidden
printf 'a\n'
```
]], "x.md"), ".usage\n'more")
        for line in page:gmatch "[^\n]+" do
            if line:find "^[.']" then assert.matches("^%.[TSPRnfI]", line) end
        end
        assert.matches("\\&.profile", page, 1, true)
        assert.matches("\\&.hidden", page, 1, true)
        assert.matches("printf \\(aqa\\(rsn\\(aq", page, 1, true)
        assert.matches("\\fB\\-v\\fP", page, 1, true)
        assert.matches("dbrun\\-x \\- what it is for\n", page, 1, true)
    end)

    it("exists for the program and for each command", function()
        local folder = fs.mkdtemp()
        man.write(folder)
        for _, command in ipairs { "", "-migrate", "-seed", "-verify", "-stack", "-config", "-dbmate" } do
            local name = "dbrun" .. command
            local page = fs.read(("%s/%s.1"):format(folder, name))
            assert.matches("^%.TH " .. name:upper():gsub("%-", "%%-"), page)
            assert.matches(".SH SYNOPSIS", page, 1, true)
        end
        if process.run({ "sh", "-c", "command -v groff" }).ok then
            local result = process.run { "sh", "-c", "groff -man -Tutf8 -ww " .. folder .. "/*.1 2>&1 >/dev/null" }
            assert.equal("", result.stdout)
        end
        fs.rmtree(folder)
    end)
end)
