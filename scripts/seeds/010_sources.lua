-- Ten sources with two series each. Names decide: what is there already is left alone.
local SOURCES <const> = {
    { name = "roof-north", kind = "sensor", place = "roof" },
    { name = "roof-south", kind = "sensor", place = "roof" },
    { name = "cellar", kind = "sensor", place = "cellar" },
    { name = "workshop", kind = "sensor", place = "ground floor" },
    { name = "greenhouse", kind = "sensor", place = "garden" },
    { name = "api", kind = "service", place = "rack 1" },
    { name = "search", kind = "service", place = "rack 1" },
    { name = "mail", kind = "service", place = "rack 2" },
    { name = "power", kind = "market", place = "exchange" },
    { name = "gas", kind = "market", place = "exchange" },
}

local METRICS <const> = {
    sensor = { { "temperature", "degC" }, { "humidity", "%" } },
    service = { { "requests", "1/s" }, { "latency", "ms" } },
    market = { { "price", "EUR/MWh" }, { "volume", "MWh" } },
}

return {
    description = "ten sources with two series each",
    run = function(ctx)
        local made = 0
        for _, source in ipairs(SOURCES) do
            made = made + ctx.db:query([[
                insert into sources (name, kind, attributes)
                values (:name, :kind, jsonb_build_object('place', :place::text))
                on conflict (name) do nothing]], source).affected
            for _, metric in ipairs(METRICS[source.kind]) do
                made = made + ctx.db:query([[
                    insert into series (source_id, metric, unit)
                    select id, :metric, :unit from sources where name = :source
                    on conflict (source_id, metric) do nothing]],
                    { source = source.name, metric = metric[1], unit = metric[2] }).affected
            end
        end
        return made
    end,
}
