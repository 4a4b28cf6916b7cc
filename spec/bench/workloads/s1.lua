-- S1: the whole life of a process that does nothing.
local contender <const> = require "bench.lib.contender"
local shell <const> = require "bench.lib.shell"

local RUNS <const> = 40

--- The libraries that a program asks the dynamic linker for, as words for the linker; and libpq, which dbrun opens
--- when it connects, and which a program that is linked with it pays for at each start.
local function needed(program)
    local words <const> = { "-Wl,--no-as-needed", "-l:libpq.so.5" }
    for name in shell.must({ "readelf", "-d", program }):gmatch "%(NEEDED%)[^%[]*%[([^%]]+)%]" do
        if not name:match "^libc%." then words[#words + 1] = "-l:" .. name end
    end
    return words
end

return {
    id = "S1", order = 21, title = "start and end: dbrun -e ''", metric = "time", alone = true,
    ours = {
        contender.process {
            name = "dbrun", kind = "ours", runs = RUNS,
            argv = function(ctx) return { ctx.dbrun, "-e", "" } end,
        },
    },
    others = {
        contender.process {
            name = "C, same libraries", kind = "floor", runs = RUNS,
            missing = function()
                if not shell.which "readelf" then return "binutils" end
            end,
            argv = function(ctx) return { ctx:compile("nothing", needed(ctx.dbrun)) } end,
        },
        contender.process {
            name = "lua5.4", kind = "peer", runs = RUNS,
            missing = function()
                if not shell.which "lua5.4" then return "lua5.4" end
            end,
            argv = function() return { "lua5.4", "-e", "" } end,
        },
    },
    targets = {
        { metric = "time", against = "C, same libraries", at_most = 1.15 },
    },
}
