--- Whether a text looks randomly generated. Names, words and paths can also be long, but they consist of words.
local M = {}

---The letters that often follow a letter in English text. These 300 of the 676 pairs are 97 % of the pairs there, and
---44 % of those of random letters.
local FOLLOW <const> = {
    a = "bcdfgiklmnprstuvwy", b = "aeijlorsuy", c = "acehikloprstuv", d = "abdeilorsuy", e = "abcdefgilmnopqrstvwxy",
    f = "aefilorstuy", g = "aceghilmnorsu", h = "aeiortu", i = "abcdefgklmnoprstvxz", j = "aeu", k = "aeins",
    l = "adeilostuy", m = "abeilmopsu", n = "acdefgiklnostuvy", o = "abcdefgijklmnoprstuvw", p = "aceghilmoprstuy",
    q = "lu", r = "acdefgiklmnoprstuvy", s = "acehiklmnopqrstuy", t = "acdehilmoprstuwy", u = "abcdegilmnprst",
    v = "aeio", w = "aehinorsw", x = "acempt", y = "imnoprst", z = "e",
}
local WORD <const> = 3 -- letters of the shortest word that counts as one
local SHORT <const> = 7 -- characters of the longest name such as utf8mb4
local USUAL <const> = 0.75 -- share of common pairs in a word

---Whether these letters can be a word.
local function is_word(letters)
    if #letters < WORD then
        return false
    end
    local common, text = 0, letters:lower()
    for i = 1, #text - 1 do
        local others <const> = FOLLOW[text:sub(i, i)]
        common = common + (others and others:find(text:sub(i + 1, i + 1), 1, true) and 1 or 0)
    end
    return common >= USUAL * (#text - 1)
end

---Counts the characters of one run of letters and digits: those in words, and those that are not. Short runs, numbers,
---and digits after a word do not count.
local function weigh(run)
    local letters <const> = run:match "^(%a*)%d*$"
    local one_case <const> = letters and (letters:find "^%u?%l*$" or letters:find "^%u*$")
    if letters and (#letters == 0 or #letters <= WORD and one_case) or #run <= SHORT and run:find "^%l%l+%d%l*%d?$" then
        return 0, 0
    end
    local words, others = 0, one_case and 0 or select(2, run:gsub("%d", ""))
    -- HTTPServer, myServer
    local parts <const> = run:gsub("(%u)(%u%l)", "%1 %2"):gsub("(%l)(%u)", "%1 %2")
    for part in parts:gmatch "%a+" do
        if is_word(part) then
            words = words + #part
        else
            others = others + #part
        end
    end
    return words, others
end

local LEAST <const> = 10 -- of 20 generated characters, the number outside words

---Whether most of the text is words, or its parts are too short to be generated.
---@param text string
---@return boolean
function M.is_wordy(text)
    local words, others = 0, 2 * select(2, text:gsub("[!#$%%^&*~?]", "")) -- names rarely have these
    for run in text:gmatch "%w+" do
        local these <const>, those <const> = weigh(run)
        words, others = words + these, others + those
    end
    local mixed <const> = text:find "%l" and text:find "%u"
    return others < LEAST or words >= others * (mixed and 4 or 1.5)
end

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

local LENGTH <const>, BITS <const> = 20, 3.5
local FEW_BITS <const> = 3.0 -- of letters of one case: 20 random ones have 3.8 on average, hexadecimal ones 3.5

---An IPv6 address, or a time: many different digits, but not a secret.
local function is_address_or_time(word)
    if word:find "^%d%d%d%d%-?%d%d%-?%d%d[T_ ]?%d" then
        return word:find "^[%d:.TZ_+-]+$" ~= nil
    end
    if not word:find "^%[?%x*:%x*:[%x:.]*%]?" or word:find "%x%x%x%x%x" then
        return false
    end
    return word:find "^%[?[%x:.]+%]?:?%d*$" ~= nil
end

---Whether a word of 20 characters or more looks randomly generated.
---@param word string
---@return boolean
function M.is_random(word)
    local plain <const> = word:gsub("[\x80-\xff]", "") -- generators write ASCII
    if #plain < LENGTH or is_address_or_time(plain) then
        return false
    end
    local one_case <const> = plain:lower() == plain or plain:upper() == plain
    return bits(plain) >= (one_case and FEW_BITS or BITS) and plain:find "%a" ~= nil and not M.is_wordy(plain)
end

---Starts of tokens of well-known services. What follows has these characters, this many at least.
local PREFIXES <const> = {
    { "A[KS]IA", "[%u%d]", 16 }, { "gh[pousr]_", "%w", 20 }, { "github_pat_", "[%w_]", 20 },
    { "glpat%-", "[%w_-]", 16 }, { "xox[abeoprs]%-", "[%w-]", 10 }, { "[srp]k_live_", "%w", 10 },
    { "[sr]k_test_", "%w", 10 }, { "whsec_", "%w", 10 }, { "sk%-", "[%w_-]", 20 }, { "AIza", "[%w_-]", 30 },
    { "npm_", "%w", 30 }, { "pypi%-", "[%w_-]", 30 }, { "hv[sbr]%.", "[%w_-]", 20 }, { "dop_v1_", "%x", 30 },
    { "eyJ", "[%w_-]", 10 }, { "AGE%-SECRET%-KEY%-", "%w", 10 }, { "EAAC", "%w", 20 }, { "ya29%.", "[%w_-]", 10 },
}

---Whether a text contains a token of a well-known service.
---@param text string
---@return boolean
function M.holds_token(text)
    for _, prefix in ipairs(PREFIXES) do
        for found in text:gmatch("%f[%w]" .. prefix[1] .. "(" .. prefix[2] .. "+)") do
            if #found >= prefix[3] then
                return true
            end
        end
    end
    return false
end

---Base64 has slashes, too.
local function is_base64(word)
    return word:find "^[%w+][%w+/]*=*$" and word:find "%l" and word:find "%u" and M.is_random(word)
end

---Checks the words between blanks, quotes and separators; of a path, each part.
---@param text string
---@return boolean
function M.is_in(text)
    if M.holds_token(text) or not text:find "[%s/]" and M.is_random(text) then
        return true
    end
    for word in text:gmatch "[^%s\"'`,;|(){}<>%[%]]+" do
        local plain <const> = word:gsub("=+$", "")
        if not plain:find("/", 1, true) and M.is_random(plain) or is_base64(word) then
            return true
        end
        for part in plain:gmatch "[^/\\=?&#:]+" do
            if M.is_random(part) then
                return true
            end
        end
    end
    return false
end

return M
