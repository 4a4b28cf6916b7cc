-- S1: a whole process that does nothing.
local contender <const> = require "bench.lib.contender"
local shell <const> = require "bench.lib.shell"

local RUNS <const> = 40

--- The libraries that a program needs from the dynamic linker, as words for the linker.
local function needed(program)
    local words <const> = { "-Wl,--no-as-needed" }
    for name in shell.must({ "readelf", "-d", program }):gmatch "%(NEEDED%)[^%[]*%[([^%]]+)%]" do
        if not name:match "^libc%." then words[#words + 1] = "-l:" .. name end
    end
    return words
end

--- A C program that does nothing: linked with libpq, like any client of both databases, or without libpq, like dbrun,
--- which opens it when it connects.
local function nothing(name, as, libpq)
    return contender.process {
        name = name, kind = "floor", runs = RUNS,
        missing = function()
            if not shell.which "readelf" then return "binutils" end
        end,
        argv = function(ctx)
            local words <const> = needed(ctx.dbrun)
            words[#words + 1] = libpq
            return { ctx:compile("nothing", words, as) }
        end,
    }
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
        nothing("C, same libraries", "nothing", "-l:libpq.so.5"),
        nothing("C, without libpq", "nothing_without_libpq"),
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
