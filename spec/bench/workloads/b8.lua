-- B8: the writes of a batch job, compared with a procedure written by hand: bytes of WAL, and the growth of the table
-- and its index. The work is that of B1.
local backfill <const> = require "bench.lib.backfill"
local contender <const> = require "bench.lib.contender"

return {
    id = "B8", order = 48, title = "what a backfill writes", metric = "memory", pairs = 3, round = 8,
    measure = { wal = backfill.job { bytes = "wal" }, size = backfill.job { bytes = "size" } },
    ours = { contender.ours("dbrun, wal", "wal", 600), contender.ours("dbrun, size", "size", 600) },
    others = { backfill.by_hand "wal", backfill.by_hand "size" },
    targets = {
        { metric = "memory", ours = "dbrun, wal", against = "procedure, wal", at_most = 1.05 },
        { metric = "memory", ours = "dbrun, size", against = "procedure, size", at_most = 1.05 },
    },
}
