-- What `dbrun verify` expects of the servers and of the database, one fact a line. It also takes versions, extensions,
-- indexes, limits, and your own checks: see the top of lua/dbrun/verify/expect.lua.
return {
    { table = "sources", columns = { "id bigint not null", "name text not null" }, indexes = { "unique (name)" } },
    { table = "series", privileges = "select, insert, update, delete" },
    { table = "observations", time_partitioned = "observed_at" },
    { table = "latest_observations" },
}
