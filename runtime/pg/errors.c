#include "pg/errors.h"
#include "base/buf.h"

#include "base/number.h"
#include "base/text.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

bool pg_sqlstate_is_disconnect(const char *s)
{
    /* Not 08P01: the server uses it mostly for a wrong number of parameters, and keeps the connection. */
    return strcmp(s, "57P01") == 0 || strcmp(s, "57P02") == 0 || strcmp(s, "57P03") == 0 ||
           (strncmp(s, "08", 2) == 0 && strcmp(s, "08P01") != 0);
}

/* 57014 means a cancel request or statement_timeout; only the message, in the server's language, says which.
 * If it is not in English, the error counts as a timeout, unless the machine sent a cancel request
 * (take_error in machine_step.c). */
static enum error_kind kind_of(const char *s, const char *message)
{
    if (strncmp(s, "23", 2) == 0)
        return ERROR_CONSTRAINT;
    if (strcmp(s, "57014") == 0)
        return strstr(message, "user request") ? ERROR_CANCELLED : ERROR_TIMEOUT;
    return ERROR_QUERY;
}

bool pg_error_ends_session(const PGresult *r)
{
    const char *severity = PQresultErrorField(r, PG_DIAG_SEVERITY_NONLOCALIZED);
    return severity && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0);
}

/* True when the error ends the session. A function or a foreign server can raise an ERROR with the same
 * SQLSTATE, which does not. Some proxies send no severity that can be read in every language: then the
 * SQLSTATE decides. */
static bool is_of_session(const PGresult *r, const char *state)
{
    if (PQresultErrorField(r, PG_DIAG_SEVERITY_NONLOCALIZED))
        return pg_error_ends_session(r);
    return pg_sqlstate_is_disconnect(state) || strcmp(state, "53300") == 0;
}

static bool is_retryable(const char *s)
{
    return strcmp(s, "40001") == 0 || strcmp(s, "40P01") == 0 || strcmp(s, "55P03") == 0 ||
           strcmp(s, "53300") == 0 || strcmp(s, "57P03") == 0;
}

/* What the user can do, for errors to which PostgreSQL adds no hint. `session`: the hint is about
 * DATABASE_URL and the pool, so it fits only an error of the session, not one about a server that a statement
 * tried to reach. */
static const char *hint_for(const char *s, bool of_session)
{
    static const struct {
        const char *sqlstate;
        bool session;
        const char *hint;
    } hints[] = {
        {"53300", true,
         "All connections that the server allows are in use: lower DB_POOL_SIZE or DB_MAX_OVERFLOW, or "
         "raise max_connections; select * from pg_stat_activity shows the clients that hold them."},
        {"53100", false, "The server's disk is full: free space on it, then run this again."},
        {"25006", false, PG_READ_ONLY_HINT},
        {"28P01", true,
         "Check the user and the password in DATABASE_URL (or POSTGRES_USER and "
         "POSTGRES_PASSWORD, or ~/.pgpass)."},
        {"28000", true,
         "Check the user, and whether the server's pg_hba.conf allows this user to connect from this "
         "machine."},
        {"3D000", true,
         "Check the database name in DATABASE_URL (or POSTGRES_DB), or create it with createdb."},
        {"57P01", true,
         "The server was stopped, or this session was ended from outside: the server's log says which. "
         "The pool opens another connection."},
        {"57P03", true, "The server is starting, stopping or recovering: wait a moment and try again."},
        {"42601", false, "query takes one statement: use exec to run several."},
        {"25P02", false,
         "An earlier statement of this transaction failed: its error tells the cause. Roll back the "
         "transaction."},
    };
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++)
        if (strcmp(s, hints[i].sqlstate) == 0 && (of_session || !hints[i].session))
            return hints[i].hint;
    return NULL;
}

/* 42601 is the SQLSTATE of every syntax error; the hint fits only one of them. */
static bool hint_fits(const char *sqlstate, const char *message)
{
    return strcmp(sqlstate, "42601") != 0 || strstr(message, "multiple commands") != NULL;
}

/* libpq quotes an unknown message type byte as it came: replaces every byte that is not UTF-8 with "?". */
static void make_readable(char *text)
{
    while (*text) {
        size_t n = utf8_len(text, SIZE_MAX);
        if (n == 0)
            *text = '?';
        text += n ? n : 1;
    }
}

void pg_error_lost(struct error *e, const char *what, const char *why)
{
    error_set(e, ERROR_CONNECT, "%s was lost: %.*s", what, (int)strcspn(why, "\n"), why);
    make_readable(e->message);
    error_set_field(e, ERROR_HINT, "The server may have stopped, crashed or restarted: its log says why.");
}

void pg_error_not_sent(struct error *e, bool part, const struct pg_end *end)
{
    const char *hint = "Run it again on another connection: the pool opens one.";
    bool told = end && error_is_set(&end->words);
    error_set(e, ERROR_CONNECT, "the connection to the server was lost before the statement was %s%s%s",
              part ? "sent completely" : "sent", told ? ": " : "", told ? end->words.message : "");
    if (told)
        error_set_field(e, ERROR_SQLSTATE, end->words.field[ERROR_SQLSTATE]);
    if (end && end->inside)
        hint = "The transaction was rolled back with the connection: run all of it again, on another one.";
    error_set_field(e, ERROR_HINT,
                    part ? "The server may have stopped, crashed or restarted: its log says why." : hint);
    e->retryable = !part;
    e->outcome = part ? OUTCOME_UNKNOWN : OUTCOME_NOT_SENT;
}

void pg_error_late(struct error *e, const char *what, double seconds)
{
    if (what)
        error_set(e, ERROR_TIMEOUT, "%s within %g s (command_timeout)", what, seconds);
    else
        error_set(e, ERROR_TIMEOUT, "the time limit of %g s has passed (transaction)", seconds);
    error_set_field(
        e, ERROR_HINT,
        what ? "Allow more time (DB_STATEMENT_TIMEOUT, or command_timeout of the engine), or look in "
               "pg_stat_activity for what the server is doing or waiting for."
             : "Allow more time, or look in pg_stat_activity for what the server is doing or waiting "
               "for.");
}

void pg_error_from_nonsense(struct error *e, const PGresult *r)
{
    const char *text = PQresultErrorMessage(r);
    error_set(e, ERROR_PROTOCOL,
              "the server sent a message that libpq cannot read; the connection is closed: %.*s",
              (int)strcspn(text, "\n"), text);
    make_readable(e->message);
}

void pg_error_of_commit(struct error *e, size_t n)
{
    const char *context = e->field[ERROR_CONTEXT];
    struct buf place = {0};
    bool ok = n == 1 ? buf_addf(&place, "the COMMIT of the statement")
                     : buf_addf(&place, "the COMMIT of the group of %zu statements", n);
    if (ok && (!context || buf_addf(&place, "\n%s", context)))
        error_set_field(e, ERROR_CONTEXT, place.data);
    buf_free(&place);
}

void pg_error_from_loss(struct error *e, const PGconn *conn)
{
    pg_error_lost(e, "the connection to the server", PQerrorMessage(conn));
}

void pg_error_from_result(struct error *e, const PGresult *r, const char *sql)
{
    static const struct {
        int diag;
        enum error_field field;
    } fields[] = {
        {PG_DIAG_MESSAGE_DETAIL, ERROR_DETAIL},  {PG_DIAG_MESSAGE_HINT, ERROR_HINT},
        {PG_DIAG_CONTEXT, ERROR_CONTEXT},        {PG_DIAG_SCHEMA_NAME, ERROR_SCHEMA},
        {PG_DIAG_TABLE_NAME, ERROR_TABLE},       {PG_DIAG_COLUMN_NAME, ERROR_COLUMN},
        {PG_DIAG_DATATYPE_NAME, ERROR_DATATYPE}, {PG_DIAG_CONSTRAINT_NAME, ERROR_CONSTRAINT_NAME},
        {PG_DIAG_SEVERITY, ERROR_SEVERITY},      {PG_DIAG_SOURCE_FUNCTION, ERROR_ROUTINE},
    };
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    if (!state && !message) { /* libpq made this error: the server always sends a message */
        pg_error_lost(e, "the connection to the server", PQresultErrorMessage(r));
        return;
    }
    const char *known = state ? state : ""; /* some proxies send no SQLSTATE */
    bool session = is_of_session(r, known);
    enum error_kind kind = session ? ERROR_CONNECT : kind_of(known, message ? message : "");
    error_set(e, kind, "%s", message ? message : "unknown error");
    e->retryable = is_retryable(known);
    e->outcome = OUTCOME_FAILED;
    error_set_field(e, ERROR_SQLSTATE, state);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        error_set_field(e, fields[i].field, PQresultErrorField(r, fields[i].diag));
    if (!e->field[ERROR_HINT] && hint_fits(known, e->message))
        error_set_field(e, ERROR_HINT, hint_for(known, session));
    const char *position = PQresultErrorField(r, PG_DIAG_STATEMENT_POSITION);
    if (position)
        e->position = (int)number_int(position);
    error_set_field(e, ERROR_STATEMENT, sql);
}

/* libpq gives the SQLSTATE of a failed connect only in the message, and only in verbose mode: "...: FATAL:
 * 28P01: password authentication failed\nLOCATION: ...". */
static bool find_sqlstate(const char *text, char state[6], const char **message)
{
    static const char *const marks[] = {"FATAL:  ", "ERROR:  ", "PANIC:  "};
    const char *found = NULL;
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        const char *at = text;
        while ((at = strstr(at, marks[i]))) {
            at += strlen(marks[i]);
            if (strspn(at, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && at[5] == ':')
                found = at > found ? at : found;
        }
    }
    if (!found)
        return false;
    memcpy(state, found, 5);
    state[5] = '\0';
    *message = found + 7;
    return true;
}

/* True when the server answered but has not the role that target_session_attrs asks for. */
static bool is_wrong_role(const char *text)
{
    return strstr(text, "session is read-only") || strstr(text, "session is not read-only") ||
           strstr(text, "hot standby mode");
}

/* True when libpq refused a setting before it reached any server. */
static bool is_service(const char *text)
{
    return strstr(text, "definition of service \"") || strstr(text, "service file \"");
}

static bool is_setting(const char *text)
{
    return is_service(text) || (strstr(text, "invalid ") && strstr(text, " value: \"")) ||
           strstr(text, "invalid integer value \"") || strstr(text, "channel binding required") ||
           strstr(text, "GSSAPI encryption required");
}

static const char *layer_of(const char *state, const char *text)
{
    if (state) {
        if (strncmp(state, "28", 2) == 0)
            return "authentication";
        return strcmp(state, "3D000") == 0 ? "database" : "server";
    }
    if (strstr(text, "could not translate host name"))
        return "name";
    if (is_wrong_role(text))
        return "server";
    if (is_setting(text))
        return "configuration";
    if (strstr(text, "SSL") || strstr(text, "certificate"))
        return "tls";
    if (strstr(text, "password"))
        return "authentication";
    return "network";
}

static const char *layer_hint(const char *layer, const char *text)
{
    if (is_wrong_role(text))
        return "No server of this address has the role that target_session_attrs asks for: name all servers "
               "in DATABASE_URL (host1,host2), or wait until one is promoted.";
    if (is_service(text))
        return "Write a section for it into ~/.pg_service.conf (or the file that PGSERVICEFILE names), or "
               "take "
               "service out of DATABASE_URL and PGSERVICE out of the environment.";
    if (is_setting(text))
        return "Correct this setting in DATABASE_URL, or in the environment (the variables of libpq: "
               "PGSSLMODE, "
               "PGCHANNELBINDING, PGGSSENCMODE, PGTARGETSESSIONATTRS ...).";
    if (strstr(text, "Too many open files"))
        return "This program has no file descriptor left: close files and connections that it does not need, "
               "lower DB_POOL_SIZE, or raise the limit (ulimit -n).";
    if (strcmp(layer, "name") == 0)
        return "Check the host name in DATABASE_URL (or POSTGRES_HOST), and that this machine can resolve "
               "it.";
    if (strstr(text, "certificate verify failed")) /* libpq does not say which of the two */
        return "The server's certificate has expired, or no authority in sslrootcert (or in "
               "~/.postgresql/root.crt) has signed it: `openssl s_client -starttls postgres -connect "
               "HOST:PORT` shows which.";
    if (strcmp(layer, "tls") == 0)
        return "Check sslmode, sslrootcert and the host name in DATABASE_URL against the server's "
               "certificate.";
    if (strcmp(layer, "authentication") == 0)
        return "Check the user and the password in DATABASE_URL (or POSTGRES_USER and POSTGRES_PASSWORD, or "
               "~/.pgpass).";
    if (strcmp(layer, "server") == 0 &&
        (strstr(text, "configuration parameter") || strstr(text, " parameter \"")))
        return "The server refuses a setting for the session: correct it in DATABASE_URL (options, "
               "search_path), in "
               "PGOPTIONS, or where the role or the database has it (ALTER ROLE ... RESET).";
    if (strcmp(layer, "server") == 0)
        return "The server was reached, and refused the session for the reason that it gives.";
    if (strstr(text, "refused") || strstr(text, "No such file"))
        return "Is the server running, and is this its host and port? Check DATABASE_URL (or POSTGRES_HOST "
               "and "
               "POSTGRES_PORT); `dbrun stack up` starts a private one.";
    return "Check that the server is up, and that no firewall on the way drops the packets.";
}

void pg_error_from_connect(struct error *e, const PGconn *conn, const char *target)
{
    char state[6];
    const char *text = PQerrorMessage(conn);
    const char *message = text;
    bool has_state = find_sqlstate(text, state, &message);
    const char *layer = layer_of(has_state ? state : NULL, text);
    if (!has_state) {
        /* 'connection to server at "h" (1.2.3.4), port 5432 failed: Connection refused' */
        const char *failed = strstr(text, " failed: ");
        if (failed)
            message = failed + strlen(" failed: ");
    }
    if (message[0] == '\0' || message[0] == '\n')
        message = "the server refused the connection and gave no reason";
    /* The other lines are libpq's advice. */
    error_set(e, ERROR_CONNECT, "cannot connect to PostgreSQL at %s: %.*s", target,
              (int)strcspn(message, "\n"), message);
    e->outcome = OUTCOME_NOT_SENT;
    error_set_field(e, ERROR_LAYER, layer);
    if (has_state) {
        error_set_field(e, ERROR_SQLSTATE, state);
        error_set_field(e, ERROR_SEVERITY, "FATAL");
        e->retryable = is_retryable(state);
    } else {
        e->retryable = strcmp(layer, "network") == 0 || is_wrong_role(text);
    }
    const char *hint = has_state ? hint_for(state, true) : NULL;
    error_set_field(e, ERROR_HINT, hint ? hint : layer_hint(layer, text));
}
