--- Which values are secret: by the key's name, or by what they look like.

---The code that distinguishes generated text from words is loaded when a value has to be judged.
local random <const> = setmetatable({}, { __index = function(_, name) return require "dbrun.config.random"[name] end })

local M = {}

---Words that mark a secret anywhere in a name.
local ANYWHERE <const> = {
    "PASSW", "PASSPHRASE", "SECRET", "TOKEN", "PRIVATE", "CREDENTIAL", "API_KEY", "APIKEY", "PWD", "JWT", "SALT",
    "WEBHOOK", "COOKIE", "BEARER", "SIGNING", "SIGNATURE", "ENCRYPT", "AUTHORIZ",
}
---Words that mark a secret as a whole word of the name, or at its end.
local WORDS <const> = {
    "AUTH", "OAUTH", "OAUTH2", "KEY", "KEYS", "PASS", "DSN", "CREDS", "CRED", "PEPPER", "HMAC", "OTP", "TOTP", "SAS",
    "SIG",
}
---Words that mark a secret at the end of a name, even without a `_` before them.
local ENDS <const> = { "AUTH", "DSN", "PASS" }

---Whether the key's name marks its value as a secret.
---@param key string
---@return boolean
function M.by_name(key)
    -- apiKey and api-key are written API_KEY
    local name <const> = key:gsub("(%l)(%u)", "%1_%2"):gsub("[^%w]+", "_"):upper()
    for _, word in ipairs(ANYWHERE) do
        if name:find(word, 1, true) then
            return true
        end
    end
    for _, word in ipairs(WORDS) do
        if ("_" .. name .. "_"):find("_" .. word .. "_", 1, true) then
            return true
        end
    end
    for _, word in ipairs(ENDS) do
        if name:sub(-#word) == word then
            return true
        end
    end
    return false
end

---Endings of names of keys that hold the place of a secret.
local PLACES <const> = { "_FILE", "_PATH", "_DIR", "_FOLDER" }

---Whether the value of such a key is a path: then it is the place of the secret, not the secret.
---@param key string
---@param value string
---@return boolean
function M.is_place(key, value)
    local path <const> = value:find "^[.~]*/[^%s@]*$" and not random.is_in(value)
    for _, ending in ipairs(path and PLACES or {}) do
        if key:upper():sub(-#ending) == ending then
            return true
        end
    end
    return false
end

---Authentication schemes before their credentials.
local SCHEMES <const> = { bearer = true, basic = true, token = true, apikey = true, negotiate = true, digest = true }

---`Bearer ...`, `Basic ...`; but not "basic functions".
local function is_authorization(text)
    local name <const>, value <const> = text:match "^%s*([%a-]+)%s+(%S+)%s*$"
    local scheme <const> = name and name:lower():gsub("%-", "")
    return name and SCHEMES[scheme] and (scheme == "bearer" or value:find "%d" or not random.is_wordy(value))
end

---Patterns for `NAME=`, `"NAME": `, `<NAME>`, `--NAME `, followed by a value.
local NAMED <const> = {
    "([%w_.-]+)[\\\"']*%s*[=:]%s*[^%s/]", "<([%w_.:-]+)[^<>]*>[^<%s]", "%-%-([%w-]+)%s+[^%s-]",
    "([%w_.-]+)%%3[aAdD]%S",
}

---Whether a text names a secret itself: `password=...`, `"token": "..."`, the block of a key.
local function names_secret(text)
    if text:find("-----BEGIN", 1, true) or (" " .. text):find "%s%-u%s+[^%s:]+:%S" or is_authorization(text) then
        return true
    end
    for _, pattern in ipairs(NAMED) do
        for name in text:gmatch(pattern) do
            if M.by_name(name) then
                return true
            end
        end
    end
    return false
end

---Words before a colon that are not a user.
local NO_USER <const> = { mailto = true, sip = true, sips = true, xmpp = true, acct = true, npm = true }

---The user part of an address without a scheme: `//user:password@host`, `user:password@host`.
local function hide_bare_user(word)
    local user <const>, host <const> = word:match "^([^/@:=]+):[^@]*@+([^@]*)$"
    if user and not NO_USER[user:lower()] and not host:find "^sha%d+:" then
        return "***@" .. host
    end
    word = word:gsub("^//[^/]*@", "//***@")
    return (word:gsub("[%w_$#.]+/[^/@]+@//", "***@//")) -- Oracle's: user/password@//host
end

---The name of a host with a dot, or this machine; a port may follow.
local function is_plain_host(authority)
    local name <const> = authority:gsub(":%d+$", "")
    return name == "localhost" or name:find "^[%w-]+%.[%w.-]+$" ~= nil
end

---Hides the user part of a URL, after `://`. It ends at the last `@`, because a password may contain unencoded
---characters; after a plain host an `@` is part of the path.
local function hide_url_user(rest)
    if is_plain_host(rest:match "^[^/?#]*") then
        return rest
    end
    return (rest:gsub("^.*@", "***@"))
end

---The text without the user parts of addresses.
---@param text string
---@return string
function M.without_users(text)
    text = text:gsub("(%a[%w+.-]*://)(%S*)", function(scheme, rest) return scheme .. hide_url_user(rest) end)
    -- A password with blanks.
    text = text:gsub("(://[^%s/:@]*:)[^/@\n]*@", "%1***@"):gsub("://[^%s/:@]*:%*%*%*@", "://***@")
    return (text:gsub("[^%s\"'`,;|(){}<>]+", function(word)
        return not word:find("://", 1, true) and hide_bare_user(word) or nil
    end))
end

---A URL without its user part and without probable secrets in its path and parameters.
local function masked_url(text)
    local scheme <const>, rest = text:match "^(%a[%w+.-]*://)(.*)$"
    rest = hide_url_user(rest):gsub("([?&;#])([%w_.-]+)=([^&;#]*)", function(mark, name, value)
        local secret <const> = value ~= "" and (M.by_name(name) or random.is_in(value))
        return ("%s%s=%s"):format(mark, name, secret and "***" or value)
    end)
    local host <const>, path <const> = rest:match "^([^/?#]*)(.*)$"
    return scheme .. host .. path:gsub("[^/?&;#=]+", function(part)
        return (random.is_random(part) or random.holds_token(part)) and "***" or nil
    end)
end

---The text for display: `***` when it looks like a secret, a URL without its secret parts.
---@param text string
---@return string
function M.by_value(text)
    if text:find "^%s*%a[%w+.-]*://%S+%s*$" then
        return masked_url(text:match "^%s*(.-)%s*$")
    elseif names_secret(text) or text:find "^jdbc:oracle:%a+:[^/@]+/[^@]+@" then
        return "***"
    end
    local shown <const> = M.without_users(text)
    return random.is_in(shown) and "***" or shown
end

return M
