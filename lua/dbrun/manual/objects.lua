--- The objects of the manual: which classes are public, and how scripts call them. Modules are the parts of `dbrun`
--- (lua/dbrun/init.lua).
local M = {}

---@class dbrun.manual.Object
---@field class string
---@field name string the name before its methods
---@field also string[] other names under which people look for it
---@field like? string[] classes: methods of the same name do the same
---@field only? table<string, boolean> the public methods, when others are not
---@field chapter string

---@type dbrun.manual.Object[]
M.OBJECTS = {
    { class = "dbrun.Engine", name = "engine", also = { "db", "db.async", "db.sync", "async", "sync" },
      chapter = "postgres" },
    { class = "dbrun.Connection", name = "conn", also = { "connection", "tx", "c", "db.conn" },
      like = { "dbrun.Engine" }, chapter = "pools" },
    { class = "dbrun.Session", name = "session", also = { "s", "db.session" },
      like = { "dbrun.Engine", "dbrun.Connection" }, chapter = "transactions" },
    { class = "dbrun.Cursor", name = "cursor", also = { "tx.cursor" }, chapter = "transactions" },
    { class = "dbrun.Pipeline", name = "pipeline", also = { "p", "db.pipeline" },
      like = { "dbrun.Engine", "dbrun.Connection" }, chapter = "postgres" },
    { class = "dbrun.Listener", name = "listener", also = { "l", "db.listener" }, chapter = "postgres" },
    { class = "dbrun.redis.Client", name = "r", also = { "client", "redis", "redis.client" }, chapter = "redis" },
    { class = "dbrun.redis.Cluster", name = "cluster", also = { "r", "redis.cluster" }, like = { "dbrun.redis.Client" },
      only = { nodes = true }, chapter = "redis-servers" },
    { class = "dbrun.redis.Connection", name = "redis.connection", also = { "connection", "conn", "c" },
      chapter = "redis" },
    { class = "dbrun.redis.Pipeline", name = "redis.pipeline", also = { "pipeline", "p", "tx" }, chapter = "redis" },
    { class = "dbrun.redis.Pool", name = "redis.pool", also = { "pool" }, chapter = "redis" },
    { class = "dbrun.redis.Subscription", name = "subscription", also = { "s", "redis.subscription" },
      chapter = "redis" },
    { class = "dbrun.redis.Lock", name = "redis.lock", also = { "lock", "l" }, chapter = "redis" },
    { class = "dbrun.redis.Library", name = "library", also = { "lib", "redis.library" }, chapter = "redis" },
    { class = "dbrun.Task", name = "t", also = { "task" }, chapter = "tasks" },
    { class = "dbrun.Group", name = "group", also = { "g", "task.group" }, chapter = "tasks" },
    { class = "dbrun.Queue", name = "queue", also = { "q", "task.queue" }, chapter = "tasks" },
    { class = "dbrun.Semaphore", name = "semaphore", also = { "sem", "task.semaphore" }, chapter = "tasks" },
    { class = "dbrun.Permit", name = "permit", also = {}, chapter = "tasks" },
    { class = "dbrun.Error", name = "e", also = { "error", "err" }, chapter = "errors" },
    { class = "dbrun.fs.Lock", name = "fs.lock", also = { "lock" }, chapter = "modules" },
    { class = "dbrun.process.Child", name = "child", also = { "process.child" }, chapter = "modules" },
    { class = "dbrun.progress.Progress", name = "progress", also = {}, chapter = "modules" },
    { class = "dbrun.seed.Random", name = "ctx.random", also = { "random" }, chapter = "seed" },
}

---Methods of PostgreSQL's objects that have a chapter of their own.
---@type table<string, string>
M.METHODS = {
    copy_in = "copy", copy_out = "copy", transaction = "transactions", session = "transactions",
    cursor = "transactions", acquire = "pools", stats = "pools", invalidate = "pools", dispose = "pools",
    set_codec = "types",
}

---The chapter of a module; others have the module's own name.
---@type table<string, string>
M.CHAPTERS = {
    db = "postgres", task = "tasks", error = "errors", fs = "modules", json = "modules", process = "modules",
    time = "modules", tty = "modules", progress = "scripts", cli = "scripts", log = "scripts",
}

return M
