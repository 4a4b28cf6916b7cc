#include "bind/base/pool_stats.h"

#include "bind/base/fields.h"

void pool_push_stats(lua_State *L, const struct pool *p)
{
    struct pool_stats st;
    pool_stats(p, &st);
    const struct {
        const char *name;
        uint64_t n;
    } counts[] = {
        {"size", st.size},           {"overflow", st.overflow},
        {"open", st.open},           {"idle", st.idle},
        {"leased", st.leased},       {"opening", st.opening},
        {"resetting", st.resetting}, {"waiting", st.waiting},
        {"opened", st.opened},       {"closed", st.closed},
        {"recycled", st.recycled},   {"invalidated", st.invalidated},
        {"timeouts", st.timeouts},   {"failed", st.failed},
        {"acquired", st.acquired},   {"wait_count", st.wait_count},
    };
    lua_createtable(L, 0, 32);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        field_set_count(L, counts[i].name, counts[i].n);
    field_set_seconds(L, "wait_sum", st.wait_ns);
    field_set_seconds(L, "wait_max", st.wait_max_ns);
}
