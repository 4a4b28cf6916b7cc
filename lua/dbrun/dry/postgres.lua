local M = {}

function M.install() end

---@return string[]
function M.lines() return {} end

return M
