--- The memory of a large program: it computes the same values with mimalloc and without it.

local run <const> = require "spec.support.command".run

local SANITIZED <const> = os.getenv "ASAN_OPTIONS" ~= nil

--- Makes, keeps, grows and drops random strings and tables, 50 MiB in all, and prints a checksum of the kept ones.
local WORK <const> = [[
    local state = 42
    local function chance(n) state = (state * 1103515245 + 12345) & 0x7fffffff return (state >> 8) % n end
    local function digest(s)
        local h = #s
        for i = 1, #s, 1 + #s // 32 do h = (h * 31 + s:byte(i)) & 0xffffffff end
        return h
    end
    local kept, sums, total = {}, {}, 0
    for round = 1, 7000 do
        local slot = chance(600)
        local old = kept[slot]
        if old then
            assert(digest(type(old) == "table" and table.concat(old, ",") or old) == sums[slot], "a value has changed")
        end
        local size = chance(20) == 0 and chance(200000) or chance(400)
        local new
        if chance(3) == 0 then
            new = {}
            for i = 1, size // 8 do new[i] = i * round end
            for _ = 1, chance(#new + 1) do new[#new] = nil end
        else
            new = string.rep(string.char(97 + chance(26)), size) .. round
        end
        kept[slot] = new
        sums[slot] = digest(type(new) == "table" and table.concat(new, ",") or new)
        total = (total * 7 + sums[slot]) & 0xffffffff
    end
    print(total)
]]

local LIBRARIES <const> = [[
    local found = {}
    for line in io.lines "/proc/self/maps" do
        local name = line:match "/(libmimalloc[^/]*)$"
        if name then found[name] = true end
    end
    print(next(found) and "there" or "none")
]]

describe("the memory of a large program", function()
    local files <const> = { ["work.lua"] = WORK, ["libraries.lua"] = LIBRARIES }
    local plain <const> = run("lua work.lua", files, "theirs").out

    it("has the contents of stock Lua's, in mimalloc if that is installed; a small program never opens it", function()
        local installed <const> = os.execute "ldconfig -p | grep -q 'libmimalloc\\.so\\.2 '"
        assert.same({ out = "none\n", err = "", code = 0 }, run("lua libraries.lua", files))
        assert.same({ out = plain .. (installed and not SANITIZED and "there\n" or "none\n"), err = "", code = 0 },
            run([[lua -e 'dofile "work.lua" dofile "libraries.lua"']], files))
    end)

    it("grows until the last finaliser has run", function()
        local code <const> = [[
            dofile "work.lua"
            local grown, n = { 1 }, 0
            setmetatable({}, { __gc = function()
                for i = 1, 100000 do grown[i], grown["k" .. i] = i, i end
                for _ in pairs(grown) do n = n + 1 end
                print(n, grown[99999], grown.k100000)
            end })
        ]]
        local more <const> = { ["work.lua"] = WORK, ["end.lua"] = code }
        assert.same({ out = plain .. "200000\t99999\t100000\n", err = "", code = 0 }, run("lua end.lua", more))
    end)

    it("is the C library's when mimalloc has other functions, or no room for its area", function()
        local other <const> = "echo 'int other;' >o.c && cc -shared -o libmimalloc.so.2 o.c && LD_LIBRARY_PATH=$PWD "
        assert.same({ out = plain, err = "", code = 0 }, run(other .. "lua work.lua", files))
        if not SANITIZED then -- they need more address space
            assert.same({ out = plain, err = "", code = 0 }, run("ulimit -v 2000000; lua work.lua", files))
        end
    end)

    it("can run out with an error that a program can catch", function()
        if SANITIZED then
            pending "a limit of addresses leaves no room for the sanitizers"
            return
        end
        local fill <const> = [[
            local ok, e = pcall(function()
                local kept = {}
                while true do kept[#kept + 1] = string.rep(tostring(#kept), 1000000) end
            end)
            collectgarbage()
            print(ok, e)
        ]]
        local all <const> = { ["work.lua"] = WORK, ["fill.lua"] = fill }
        for _, limit in ipairs { "-v 200000", "-d 100000" } do -- of addresses; of memory that can be written
            local r <const> = run(("ulimit %s; lua -e 'dofile \"fill.lua\" dofile \"work.lua\"'"):format(limit), all)
            assert.same({ out = "false\tnot enough memory\n" .. plain, err = "", code = 0 }, r)
        end
    end)
end)
