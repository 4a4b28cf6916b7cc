--- The command line of a child as it is listed: quoted as for a shell, with probable secrets masked.
local mask <const> = require "dbrun.config.mask"

local M = {}

--- Programs whose short options carry a password: in the next word, or after the letter ("-psecret").
---@type table<string, { next?: string, behind?: string }>
local SHORT <const> = {
    ["redis-cli"] = { next = "-a" }, ["valkey-cli"] = { next = "-a" }, sshpass = { next = "-p", behind = "-p" },
    mysql = { behind = "-p" }, mysqldump = { behind = "-p" }, mysqladmin = { behind = "-p" },
    mariadb = { behind = "-p" }, ["mariadb-dump"] = { behind = "-p" }, ["mariadb-admin"] = { behind = "-p" },
    mongosh = { next = "-p" }, mongodump = { next = "-p" }, sqlcmd = { next = "-P" }, ldapsearch = { next = "-w" },
}

--- Hides secrets in one word after the other.
local function new_hider()
    local hide, user, short = false, false, nil
    return function(word)
        local is_option <const> = word:find "^%-%-?%a[%w_-]*$" ~= nil
        local shown
        if hide and not is_option then
            shown = "***"
        elseif user and word:find "^[^:/]+:." then -- curl -u name:password
            shown = word:match "^[^:]+" .. ":***"
        elseif short and short.behind and #word > 2 and word:sub(1, 2) == short.behind then
            shown = short.behind .. "***"
        else
            shown = mask.by_value(word)
        end
        hide = is_option and (mask.by_name(word) or short ~= nil and word == short.next)
        user = word == "-u" or word == "--user" or word == "-U"
        short = SHORT[word:match "[^/]*$"] or short
        return shown
    end
end

--- A shell command: probable secrets are masked, the rest is unchanged.
---@param command string
---@return string
function M.shell_line(command)
    return (command:gsub("[^%s;|&()]+", new_hider()))
end

--- A program and its arguments.
---@param words string[]
---@return string
function M.line_of(words)
    local shown <const>, hider <const> = {}, new_hider()
    for i, word in ipairs(words) do
        local text <const> = hider(word)
        word = text == word and word:find "%s" and M.shell_line(word) or text -- sh -c "..."
        shown[i] = word:find "^[%w@%%+=:,./_*-]+$" and word or "'" .. word:gsub("'", "'\\''") .. "'"
    end
    return table.concat(shown, " ")
end

return M
