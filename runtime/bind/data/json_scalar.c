/* Numbers and strings as JSON text, and the error for a value without a JSON form. */
#include "bind/data/json_scalar.h"

#include "base/number.h"
#include "base/text.h"
#include "bind/base/error.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define BUF_CLASS "dbrun.jsonbuf"

static int buf_gc(lua_State *L)
{
    buf_free(luaL_checkudata(L, 1, BUF_CLASS));
    return 0;
}

struct buf *json_push_buf(lua_State *L)
{
    struct buf *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (struct buf){0};
    if (luaL_newmetatable(L, BUF_CLASS)) {
        lua_pushcfunction(L, buf_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushcfunction(L, buf_gc);
        lua_setfield(L, -2, "__close");
    }
    lua_setmetatable(L, -2);
    return b;
}

/* ---- refusing ---- */

static void add_place(struct buf *b, const struct json_place *at)
{
    if (!at)
        return;
    add_place(b, at->up);
    if (!at->key)
        buf_addf(b, "[%lld]", (long long)at->index);
    else if (at->len <= 40 &&
             strspn(at->key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") == at->len)
        buf_addf(b, ".%s", at->key);
    else
        buf_adds(b, "[a key]"); /* too long or not printable */
}

/* Shows only the outermost steps of a long path. */
static const struct json_place *outermost(const struct json_place *at, int depth)
{
    for (; depth > 12 && at; depth--)
        at = at->up;
    return at;
}

int json_refuse(struct json_encoder *e, const struct json_place *at, const char *what, const char *hint)
{
    lua_State *L = e->L;
    luaL_checkstack(L, 6, "out of stack for an error");
    struct buf *path = json_push_buf(L);
    const struct json_place *shown = outermost(at, e->depth);
    add_place(path, shown);
    struct error err = {0};
    error_set(&err, ERROR_USAGE, "json.encode: at $%s%s: %s", path->data ? path->data : "",
              shown == at ? "" : "...", what);
    error_set_field(&err, ERROR_HINT, hint);
    return bind_error_raise(L, e->rt, &err);
}

void json_add(struct json_encoder *e, const char *text, size_t len)
{
    if (!buf_add(e->out, text, len))
        luaL_error(e->L, "not enough memory");
}

void json_newline(struct json_encoder *e)
{
    if (e->indent == 0)
        return;
    size_t spaces = (size_t)e->indent * (size_t)e->depth;
    if (!buf_reserve(e->out, spaces + 1))
        luaL_error(e->L, "not enough memory");
    json_add(e, "\n", 1);
    memset(e->out->data + e->out->len, ' ', spaces);
    e->out->len += spaces;
    e->out->data[e->out->len] = '\0';
}

/* ---- scalars ---- */

static void add_escape(struct json_encoder *e, unsigned char c)
{
    static const char names[] = "\b\t\n\f\r\"\\";
    static const char letters[] = "btnfr\"\\";
    char text[8];
    const char *found = c ? strchr(names, c) : NULL;
    int len = found ? snprintf(text, sizeof text, "\\%c", letters[found - names])
                    : snprintf(text, sizeof text, "\\u%04x", c);
    json_add(e, text, (size_t)len);
}

void json_add_string(struct json_encoder *e, const struct json_place *at, const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t from = 0;
    json_add(e, "\"", 1);
    for (size_t i = 0; i < len;) {
        if (s[i] >= 0x20 && s[i] < 0x80 && s[i] != '"' && s[i] != '\\') {
            i++;
        } else if (s[i] >= 0x80) {
            size_t n = utf8_len(text + i, len - i);
            if (n == 0) {
                char what[64];
                snprintf(what, sizeof what, "byte %zu of the string is not valid UTF-8", i + 1);
                json_refuse(e, at, what, "JSON strings are UTF-8: write bytes as hexadecimal or base64");
            }
            i += n;
        } else {
            json_add(e, text + from, i - from);
            add_escape(e, s[i]);
            from = ++i;
        }
    }
    json_add(e, text + from, len - from);
    json_add(e, "\"", 1);
}

/* The shortest digits that read back as the same float, always with a point or an exponent, so that a
 * float stays a float. */
void json_add_float(struct json_encoder *e, const struct json_place *at, double x)
{
    char text[NUMBER_MAX + 2];
    if (!isfinite(x)) {
        json_refuse(e, at, isnan(x) ? "NaN has no JSON form" : "an infinite number has no JSON form",
                    "use db.null, or a string");
    }
    number_format(text, x);
    if (!strpbrk(text, ".e"))
        strcat(text, ".0");
    json_add(e, text, strlen(text));
}

void json_add_integer(struct json_encoder *e, lua_Integer n)
{
    char text[32];
    int len = snprintf(text, sizeof text, LUA_INTEGER_FMT, (LUAI_UACINT)n);
    json_add(e, text, (size_t)len);
}
