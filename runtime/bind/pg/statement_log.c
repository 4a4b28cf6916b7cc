#include "bind/pg/statement_log.h"

#include "base/deadline.h"
#include "base/text.h"
#include "bind/pg/params.h"
#include "bind/pg/statement_trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_SQL = 2000, LONGEST_VALUE = 200 };

static void put_place(lua_State *L, struct log_line *line)
{
    char where[SCRIPT_WHERE];
    if (script_where(L, 1, where, sizeof where))
        log_text(line, "place", where, strlen(where));
}

static void add_value(lua_State *L, int at, struct buf *out)
{
    char number[32];
    size_t len = 0;
    const char *text = NULL;
    if (lua_type(L, at) == LUA_TNUMBER) {
        pg_param_number(L, at, number);
        buf_adds(out, number);
        return;
    }
    if (lua_type(L, at) == LUA_TBOOLEAN) {
        buf_adds(out, lua_toboolean(L, at) ? "true" : "false");
        return;
    }
    if (lua_type(L, at) == LUA_TTABLE) { /* wrapped: its text */
        lua_rawgeti(L, at, 1);
        text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
        lua_pop(L, 1); /* the table keeps it */
    } else if (lua_type(L, at) == LUA_TSTRING)
        text = lua_tolstring(L, at, &len);
    if (!text) {
        buf_adds(out, "null");
        return;
    }
    size_t shown = utf8_cut(text, len, LONGEST_VALUE);
    buf_adds(out, "'");
    buf_add(out, text, shown);
    buf_adds(out, shown < len ? "...'" : "'");
}

static void put_parameters(lua_State *L, const struct pg_statement *st, struct log_line *line)
{
    struct buf list = {0};
    if (!line->log->parameters || st->nparams == 0 || !lua_checkstack(L, 1))
        return;
    for (int i = 0; i < st->nparams; i++) {
        buf_adds(&list, i ? ", " : "");
        add_value(L, 3 + i, &list);
    }
    log_text(line, "parameters", list.data ? list.data : "", list.len);
    buf_free(&list);
}

/* Adds the number of rows that came, or that the command counted. */
static void put_rows(const struct pg_statement *st, struct log_line *line)
{
    char text[24];
    const PGresult *result = st->result;
    const char *counted = result ? PQcmdTuples((PGresult *)result) : "";
    if (result && PQnfields(result) > 0) {
        lua_Integer rows = pg_statement_is_grown(st) ? st->growing.rows : PQntuples(result);
        snprintf(text, sizeof text, "%lld", (long long)rows);
        counted = text;
    }
    if (*counted)
        log_raw(line, "rows", counted, strlen(counted));
}

static void begin(lua_State *L, const struct pg_statement *st, struct log_line *line, const char *what)
{
    size_t len;
    const char *sql = lua_tolstring(L, 2, &len);
    log_begin(line, st->engine->rt->log, LOG_LEVEL_DEBUG, what, strlen(what));
    log_milliseconds(line, "ms", mono_now() - st->began);
    if (st->acquire_only)
        return;
    log_text(line, "sql", sql, utf8_cut(sql, len, LONGEST_SQL));
}

/* True when the statement is logged, not only traced. */
static bool is_for_log(const struct pg_statement *st)
{
    return st->began && log_wants(st->engine->rt->log, LOG_LEVEL_DEBUG);
}

void pg_log_begun(struct pg_statement *st)
{
    if (st->engine->rt->trace)
        pg_trace_begin(st);
}

void pg_log_statement(lua_State *L, struct pg_statement *st)
{
    struct log_line line;
    if (st->engine->rt->trace)
        pg_trace_statement(L, st);
    if (!is_for_log(st) || st->acquire_only || st->describe_only || st->stale_only)
        return;
    bool ok = !error_is_set(&st->error);
    begin(L, st, &line, ok ? "postgres: statement" : "postgres: statement failed");
    if (ok)
        put_rows(st, &line);
    else {
        const char *state = st->error.field ? st->error.field[ERROR_SQLSTATE] : NULL;
        const char *message = st->error.message ? st->error.message : "";
        if (state)
            log_text(&line, "sqlstate", state, strlen(state));
        log_text(&line, "error", message, strlen(message));
    }
    put_parameters(L, st, &line);
    put_place(L, &line);
    log_end(&line);
    st->began = 0;
}

void pg_log_cancelled(lua_State *L, struct pg_statement *st, enum error_outcome outcome)
{
    struct log_line line;
    if (st->engine->rt->trace)
        pg_trace_cancelled(L, st, outcome);
    if (!is_for_log(st) || st->acquire_only)
        return;
    begin(L, st, &line, "postgres: statement cancelled");
    put_parameters(L, st, &line);
    put_place(L, &line);
    log_end(&line);
    st->began = 0;
}

void pg_log_waited(lua_State *L, struct pg_statement *st, bool parked)
{
    struct log_line line;
    if (st->engine->rt->trace)
        pg_trace_waited(L, st, parked);
    if (!parked || !is_for_log(st))
        return;
    begin(L, st, &line, "postgres: waited for a connection");
    put_place(L, &line);
    log_end(&line);
    st->began = mono_now(); /* its own time begins */
}
