-- The examples of these chapters of the manual print the output in the text; see spec/support/manual.lua.
local manual = require "spec.support.manual"

describe("the manual: scripts", function()
    manual.specs(manual.chapters "scripts")
end)
