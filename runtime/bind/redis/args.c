#include "bind/redis/args.h"

#include "base/number.h"
#include "bind/base/error.h"
#include "redis/resp.h"

#include <string.h>

static const char bad_table[] = "the table must be either a list without holes or keys with values, not both";
static const char bad_fields[] = "a list in place of fields with their values: pass {field = value}";
static const char bad_scores[] =
    "members with their scores by name: ZADD takes the score first, {score, member, ...}";
static const char too_long[] = "a string of more than 512 MiB";

/* NULL when the value can be sent, else the reason why not. */
static const char *check_value(lua_State *L, int idx)
{
    switch (lua_type(L, idx)) {
    case LUA_TSTRING:
        return lua_rawlen(L, idx) > RESP_MAX_STRING ? too_long : NULL;
    case LUA_TNUMBER:
        return NULL;
    case LUA_TNIL:
        return "nil";
    case LUA_TBOOLEAN:
        return "a boolean: pass the string or number to store instead";
    case LUA_TTABLE:
        return "a table inside a table";
    default:
        return luaL_typename(L, idx);
    }
}

static bool is_position(lua_State *L, int idx, uint64_t list)
{
    lua_Integer i = lua_isinteger(L, idx) ? lua_tointeger(L, idx) : 0;
    return i > 0 && (uint64_t)i <= list;
}

/* Checks the values of a table, and adds their number to *count. */
static const char *check_table(lua_State *L, int idx, uint64_t *count)
{
    uint64_t pairs = 0;
    uint64_t list = lua_rawlen(L, idx);
    lua_pushnil(L);
    while (lua_next(L, idx)) {
        if (list > 0 && !is_position(L, -2, list)) {
            lua_pop(L, 2);
            return bad_table;
        }
        const char *wrong = check_value(L, -1);
        if (!wrong)
            wrong = check_value(L, -2);
        if (wrong) {
            lua_pop(L, 2);
            return wrong;
        }
        lua_pop(L, 1);
        pairs++;
    }
    if (list > 0 && pairs != list)
        return bad_table;
    *count += list > 0 ? list : 2 * pairs;
    return NULL;
}

static bool add_value(lua_State *L, int idx, struct buf *out)
{
    if (lua_type(L, idx) == LUA_TSTRING) {
        size_t len;
        const char *s = lua_tolstring(L, idx, &len);
        return resp_add_arg(out, s, len);
    }
    if (lua_isinteger(L, idx))
        return resp_add_int(out, lua_tointeger(L, idx));
    return resp_add_double(out, lua_tonumber(L, idx));
}

static bool add_table(lua_State *L, int idx, struct buf *out)
{
    lua_Unsigned list = lua_rawlen(L, idx);
    for (lua_Unsigned i = 1; i <= list; i++) {
        lua_rawgeti(L, idx, (lua_Integer)i);
        bool ok = add_value(L, -1, out);
        lua_pop(L, 1);
        if (!ok)
            return false;
    }
    if (list > 0)
        return true;
    lua_pushnil(L);
    while (lua_next(L, idx)) {
        if (!add_value(L, -2, out) || !add_value(L, -1, out)) {
            lua_pop(L, 2);
            return false;
        }
        lua_pop(L, 1);
    }
    return true;
}

/* The options of XADD between its key and the ID, and the number of arguments that follow each. */
static const struct {
    const char *word;
    int takes;
} before_id[] = {{"ACKED", 0}, {"DELREF", 0}, {"IDMP", 2},  {"IDMPAUTO", 1},  {"KEEPREF", 0},
                 {"LIMIT", 1}, {"MAXLEN", 1}, {"MINID", 1}, {"NOMKSTREAM", 0}};

/* The number of arguments that follow the option; -1: the text is no option. */
static int takes_before_id(const char *s, size_t len)
{
    for (size_t i = 0; i < sizeof before_id / sizeof *before_id; i++)
        if (ascii_is_word(s, len, before_id[i].word))
            return before_id[i].takes;
    return -1;
}

/* True when the ID of XADD comes before argument `idx`, so that fields follow. Unknown when options are in a
 * table. */
static bool is_behind_id(lua_State *L, int first, int idx)
{
    for (int i = first + 1, values = 0; i < idx; i++) {
        size_t len = 0;
        const char *s = lua_type(L, i) == LUA_TSTRING ? lua_tolstring(L, i, &len) : "";
        if (lua_istable(L, i))
            return false;
        if (len == 1 && (*s == '~' || *s == '=')) /* MAXLEN ~ 1000 */
            continue;
        if (values > 0) {
            values--;
            continue;
        }
        values = takes_before_id(s, len);
        if (values < 0)
            return true;
    }
    return false;
}

/* True when a list is given where the command takes fields with values: {"a", "b"} would set the field a to
 * b. */
static bool is_list_of_fields(lua_State *L, const struct redis_command *cmd, int first, int idx)
{
    if (!(cmd->fact->flags & COMMAND_FIELDS) || idx == first || lua_rawlen(L, idx) == 0)
        return false;
    return cmd->name[0] != 'X' || is_behind_id(L, first, idx);
}

/* True for a table such as {ada = 1} for ZADD: it would send the member as the score, and with {["7"] = 1}
 * the server would even accept it. */
static bool is_scores_by_name(lua_State *L, const struct redis_command *cmd, int first, int idx)
{
    if (idx == first || strcmp(cmd->name, "ZADD") != 0 || lua_rawlen(L, idx) > 0)
        return false;
    bool by_name = false;
    lua_pushnil(L);
    while (!by_name && lua_next(L, idx)) {
        by_name = lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TNUMBER;
        lua_pop(L, by_name ? 2 : 1);
    }
    return by_name;
}

static bool count_all(lua_State *L, const struct redis_command *cmd, int first, int top, uint64_t *count,
                      struct redis_args_error *e)
{
    for (int i = first; i <= top; i++) {
        const char *wrong;
        int type = lua_type(L, i);
        if (type == LUA_TTABLE) {
            wrong = is_list_of_fields(L, cmd, first, i)   ? bad_fields
                    : is_scores_by_name(L, cmd, first, i) ? bad_scores
                                                          : check_table(L, i, count);
        } else {
            wrong = check_value(L, i);
            ++*count;
        }
        if (wrong) {
            e->arg = i - first + 1;
            e->what = wrong;
            return false;
        }
    }
    return true;
}

enum { FEW = 8 };

bool redis_args_write_few(lua_State *L, const struct redis_command *cmd, int first, struct buf *out)
{
    struct resp_text args[FEW];
    char digits[FEW][RESP_INT_DIGITS];
    int n = lua_gettop(L) - first + 1;
    if (n > FEW)
        return false;
    for (int i = 0; i < n; i++) {
        if (lua_type(L, first + i) == LUA_TSTRING) {
            args[i].data = lua_tolstring(L, first + i, &args[i].len);
            if (args[i].len > RESP_MAX_STRING)
                return false;
        } else if (lua_isinteger(L, first + i)) {
            args[i] = (struct resp_text){digits[i], resp_format_int(lua_tointeger(L, first + i), digits[i])};
        } else {
            return false;
        }
    }
    if (resp_add_command(out, cmd->text, cmd->wire_len, args, (size_t)n))
        return true;
    out->oom = false;
    return false;
}

bool redis_args_write(lua_State *L, const struct redis_command *cmd, int first, struct buf *out,
                      struct redis_args_error *e)
{
    if (redis_args_write_few(L, cmd, first, out))
        return true;
    int top = lua_gettop(L);
    uint64_t count = 1;
    *e = (struct redis_args_error){0};
    if (!lua_checkstack(L, 4) || !count_all(L, cmd, first, top, &count, e))
        return false;
    size_t from = out->len;
    bool ok = resp_add_header(out, count) && buf_add(out, cmd->text, cmd->wire_len);
    for (int i = first; ok && i <= top; i++)
        ok = lua_type(L, i) == LUA_TTABLE ? add_table(L, i, out) : add_value(L, i, out);
    if (!ok) {
        out->len = from;
        out->oom = false;
    }
    return ok;
}

enum { FRAME = 16 }; /* a number, or the frame around a string */

static size_t value_size(lua_State *L, int idx)
{
    return FRAME + (lua_type(L, idx) == LUA_TSTRING ? lua_rawlen(L, idx) : 0);
}

static size_t table_size(lua_State *L, int idx)
{
    bool is_list = lua_rawlen(L, idx) > 0;
    size_t size = 0;
    lua_pushnil(L);
    while (lua_next(L, idx)) {
        size += value_size(L, -1) + (is_list ? 0 : value_size(L, -2));
        lua_pop(L, 1);
    }
    return size;
}

bool redis_args_size(lua_State *L, const struct redis_command *cmd, int first, size_t *size,
                     struct redis_args_error *e)
{
    int top = lua_gettop(L);
    uint64_t count = 1;
    *e = (struct redis_args_error){0};
    if (!lua_checkstack(L, 4) || !count_all(L, cmd, first, top, &count, e))
        return false;
    *size = cmd->wire_len + FRAME;
    for (int i = first; i <= top; i++)
        *size += lua_type(L, i) == LUA_TTABLE ? table_size(L, i) : value_size(L, i);
    return true;
}

int redis_args_raise(lua_State *L, struct runtime *rt, const struct redis_command *cmd,
                     const struct redis_args_error *e)
{
    if (e->arg == 0)
        return luaL_error(L, "not enough memory");
    return bind_fail(L, rt, ERROR_USAGE, "redis: argument %d of %s cannot be sent: %s", e->arg, cmd->name,
                     e->what);
}
