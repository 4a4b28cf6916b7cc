--- PostgreSQL's programs with another initdb, for specs in which dbrun makes clusters and initdb is not what they look
--- at: the first cluster is made, the others are copies of it. An initdb takes ten times as long as a copy.
---
---     process.run { dbrun, "stack", "up", cwd = initdb.folder(), env = { DBRUN_PG_BINDIR = initdb.bindir() } }

local folder = require "spec.support.servers.folder"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local programs = require "dbrun.stack.programs"

local M = {}

local version <const> = 1 -- one more whenever SCRIPT changes

-- Another user than the servers' gets the real one, and so does who would see it fail. What cleans temporary folders
-- by age takes single files away, so an old cluster is not copied.
local SCRIPT <const> = [=[
#!/bin/sh
initdb='BINDIR/initdb' made='MADE' dir='' rest='' before=''
for word; do
    [ "$before" = -D ] && dir=$word || rest="$rest $word"
    before=$word
done
[ -w "$made" ] && [ ! -e "$dir" ] || exec "$initdb" "$@"
template=$made/$(printf %s "$rest" | cksum | tr ' ' -)
[ -n "$(find "$template" -maxdepth 0 -mtime -2 2>/dev/null)" ] && exec cp -a --reflink=auto "$template" "$dir"
"$initdb" "$@" || exit
[ -d "$dir" ] || exit 0
new=$template.$$
rm -rf "$template"
cp -a --reflink=auto "$dir" "$new" && mv -T "$new" "$template" 2>/dev/null || rm -rf "$new"
exit 0
]=]

--- A folder for DBRUN_PG_BINDIR.
---@return string
function M.bindir()
    local pg = programs.postgres()
    local path = ("%s/bin%d-%d"):format(folder.base(), pg.major, version)
    if fs.exists(path) then return path end
    local made = ("%s/made%d-%d"):format(folder.base(), pg.major, version)
    folder.make(made)
    local temporary = ("%s.%d"):format(path, process.pid())
    fs.mkdir(temporary, tonumber("755", 8))
    for _, name in ipairs(fs.list(pg.bindir)) do
        if name ~= "initdb" then fs.symlink(pg.bindir .. "/" .. name, temporary .. "/" .. name) end
    end
    fs.write(temporary .. "/initdb", SCRIPT:gsub("%u+", { BINDIR = pg.bindir, MADE = made }), tonumber("755", 8))
    if not pcall(fs.rename, temporary, path) then fs.rmtree(temporary) end -- another spec was faster
    return path
end

--- A new folder that the servers' user may enter: else root's stack puts its data elsewhere, on a disk.
---@return string
function M.folder()
    local path = fs.mkdtemp()
    fs.chmod(path, tonumber("755", 8))
    return path
end

return M
