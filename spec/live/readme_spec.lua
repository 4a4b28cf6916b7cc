-- Every example of the README that is marked with `<!-- run -->` prints the output in the README.
local manual = require "spec.support.manual"

describe("the README", function()
    manual.specs { "README.md" }
end)
