-- What `dbrun verify` expects to find in the database, one fact a line.
return {
    { table = "sources" },
    { table = "series" },
    { table = "observations", time_partitioned = "observed_at" },
    { table = "latest_observations" },
}
