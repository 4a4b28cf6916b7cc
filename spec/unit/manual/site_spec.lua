-- The manual as a folder of HTML files.
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local library = require "dbrun.manual.library"
local site = require "dbrun.manual.site"

describe("the manual in HTML", function()
    local folder
    setup(function()
        folder = fs.mkdtemp() .. "/manual"
        site.write(folder)
    end)
    teardown(function() fs.rmtree(fs.dirname(folder)) end)

    local function pages()
        local list = {}
        for _, name in ipairs(fs.list(folder)) do
            if name:find "%.html$" then list[name] = fs.read(folder .. "/" .. name) end
        end
        return list
    end

    it("has a page for each chapter, the functions and an index", function()
        local list = pages()
        for _, topic in ipairs(library.topics()) do
            assert.matches("<h1>", list[topic .. ".html"], 1, true)
            assert.matches(('href="%s.html"'):format(topic), list["index.html"], 1, true)
        end
        assert.matches('id="engine-query"', list["functions.html"], 1, true)
    end)

    it("has links with valid targets, also within a page", function()
        local list = pages()
        for name, text in pairs(list) do
            for target in text:gmatch 'href="([^"]+)"' do
                local file, anchor = target:match "^([^#]*)#?(.*)$"
                if not target:find "^https?:" then
                    local there = list[file == "" and name or file]
                    assert.is_true(there ~= nil or file == "manual.css", name .. ": " .. target)
                    if anchor ~= "" then assert.matches(('id="%s"'):format(anchor), there, 1, true) end
                end
            end
        end
    end)

    it("loads nothing from elsewhere, and runs nothing within a page", function()
        for name, text in pairs(pages()) do
            for source in text:gmatch 'src="([^"]*)"' do assert.equal("search.js", source, name) end
            assert.is_nil(text:find "<script>", name)
            assert.is_nil(text:find '%son%a+="', name)
            assert.is_nil(text:find("@import", 1, true))
        end
        assert.is_nil(fs.read(folder .. "/manual.css"):find("url(", 1, true))
    end)

    it("has the search index as a script with valid places", function()
        local script = fs.read(folder .. "/search.js")
        local index = script:match "^var LINES = (%[.*%]);\n%(function"
        assert.is_nil(index:find("<", 1, true))
        assert.is_nil(script:find("innerHTML", 1, true))
        local list, lines = pages(), json.decode(index)
        assert.is_true(#lines > 500)
        for _, line in ipairs(lines) do
            local file, anchor = line[2]:match "^([^#]*)#?(.*)$"
            assert.is_true(list[file] ~= nil, line[2])
            local place = ('id="%s"'):format(anchor)
            assert.is_true(anchor == "" or list[file]:find(place, 1, true) ~= nil, line[2])
        end
    end)
end)
