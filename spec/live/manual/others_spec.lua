-- The examples of the chapters that are in no other group print the output in the text; see spec/support/manual.lua.
local fs = require "dbrun.fs"
local manual = require "spec.support.manual"

describe("the manual: the other chapters", function()
    manual.specs(manual.chapters "others")

    it("has a spec file for each group", function()
        for group in pairs(manual.GROUPS) do
            assert.is_true(fs.exists(("spec/live/manual/%s_spec.lua"):format(group)), group)
        end
    end)
end)
