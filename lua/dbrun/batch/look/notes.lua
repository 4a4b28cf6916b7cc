--- Notes about what a job does not see, and what only a trial can show.
local M = {}

local RANDOM <const> = { uuid = true }

local function has_random_key(walk)
    return RANDOM[walk.key[1].column.base_name] == true
end

local function behind(definition, walk)
    local random <const> = walk and has_random_key(walk)
        and (" (%s is a uuid: new rows come anywhere)"):format(walk.key[1].name) or ""
    if not definition.where then
        return "rows that come behind the job's position while it runs are not seen" .. random
            .. ", and a row whose key moves ahead is seen twice: with `where`, a second pass finds what is left"
    elseif definition.passes == 1 then
        return "rows that come behind the job's position while it runs are not seen" .. random
            .. ": passes is 1; `dbrun batch check` counts them"
    end
    return nil
end

---@param definition dbrun.batch.Definition
---@param walk? dbrun.batch.Walk
---@param report dbrun.batch.DryRun
---@return string[]
function M.of(definition, walk, report)
    local list <const> = {}
    local function add(text) list[#list + 1] = text end -- nil: nothing
    if definition.source then
        add(("its keys (%s) are read when it starts: chunks and plans are known then"):format(definition.source.text
            or "a source"))
    else
        add(behind(definition, walk))
    end
    if type(definition.run) == "function" then
        add("run is a function: what it does is known by a trial only (--try), and what it does outside of the "
            .. "database is done for real then")
    end
    local citus <const> = walk and walk.citus
    if citus and (citus.shards == 1 or type(definition.run) == "function") then
        add(("%s: Citus commits what concerns one shard alone there, and then the position; if the coordinator ends in "
            .. "that moment the chunk is done again. With a `where` that does not hold any more it is harmless"):format(
            citus.shards == 1 and walk.shown .. " is one shard" or "run is a function"))
    end
    local deletes = false
    for _, target in ipairs(report.targets or {}) do deletes = deletes or target.kind == "delete" end
    if definition.where and definition.passes > 1 and not deletes then
        add("whether `where` still holds for rows that are done is known by a trial only: if it does, there is no "
            .. "second pass")
    end
    return list
end

return M
