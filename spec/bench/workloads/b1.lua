-- B1: fills a column of a million rows (100,000 in the short form) in chunks of 5,000, each in its own transaction:
-- with a batch job, and with a procedure written by hand. Both walk the table once (the job with passes = 1; a second
-- pass would read the table again). Two sessions of the procedure show the most that two workers can reach on this
-- machine. And for a condition that few rows meet: how fast the job passes the other rows.
local backfill <const> = require "bench.lib.backfill"
local contender <const> = require "bench.lib.contender"

local FEW <const>, ONE <const> = 1000, 1000000 -- one row in FEW; one row in ONE, or in the whole table

return {
    id = "B1", order = 41, title = "backfill of a column, chunks of 5,000", metric = "rate", round = 14,
    measure = {
        one = backfill.job { passes = 1 }, two = backfill.job { workers = 2, passes = 1 },
        few = backfill.job { one_in = FEW, passes = 1 },
        least = backfill.job { one_in = ONE, passes = 1 },
    },
    ours = {
        contender.ours("dbrun, 1 worker", "one", 600), contender.ours("dbrun, 2 workers", "two", 600),
        contender.ours("dbrun, 1 in 1000 fits", "few", 600), contender.ours("dbrun, 1 in 1000000 fits", "least", 600),
    },
    others = {
        backfill.by_hand(), backfill.in_halves "dbrun, 2 workers", backfill.count(FEW), backfill.count(ONE),
    },
    targets = {
        { metric = "rate", ours = "dbrun, 1 worker", against = "procedure", at_least = 0.9 },
        { metric = "rate", ours = "dbrun, 2 workers", against = "procedure", at_least = 1.6 },
        { metric = "rate", ours = "dbrun, 1 in 1000 fits", against = "count(*), 1 in 1000", at_least = 0.8 },
        { metric = "rate", ours = "dbrun, 1 in 1000000 fits", against = "count(*), 1 in 1000000", at_least = 0.8 },
    },
}
