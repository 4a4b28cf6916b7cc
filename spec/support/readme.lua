--- Finds the examples of a Markdown file that are marked to be run: a fenced block of `lua` or `sh` after a line
--- `<!-- run -->` (`<!-- run, exit 1 -->` when it must fail). If the next fenced block is `text`, it is the expected
--- output.
local M = {}

---@class spec.Example
---@field language "lua"|"sh"
---@field code string
---@field line integer where the block begins
---@field status integer exit status
---@field output string|nil

---@param text string of the Markdown file
---@return spec.Example[]
function M.examples(text)
    local list, number = {}, 0
    local marked, block, last -- marked: the expected exit status of the next block, or nil when it is not run
    for line in (text .. "\n"):gmatch "(.-)\n" do
        number = number + 1
        local fence = line:match "^```(%a*)"
        if block and fence then
            local code = table.concat(block.lines, "\n")
            if block.marked then
                last = { language = block.language, code = code, line = block.line, status = block.marked }
                list[#list + 1] = last
            else
                if last and block.language == "text" then
                    last.output = code
                end
                last = nil
            end
            block, marked = nil, nil
        elseif block then
            block.lines[#block.lines + 1] = line
        elseif fence then
            block = { language = fence, marked = marked, line = number, lines = {} }
        elseif line:find "%S" then
            local status = line:match "^<!%-%- run(.*) %-%->$"
            marked = status and (status == "" and 0 or assert(math.tointeger(status:match "^, exit (%d+)$"), line))
        end
    end
    assert(not block, "a block is never closed")
    return list
end

---Whether the output matches the text. `...` matches any text; white space at line ends does not count.
---@param printed string
---@param written string
---@return boolean
function M.fits(printed, written)
    local function tidy(text)
        return (text:gsub("[ \t]+\n", "\n"):gsub("%s+$", ""))
    end
    local pattern = tidy(written):gsub("%p", "%%%0"):gsub("%%%.%%%.%%%.", ".-")
    return tidy(printed):find("^" .. pattern .. "$") ~= nil
end

return M
