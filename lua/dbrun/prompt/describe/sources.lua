--- `\sf NAME`: the source of functions.
local catalog <const> = require "dbrun.db.catalog"
local errors <const> = require "dbrun.error"
local tty <const> = require "dbrun.tty"

local M = {}

local SOURCES <const> = catalog.sql [[
select n.nspname::{text} as schema, p.proname::{text} as name,
       {pg_get_function_identity_arguments}(p.oid) as arguments,
       case when p.prokind {<>} 'a' then {pg_get_functiondef}(p.oid) end as source
  from {pg_proc} p join {pg_namespace} n on n.oid {=} p.pronamespace
 where ($1::{text} is null or p.proname {~} ($1::{text} collate {default}))
   and case when $2::{text} is null then {pg_function_is_visible}(p.oid)
            else n.nspname {~} ($2::{text} collate {default}) end
 order by 1, 2, 3 limit 20]]

---@param conn dbrun.Connection
---@param wanted dbrun.prompt.Pattern
---@return dbrun.prompt.Block[]
function M.blocks(conn, wanted)
    local blocks = {}
    for i, row in ipairs(conn:query(SOURCES, wanted.name, wanted.schema)) do
        local lines = {}
        for line in ((row.source or "an aggregate has no source") .. "\n"):gmatch "(.-)\n" do
            lines[#lines + 1] = line
        end
        blocks[i] = { title = ("Function %s.%s(%s)"):format(row.schema, row.name, row.arguments), text = lines }
    end
    if #blocks == 0 then
        errors.fail("usage", ("there is no function %s"):format(tty.printable(wanted.text)), "\\df lists them.")
    end
    return blocks
end

return M
