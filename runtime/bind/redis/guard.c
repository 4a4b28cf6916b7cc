#include "bind/redis/guard.h"

#include "base/deadline.h"
#include "bind/base/fields.h"
#include "bind/redis/handle.h"

#include <string.h>

#define PATIENCE NS_PER_S

/* ---- how long ---- */

/* Notes whether the connection has answered; returns since when its oldest command has waited, 0 = none
 * waits. */
static uint64_t waits_since(struct redis_link *l, uint64_t now)
{
    uint64_t answered = redisconn_answered(l->conn);
    const struct redis_call *oldest = redisconn_oldest(l->conn);
    if (answered != l->answered) {
        l->answered = answered;
        l->pool->guard.silent_since = 0;
    }
    if (!oldest || ((const struct session_call *)oldest)->blocks) {
        l->marked_at = 0;
        return 0;
    }
    if (l->marked_at == 0 || answered >= l->mark) {
        l->mark = answered + redisconn_unanswered(l->conn);
        l->marked_at = now;
    }
    return l->marked_at;
}

struct view {
    uint64_t now;
    uint64_t since; /* the oldest command; UINT64_MAX = none */
    bool busy;      /* something is in flight */
    bool hold;      /* hold the silent connections */
};

static void see(struct view *v, uint64_t since)
{
    if (since && since < v->since)
        v->since = since;
}

static void look_at_link(struct view *v, struct redis_link *l)
{
    uint64_t since = waits_since(l, v->now);
    v->busy = v->busy || since || redisconn_oldest(l->conn);
    see(v, since);
    if (v->hold && since && v->now - since > PATIENCE && !l->held)
        redis_link_hold(l);
}

/* True when a session waits for its connection because of the server. (Waiting for a place in a full pool
 * says nothing about the server.) */
static bool is_connecting(const struct redis_session *s)
{
    return s->acquiring ? redis_pool_is_connecting(s->pool) : s->retrying;
}

static void look(const struct redis_pool *p, struct view *v)
{
    uint32_t live = 0;
    for (struct redis_session *s = p->sessions; s; s = s->next) {
        live += s->live;
        if (s->link)
            look_at_link(v, s->link);
        for (struct redis_link *l = s->retired; l; l = l->next)
            look_at_link(v, l);
        if (p->guard.holds && is_connecting(s)) {
            v->busy = true;
            see(v, s->wanting_since);
        }
    }
    if (live) {
        v->busy = true;
        see(v, p->guard.silent_since);
    }
}

static uint64_t silence(const struct redis_pool *p, uint64_t now, bool hold, bool *busy)
{
    struct view v = {.now = now, .since = UINT64_MAX, .hold = hold};
    look(p, &v);
    if (busy)
        *busy = v.busy;
    return v.since < now ? now - v.since : 0;
}

static bool is_due(const struct redis_pool *p, uint64_t now)
{
    return p->guard.due && p->guard.due <= now;
}

static void tick(struct sched_timer *t)
{
    struct redis_pool *p = t->data;
    uint64_t now = mono_now();
    bool busy;
    bool stalled = silence(p, now, p->guard.holds, &busy) > PATIENCE || is_due(p, now);
    p->guard.asleep = true;
    if (stalled && p->guard.wait) {
        struct wait *w = p->guard.wait;
        p->guard.wait = NULL;
        wait_wake(w);
    }
    if (busy || stalled)
        redis_pool_watch(p, 0);
    else if (p->guard.due)
        redis_pool_watch(p, p->guard.due);
}

/* ---- waiting for it ---- */

#define WATCHER_CLASS "dbrun.redis.watcher"

static int watcher__gc(lua_State *L)
{
    struct redis_watcher *w = luaL_checkudata(L, 1, WATCHER_CLASS);
    if (w->pool) {
        w->pool->guard.watcher = NULL;
        w->pool->guard.holds = false;
    }
    w->pool = NULL;
    return 0;
}

static int guard_watch(lua_State *L)
{
    struct redis_pool *p = redis_check_pool(L, 1);
    bool holds = lua_toboolean(L, 2);
    struct redis_watcher *w = lua_newuserdatauv(L, sizeof *w, 0);
    w->pool = NULL;
    if (luaL_newmetatable(L, WATCHER_CLASS)) {
        lua_pushcfunction(L, watcher__gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    if (p->guard.watcher) /* the watcher of a task that ended because the pool had no clients */
        p->guard.watcher->pool = NULL;
    w->pool = p;
    p->guard.watcher = w;
    p->guard.holds = holds;
    if (p->guard.timer.fn)
        return 1;
    p->guard.asleep = true;
    p->guard.timer = (struct sched_timer){.fn = tick, .data = p};
    return 1;
}

/* The pool of a watcher (NULL when it is gone), or of a pool's handle. */
static struct redis_pool *check(lua_State *L)
{
    const struct redis_watcher *w = luaL_testudata(L, 1, WATCHER_CLASS);
    return w ? w->pool : redis_check_pool(L, 1);
}

static void abandoned(struct wait *w)
{
    const struct redis_watcher *of = w->data;
    if (of->pool)
        of->pool->guard.wait = NULL;
}

static int push_silence(lua_State *L, const struct redis_pool *p)
{
    uint64_t now = mono_now();
    uint64_t ns = silence(p, now, false, NULL);
    if (ns <= PATIENCE && !is_due(p, now))
        return 0;
    lua_pushnumber(L, (double)ns / (double)NS_PER_S);
    return 1;
}

static int stalled(lua_State *L, int status, lua_KContext ctx)
{
    const struct redis_watcher *of = (const struct redis_watcher *)ctx;
    struct sched *sched = bind_runtime(L)->sched;
    (void)status;
    if (wait_end(sched) == WAIT_CANCELLED)
        return task_raise_cancelled(L, sched);
    return of->pool ? push_silence(L, of->pool) : 0;
}

static int guard_stalled(lua_State *L)
{
    struct redis_watcher *of = luaL_checkudata(L, 1, WATCHER_CLASS);
    struct sched *sched = bind_runtime(L)->sched;
    double seconds = luaL_checknumber(L, 2);
    task_check_park(L, sched);
    if (!of->pool || push_silence(L, of->pool))
        return of->pool ? 1 : 0;
    of->pool->guard.wait = wait_begin(sched, deadline_in(seconds), abandoned, of);
    return wait_park(L, of->pool->guard.wait, (lua_KContext)of, stalled);
}

static int guard_silence(lua_State *L)
{
    const struct redis_pool *p = check(L);
    lua_pushnumber(L, p ? (double)silence(p, mono_now(), false, NULL) / (double)NS_PER_S : 0);
    return 1;
}

static int guard_in_use(lua_State *L)
{
    const struct redis_pool *p = check(L);
    const struct redis_session *s = p ? p->sessions : NULL;
    while (s && s->closed)
        s = s->next;
    lua_pushboolean(L, s != NULL);
    return 1;
}

static int guard_due(lua_State *L)
{
    struct redis_pool *p = check(L);
    if (!p)
        return 0;
    if (lua_isnoneornil(L, 2)) {
        p->guard.due = 0;
        return 0;
    }
    p->guard.due = deadline_in(luaL_checknumber(L, 2));
    if (p->guard.asleep)
        redis_pool_watch(p, p->guard.due);
    return 0;
}

/* ---- the decision ---- */

/* Where the connections should go: an address, or nowhere. */
struct address {
    const char *host; /* NULL: nowhere */
    uint16_t port;
};

static struct address address_of(lua_State *L, const char *host, lua_Integer port)
{
    if (host && (port < 1 || port > UINT16_MAX))
        luaL_error(L, "a port is expected");
    return (struct address){host, (uint16_t)port};
}

static bool goes_to(const struct redis_link *l, const struct address *at)
{
    const struct redis_target *t = redisconn_target(l->conn);
    return at->host && t->port == at->port && t->text[REDIS_HOST] &&
           strcmp(t->text[REDIS_HOST], at->host) == 0;
}

static struct redis_link *find_elsewhere(const struct redis_pool *p, const struct address *at)
{
    for (struct redis_session *s = p->sessions; s; s = s->next) {
        if (s->link && !goes_to(s->link, at))
            return s->link;
        for (struct redis_link *l = s->retired; l; l = l->next)
            if (!goes_to(l, at))
                return l;
    }
    return NULL;
}

static int guard_elsewhere(lua_State *L)
{
    struct address at = address_of(L, luaL_checkstring(L, 2), luaL_checkinteger(L, 3));
    const struct redis_pool *p = check(L);
    lua_pushboolean(L, p && find_elsewhere(p, &at));
    return 1;
}

static int guard_address(lua_State *L)
{
    static const struct address nowhere = {NULL, 0};
    const struct redis_pool *p = check(L);
    const struct redis_link *l = p ? find_elsewhere(p, &nowhere) : NULL;
    if (!l)
        return 0;
    const struct redis_target *t = redisconn_target(l->conn);
    lua_pushstring(L, t->text[REDIS_HOST]);
    lua_pushinteger(L, t->port);
    return 2;
}

static struct redis_link *find_held(const struct redis_pool *p, bool all)
{
    for (struct redis_session *s = p->sessions; s; s = s->next) {
        if (s->link && s->link->held && (all || redisconn_has_news(s->link->conn)))
            return s->link;
        for (struct redis_link *l = s->retired; l; l = l->next)
            if (l->held && (all || redisconn_has_news(l->conn)))
                return l;
    }
    return NULL;
}

static int guard_hold(lua_State *L)
{
    const struct redis_pool *p = check(L);
    for (struct redis_session *s = p ? p->sessions : NULL; s; s = s->next)
        if (s->link && !s->subscription)
            redis_link_hold(s->link);
    return 0;
}

static int guard_release(lua_State *L)
{
    const struct redis_pool *p = check(L);
    bool all = lua_toboolean(L, 2);
    struct redis_link *l;
    while (p && (l = find_held(p, all)))
        redis_link_resume(l);
    return 0;
}

static void find_pinging(struct pool_slot *slot, void *data)
{
    struct pool_slot **found = data;
    if (slot->state == SLOT_PINGING)
        *found = slot;
}

static void break_pinging(struct redis_pool *p, const struct error *why)
{
    struct pool_slot *slot;
    do {
        slot = NULL;
        pool_each(p->pool, find_pinging, &slot);
        if (slot)
            redis_link_break(slot->conn, why);
    } while (slot);
}

/* Makes commands wait for the new primary, and connects at once, without the pause before the next
 * attempt. */
static void hurry(struct redis_pool *p, uint64_t now)
{
    for (struct redis_session *s = p->sessions; s; s = s->next)
        if (s->shared && !s->closed) {
            s->lost_at = now;
            redis_session_retry_now(s);
        }
}

static void condemn(struct redis_pool *p, const struct address *at, const struct error *why)
{
    struct redis_link *l;
    struct error later = {0};
    uint64_t now = mono_now();
    p->guard.silent_since = 0;
    for (struct redis_session *s = p->sessions; s; s = s->next)
        s->lost_at = s->shared ? now : 0;
    pool_invalidate(p->pool, now);
    break_pinging(p, why);
    while ((l = find_elsewhere(p, at)))
        redis_link_break(l, why);
    error_copy(&later, why);
    later.retryable = true; /* an abandoned connect is tried again */
    connector_abandon(&p->connector, &later);
    error_clear(&later);
    if (!p->guard.leaving)
        hurry(p, now);
}

static int guard_condemn(lua_State *L)
{
    struct redis_pool *p = check(L);
    struct error why = {0};
    if (!p)
        return 0;
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    const char *reason = field_text(L, 2, "reason");
    const char *hint = field_text(L, 2, "hint");
    const char *host = field_text(L, 2, "host");
    lua_getfield(L, 2, "port");
    struct address at = address_of(L, host, lua_tointeger(L, -1));
    lua_getfield(L, 2, "sentinel");
    lua_Integer sentinel = lua_tointeger(L, -1);
    p->guard.leaving = field_boolean(L, 2, "leaving", false);
    if (sentinel > 0 && p->target->sentinels)
        p->target->good_sentinel = (unsigned)sentinel - 1;
    error_set(&why, ERROR_CONNECT, "redis at %s: %s", p->target->label, reason ? reason : "given up");
    error_set_field(&why, ERROR_HINT, hint);
    why.outcome = OUTCOME_NOT_SENT;
    redis_pool_ref(p);
    condemn(p, &at, &why);
    p->guard.leaving = false;
    redis_pool_unref(p);
    error_clear(&why);
    return 0;
}

void redis_guard_open(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg functions[] = {{"watch", guard_watch},
                                         {"stalled", guard_stalled},
                                         {"silence", guard_silence},
                                         {"in_use", guard_in_use},
                                         {"due", guard_due},
                                         {"elsewhere", guard_elsewhere},
                                         {"release", guard_release},
                                         {"condemn", guard_condemn},
                                         {"address", guard_address},
                                         {"hold", guard_hold},
                                         {NULL, NULL}};
    bind_lib(L, rt, functions);
}
