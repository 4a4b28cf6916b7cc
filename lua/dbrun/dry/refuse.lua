--- What has no dry run: commands of dbrun's own, and the prompt.
local errors <const> = require "dbrun.error"

local M = {}

---The prompt.
---Raises an error of kind `usage`.
function M.prompt()
    errors.fail("usage", "--dry-run: the prompt has no dry run", "begin; ... rollback; there does the same")
end

return M
