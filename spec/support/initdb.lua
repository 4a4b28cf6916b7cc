--- PostgreSQL's programs with a faster initdb, for specs that make clusters but do not test initdb: it makes the first
--- cluster and copies it for the others. A real initdb takes ten times as long as a copy.
---
---     process.run { dbrun, "stack", "up", cwd = initdb.folder(), env = { DBRUN_PG_BINDIR = initdb.bindir() } }

local folder = require "spec.support.servers.folder"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local programs = require "dbrun.stack.programs"

local M = {}

local version <const> = 2 -- increment it whenever SCRIPT changes

-- Users other than the servers' get the real initdb, and so do calls that it refuses (the folder exists). Programs that
-- clean temporary folders by age remove single files, so an old cluster is not copied. Nobody can connect to template0,
-- the second database that initdb makes, so copies on the same file system share its files; the free space maps and
-- visibility maps are not needed.
local SCRIPT <const> = [=[
#!/bin/sh
initdb='BINDIR/initdb' made='MADE' dir='' rest='' before=''
for word; do
    [ "$before" = -D ] && dir=$word || rest="$rest $word"
    before=$word
done
[ -w "$made" ] && [ ! -e "$dir" ] || exec "$initdb" "$@"
template=$made/$(printf %s "$rest" | cksum | tr ' ' -)
if [ -n "$(find "$template" -maxdepth 0 -mtime -2 2>/dev/null)" ]; then
    cp -a --reflink=auto "$template/data" "$dir" || exit
    cp -al "$template"/template0/* "$dir/base" 2>/dev/null || exec cp -a "$template"/template0/* "$dir/base"
    exit
fi
"$initdb" "$@" || exit
[ -d "$dir" ] || exit 0
new=$template.$$
rm -rf "$template"
mkdir -p "$new/template0" && cp -a --reflink=auto "$dir" "$new/data" && rm -f "$new"/data/base/*/*_fsm \
    "$new"/data/base/*/*_vm && second=$(ls "$new/data/base" | sort -n | sed -n 2p) &&
    mv "$new/data/base/$second" "$new/template0" && mv -T "$new" "$template" 2>/dev/null || rm -rf "$new"
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

--- A new folder that the servers' user can enter; otherwise root's stack would put its data elsewhere, on a disk.
---@return string
function M.folder()
    local path = fs.mkdtemp()
    fs.chmod(path, tonumber("755", 8))
    return path
end

return M
