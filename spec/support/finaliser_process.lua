--- dbrun spec/support/finaliser_process.lua: reads a child's output while a finaliser disturbs it at every moment.

local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local finaliser <const> = require "spec.support.finaliser"

local TEXT <const> = ("x"):rep(5000) .. "\nsecond\n"

for act, fn in pairs {
    close = function(x) x.child:close() end,
    output = function(x) x.seen = x.child:output(1) end,
    line = function(x) x.seen = x.child:line() end,
} do
    for _, method in ipairs { "output", "line" } do
        finaliser.at_every_moment {
            prepare = function()
                local x <const> = { child = core.process.start { argv = { "printf", "%s", TEXT },
                    stdin = "null", stdout = "pipe" } }
                x.child:wait "end"
                return x
            end,
            run = function(x) return x.child[method](x.child, 1) end,
            act = fn,
            check = function(x, ok, text)
                x.child:close()
                local all <const> = #(x.seen or "") + #(ok and text or "")
                assert(ok or errors.is(text), text)
                assert(all <= #TEXT, ("%s, %s: %d bytes are more than came"):format(method, act, all))
                if ok and method == "output" then
                    assert(all == #TEXT, ("%s, %s: %d bytes are not all"):format(method, act, all))
                end
            end,
        }
    end
end
