-- No command of Redis changes anything on the server in a dry run, however it is sent.
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local redis_server = require "spec.support.redis_server"

--- Sends each command of the server, and each subcommand, with a few sets of arguments: alone, in a pipeline, on a
--- dedicated connection.
local SCRIPT <const> = [[
local r = require "dbrun.redis".get()
local ARGUMENTS <const> = {
    {}, { "k" }, { "k", "1" }, { "k", "a", "1" }, { "k", "1", "a", "2" }, { "1", "k", "2", "b" }, { "k", "k2" },
    { "k", "k2", "1", "1", "1" }, { "k", "0", "-1" }, { "k", "FIELDS", "1", "a" }, { "k", "1", "FIELDS", "1", "a" },
}
local sent, c = 0, nil
--- After them a connection answers in another way, or not at all.
local CHANGES <const> = { CLIENT = true, MULTI = true, AUTH = true, SELECT = true }
local function try(name, words)
    pcall(r.call, r, name, table.unpack(words))
    pcall(r.pipeline, r, function(p) p:call(name, table.unpack(words)) end)
    pcall(r.multi, r, function(tx) tx:call(name, table.unpack(words)) end)
    c = c or r:acquire()
    pcall(c.call, c, name, table.unpack(words))
    pcall(c.raw, c, name, table.unpack(words))
    if CHANGES[name] or c:lost() then
        c:discard()
        c = nil
    end
    sent = sent + 1
end
local WAITS <const> = { XREAD = true, WAIT = true, WAITAOF = true, MONITOR = true, SUBSCRIBE = true, PSUBSCRIBE = true,
    SSUBSCRIBE = true, UNSUBSCRIBE = true, PUNSUBSCRIBE = true, SUNSUBSCRIBE = true, SYNC = true, PSYNC = true,
    HELLO = true, QUIT = true, RESET = true, REPLCONF = true }
for _, info in ipairs(r:command()) do
    local name = info[1]:upper()
    for i, words in ipairs(WAITS[name] and {} or ARGUMENTS) do
        if i <= 5 or info[2] ~= 2 then try(name, words) end
    end
    for _, sub in ipairs(info[10] or {}) do
        local word = sub[1]:match "|(.*)$"
        for i = 1, 3 do
            try(name, { word, table.unpack(ARGUMENTS[i]) })
        end
    end
end
if c then c:close() end
print(sent)
]]

--- They have the write flag, but write only with an option. (The arguments sent here had none.)
local WITH_AN_OPTION <const> = {
    sort = true, getex = true, bitfield = true, georadius = true, georadiusbymember = true,
}

describe("a dry run", function()
    local server, r
    redis_server.around(_ENV, function(...) server, r = ... end)

    local function state()
        local text <const> = {}
        for name, value in pairs(r:config("GET", "*")) do text[#text + 1] = name .. "=" .. value end
        table.sort(text)
        text[#text + 1] = r:debug "DIGEST"
        text[#text + 1] = table.concat(r:acl "LIST", "\n")
        text[#text + 1] = tostring(#r:call("FUNCTION", "LIST")) .. tostring(r:lastsave()) .. r:role()[1]
        return table.concat(text, "\n")
    end

    it("sends no command that changes anything", function()
        r:set("k", "1")
        r:set("k2", "2")
        local bystander <close> = r:acquire()
        local id <const> = bystander:client "ID"
        local folder <const> = fs.mkdtemp()
        fs.write(folder .. "/script.lua", SCRIPT)
        r:config "RESETSTAT"
        local before <const> = state()
        local result <const> = process.run {
            core.options.program, "--no-env", "--dry-run", folder .. "/script.lua",
            env = { REDIS_URL = server.url }, timeout = 60,
        }
        fs.rmtree(folder)
        assert.equal(0, result.code, result.stderr)
        assert.is_true(tonumber(result.stdout) > 500)
        assert.equal(before, state())
        assert.equal(id, bystander:client "ID") -- it was not killed
        local writes <const> = {}
        local called = 0
        for name in r:info "commandstats":gmatch "cmdstat_(%S-):" do
            local info <const> = r:command("INFO", name)[1]
            called = called + 1
            for _, flag in ipairs(info and info[3] or {}) do
                if flag == "write" and not WITH_AN_OPTION[name] then writes[#writes + 1] = name end
            end
        end
        assert.same({}, writes)
        assert.is_true(called > 50)
    end)
end)
