#include "bind/redis/reply_list.h"

#include <endian.h>
#include <string.h>

/* Pushes the answer of the next command that was not sent; `list`: index of the list of answers. */
static void push_told(lua_State *L, int list, lua_Integer at)
{
    if (lua_rawgeti(L, list, at) == LUA_TTABLE) {
        lua_getfield(L, -1, "answer");
        lua_remove(L, -2);
    }
}

/* The previous text: a text that equals it, as most statuses do, need not be interned again. */
struct last_text {
    struct resp_text text;
    lua_Integer at; /* index in the list of replies; 0: none */
};

/* True when both are short and equal. Texts on a tape are padded to eight bytes. */
static bool is_same_short(const struct resp_text *a, const struct resp_text *b)
{
    uint64_t x, y;
    if (a->len != b->len || a->len == 0 || a->len > sizeof x)
        return false;
    memcpy(&x, a->data, sizeof x);
    memcpy(&y, b->data, sizeof y);
    return le64toh(x ^ y) << 8 * (sizeof x - a->len) == 0;
}

/* Pushes the text that was read from the cursor as reply number `i` of the list below it. */
static void push_text(lua_State *L, const struct resp_text *text, lua_Integer i, struct last_text *last)
{
    if (last->at && is_same_short(text, &last->text)) {
        lua_rawgeti(L, -1, last->at);
        return;
    }
    lua_pushlstring(L, text->data, text->len);
    *last = (struct last_text){*text, i};
}

void redis_reply_list_push(lua_State *L, struct runtime *rt, struct resp_cursor *cur, uint64_t n,
                           const struct buf *noted)
{
    size_t known;
    lua_Integer told = 0;
    int list = lua_gettop(L);
    lua_pushlstring(L, noted->len ? noted->data : "", noted->len);
    const char *shapes = lua_tolstring(L, -1, &known);
    uint64_t size = n > known ? n : known; /* allocated in full, so that # counts nils, too */
    lua_createtable(L, size > INT32_MAX ? INT32_MAX : (int)size, 0);
    struct last_text last = {.at = 0};
    struct resp_text text;
    uint64_t i = 0;
    for (uint64_t taken = 0; taken < n || (i < known && (redis_shape_id)shapes[i] == REDIS_SHAPE_TOLD); i++) {
        redis_shape_id shape = i < known ? (redis_shape_id)shapes[i] : SHAPE_PLAIN;
        taken += shape != REDIS_SHAPE_TOLD;
        if (shape == REDIS_SHAPE_TOLD)
            push_told(L, list, ++told);
        else if (shape == SHAPE_PLAIN && resp_next_text(cur, &text))
            push_text(L, &text, (lua_Integer)i + 1, &last);
        else
            (void)redis_reply_push(L, rt, cur, shape);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    redis_reply_count(L, i);
    lua_replace(L, list);
    lua_settop(L, list);
}
