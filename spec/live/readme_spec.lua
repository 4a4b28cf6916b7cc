-- Every example of the README that is marked with `<!-- run -->` prints what the README says.
local manual = require "spec.support.manual"

describe("the README", function()
    manual.specs { "README.md" }
end)
