#include "bind/redis/words.h"

#include "base/number.h"

bool redis_each_arg(lua_State *L, int first, bool (*fn)(lua_State *L, int idx, void *data), void *data)
{
    return redis_each_arg_to(L, first, lua_gettop(L), fn, data);
}

bool redis_each_arg_to(lua_State *L, int first, int last, bool (*fn)(lua_State *L, int idx, void *data),
                       void *data)
{
    int top = lua_gettop(L);
    bool stop = false;
    luaL_checkstack(L, 4, NULL);
    for (int i = first; i <= last && !stop; i++) {
        if (!lua_istable(L, i)) {
            stop = fn(L, i, data);
            continue;
        }
        lua_Integer list = (lua_Integer)lua_rawlen(L, i);
        for (lua_Integer at = 1; at <= list && !stop; at++) {
            lua_rawgeti(L, i, at);
            stop = fn(L, top + 1, data);
            lua_settop(L, top);
        }
        if (list == 0)
            lua_pushnil(L);
        while (list == 0 && !stop && lua_next(L, i)) {
            stop = fn(L, top + 1, data) || fn(L, top + 2, data);
            lua_settop(L, top + 1);
        }
        lua_settop(L, top);
    }
    return stop;
}

/* ---- options ---- */

/* Goes through the arguments one by one. */
struct walk {
    const struct redis_fact *fact;
    lua_Integer at;                    /* the number of the last argument read */
    lua_Integer begin;                 /* options begin after this argument */
    const struct redis_option *option; /* the last option read */
    int values;                        /* how many of its values have still to come */
    lua_Integer key;                   /* the argument that is the key of an option; 0: none */
    lua_Integer rest;                  /* the first argument of an option that takes all the rest; 0: none */
    struct redis_words *words;
};

/* A number of arguments. */
static lua_Integer count_at(lua_State *L, int idx)
{
    lua_Integer n = lua_tointeger(L, idx);
    return n < 0 ? 0 : n > INT32_MAX ? INT32_MAX : n;
}

static const struct redis_option *find_option(lua_State *L, const struct redis_option *o, int idx)
{
    size_t len;
    if (lua_type(L, idx) != LUA_TSTRING)
        return NULL;
    const char *s = lua_tolstring(L, idx, &len);
    char initial = ascii_upper(s[0]); /* enough to distinguish most words */
    while (o->word && (o->word[0] != initial || !ascii_is_word(s, len, o->word)))
        o++;
    return o->word ? o : NULL;
}

static void take_value(lua_State *L, struct walk *w, int idx)
{
    const struct redis_option *o = w->option;
    if (o->keys == OPTION_KEY)
        w->key = w->at;
    if (o->blocks) {
        w->words->blocks = true;
        w->words->milliseconds = lua_isnumber(L, idx) ? lua_tonumber(L, idx) : 0;
    }
    w->values--;
}

static void take_option(struct walk *w, const struct redis_option *o)
{
    redis_shape_id before = w->words->shape;
    w->option = o;
    w->values = o->takes == OPTION_TAKES_ALL ? 0 : o->takes;
    if (o->takes == OPTION_TAKES_ALL)
        w->rest = w->at + 1;
    if (o->shape == SHAPE_PLAIN || o->shape == before)
        return;
    w->words->shape = before != w->fact->shape && w->fact->both ? w->fact->both : o->shape;
}

/* True: no more options can come. */
static bool step(lua_State *L, int idx, void *data)
{
    struct walk *w = data;
    w->at++;
    if (w->fact->after_keys > 0 && w->at == w->fact->after_keys)
        w->begin += count_at(L, idx);
    if (w->at <= w->begin)
        return false;
    if (w->values > 0) {
        take_value(L, w, idx);
        return false;
    }
    const struct redis_option *o = find_option(L, w->fact->options, idx);
    if (!o)
        return (w->fact->flags & COMMAND_WORDS_END) != 0;
    take_option(w, o);
    return w->rest > 0;
}

void redis_words_read(lua_State *L, const struct redis_fact *fact, int first, struct redis_words *out)
{
    struct walk w = {.fact = fact, .begin = fact->after, .words = out};
    *out = (struct redis_words){.shape = fact->shape};
    if (fact->options)
        redis_each_arg(L, first, step, &w);
}

/* ---- keys ---- */

struct keys {
    int args; /* the table of arguments */
    int list; /* the table of keys */
    lua_Integer n;
    lua_Integer count;
};

static void add_range(lua_State *L, struct keys *k, lua_Integer first, lua_Integer last, lua_Integer step_)
{
    for (lua_Integer i = first; i <= last && i <= k->n; i += step_) {
        lua_rawgeti(L, k->args, i);
        lua_rawseti(L, k->list, ++k->count);
    }
}

static bool is_empty_at(lua_State *L, const struct keys *k, lua_Integer at)
{
    bool empty = lua_rawgeti(L, k->args, at) == LUA_TSTRING && lua_rawlen(L, -1) == 0;
    lua_pop(L, 1);
    return empty;
}

static void add_rule(lua_State *L, struct keys *k, const struct redis_keys *rule)
{
    lua_Integer last = rule->last;
    if (rule->kind == KEYS_COUNTED) {
        lua_rawgeti(L, k->args, rule->last);
        lua_Integer count = count_at(L, -1);
        lua_pop(L, 1);
        last = rule->first + (count - 1) * rule->step;
    } else if (last < 0) {
        last = k->n + 1 + last;
    }
    if (rule->kind == KEYS_RANGE_NOT_EMPTY && is_empty_at(L, k, rule->first))
        return;
    add_range(L, k, rule->first, last, rule->step);
}

static void add_option_keys(lua_State *L, struct keys *k, const struct redis_fact *fact)
{
    struct redis_words words = {.shape = fact->shape};
    struct walk w = {.fact = fact, .begin = fact->after, .words = &words};
    bool stop = false;
    for (lua_Integer i = 1; i <= k->n && !stop; i++) {
        lua_rawgeti(L, k->args, i);
        stop = step(L, lua_gettop(L), &w);
        lua_pop(L, 1);
    }
    if (w.key > 0)
        add_range(L, k, w.key, w.key, 1);
    if (w.rest > 0)
        add_range(L, k, w.rest,
                  w.option->keys == OPTION_HALF_KEYS ? w.rest + (k->n - w.rest + 1) / 2 - 1 : k->n, 1);
}

void redis_words_push_keys(lua_State *L, const struct redis_fact *fact, int args, lua_Integer n)
{
    struct keys k = {.args = lua_absindex(L, args), .n = n};
    luaL_checkstack(L, 4, NULL);
    lua_newtable(L);
    k.list = lua_gettop(L);
    for (const struct redis_keys *rule = fact->keys; rule && rule->kind != KEYS_END; rule++)
        add_rule(L, &k, rule);
    if (fact->options)
        add_option_keys(L, &k, fact);
}
