--- Which values are secret: by the key's name, or by what they look like.
local M = {}

---Words that mark a secret wherever they stand in a name.
local ANYWHERE <const> = {
    "PASSW", "PASSPHRASE", "SECRET", "TOKEN", "PRIVATE", "CREDENTIAL", "API_KEY", "APIKEY", "PWD", "JWT", "SALT",
    "WEBHOOK", "COOKIE", "BEARER", "SIGNING", "SIGNATURE", "ENCRYPT", "AUTHORIZ",
}
---Words that mark one as a whole word of the name, or at its end.
local WORDS <const> = {
    "AUTH", "OAUTH", "OAUTH2", "KEY", "KEYS", "PASS", "DSN", "CREDS", "CRED", "PEPPER", "HMAC", "OTP", "TOTP", "SAS",
    "SIG",
}
---Words that mark one at the end of a name, although no `_` is in front.
local ENDS <const> = { "AUTH", "DSN", "PASS" }

---Does the key's name mark its value as a secret?
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

local LENGTH <const>, BITS <const> = 20, 3.5

---The information of a text in bits for each character, by how often each occurs in it.
local function bits(text)
    local count, sum = {}, 0.0
    for char in text:gmatch "." do
        count[char] = (count[char] or 0) + 1
    end
    for _, n in pairs(count) do
        sum = sum - n / #text * math.log(n / #text, 2)
    end
    return sum
end

---Names of hosts and addresses of mail are long, and no secrets: labels of letters and digits, the last of letters.
local function is_host(text)
    local name <const> = text:gsub("^[%w._+-]+@", ""):gsub(":%d+$", "")
    if not name:find "^[%w-]+%.[%w.-]*%l%l+$" or name:find("..", 1, true) then
        return false
    end
    for label in text:gmatch "[^.@:]+" do
        if #label >= LENGTH and bits(label) >= BITS then
            return false
        end
    end
    return true
end

---A word that looks as if a generator had made it.
local function is_random(word)
    return #word >= LENGTH and bits(word) >= BITS and not is_host(word)
end

---Base64 has slashes, too: letters of both cases and digits, without what file names are separated by.
local function is_base64(word)
    return #word >= 2 * LENGTH and word:find "^[%w+/]+=*$" and word:find "%l" and word:find "%u" and word:find "%d"
        and (#word % 4 == 0 or word:find "=$") and bits(word) >= 4 or false
end

---Looks at the words between blanks, quotes and separators; a path is looked at part by part.
local function holds_random(text)
    for word in text:gmatch "[^%s\"'`,;|(){}<>%[%]]+" do
        local plain <const> = word:gsub("=+$", "")
        if not plain:find("/", 1, true) and is_random(plain) or is_base64(word) then
            return true
        end
        for part in plain:gmatch "[^/=?&#:]+" do
            if is_random(part) then
                return true
            end
        end
    end
    return false
end

---Does a text name a secret itself: `password=...`, `"token": "..."`, the block of a key?
local function names_secret(text)
    if text:find("-----BEGIN", 1, true) then
        return true
    end
    for name in text:gmatch "([%w_.-]+)[\"']?%s*[=:]%s*[^%s/]" do
        if M.by_name(name) then
            return true
        end
    end
    return false
end

---A URL without the user part and what looks like a secret in its path and parameters. The user part ends at the last
---`@`: the password may contain characters that should be encoded.
local function masked_url(text)
    local scheme <const>, rest = text:match "^(%a[%w+.-]*://)(.*)$"
    rest = rest:gsub("^.*@", "***@")
    rest = rest:gsub("([?&;#])([%w_.-]+)=([^&;#]*)", function(mark, name, value)
        local secret <const> = value ~= "" and (M.by_name(name) or holds_random(value))
        return ("%s%s=%s"):format(mark, name, secret and "***" or value)
    end)
    local host <const>, path <const> = rest:match "^([^/?#]*)(.*)$"
    return scheme .. host .. path:gsub("[^/?&;#=]+", function(part)
        return is_random(part) and "***" or nil
    end)
end

---The text for display: `***` when it looks like a secret, a URL without its secret parts.
---@param text string
---@return string
function M.by_value(text)
    if text:find "^%s*%a[%w+.-]*://%S+%s*$" then
        return masked_url(text:match "^%s*(.-)%s*$")
    elseif names_secret(text) or holds_random(text) then
        return "***"
    end
    -- A URL among other words.
    return (text:gsub("(%a[%w+.-]*://)%S*@", "%1***@"))
end

return M
