-- Folders with many files have a README.md that lists them.
local fs = require "dbrun.fs"

local MANY <const> = 10
local ENDINGS <const> = { [".lua"] = true, [".c"] = true, [".h"] = true, [".py"] = true, [".sh"] = true }
local DATA <const> = { ["spec/support/dbmate"] = true, ["lua/manual"] = true }

describe("a folder with many files", function()
    ---The names of the files in a folder, and its folders.
    local function contents(folder)
        local files, folders = {}, {}
        for _, name in ipairs(fs.list(folder)) do
            local path = folder .. "/" .. name
            if fs.stat(path).kind == "folder" then
                folders[#folders + 1] = path
            elseif name ~= "README.md" and not name:find "%.dict$" then
                files[#files + 1] = name
            end
        end
        return files, folders
    end

    local checked = 0
    local function check(folder)
        if DATA[folder] then return end
        local files, folders = contents(folder)
        if #files > MANY then
            assert.is_true(fs.exists(folder .. "/README.md"), folder .. " has no README.md")
            local text = fs.read(folder .. "/README.md")
            for _, name in ipairs(files) do
                assert.is_truthy(text:find("`" .. name .. "`", 1, true), folder .. "/README.md does not name " .. name)
            end
            for name, ending in text:gmatch "`([%w_]+(%.%l+))`" do
                if ENDINGS[ending] then
                    assert.is_true(fs.exists(folder .. "/" .. name), folder .. "/README.md names " .. name)
                end
            end
            checked = checked + 1
        end
        for _, sub in ipairs(folders) do check(sub) end
    end

    it("names each of them in its README.md, and nothing else", function()
        for _, folder in ipairs { "lua", "spec" } do check(folder) end
        assert.is_true(checked >= 5)
    end)
end)
