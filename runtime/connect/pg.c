#include "connect/pg.h"

#include "base/deadline.h"
#include "base/secrets.h"
#include "connect/startup.h"
#include "pg/errors.h"
#include "pg/settings.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { MOST_FOR_LOGIN = 16 << 20 };

static void no_notice(void *data, const PGresult *r)
{
    (void)data;
    (void)r;
}

/* How far the connect had come at its deadline. While libpq waits for the answer to its first packet, the TLS
 * request, its status is already SSL_STARTUP: only the TLS object shows whether the server has answered. */
static const char *stage(PGconn *conn, const char **layer)
{
    switch (PQstatus(conn)) {
    case CONNECTION_STARTED:
    case CONNECTION_NEEDED:
        *layer = "network";
        return "the network or the host did not answer";
    case CONNECTION_SSL_STARTUP:
        if (!PQsslStruct(conn, "OpenSSL")) {
            *layer = "time";
            return "the host accepted the connection, but the server did not answer";
        }
        *layer = "tls";
        return "the host accepted the connection, but the TLS handshake did not end";
    case CONNECTION_AUTH_OK:
    case CONNECTION_CHECK_WRITABLE:
    case CONNECTION_CHECK_STANDBY:
    case CONNECTION_CHECK_TARGET:
        *layer = "time";
        return "logged in, but the server did not become ready";
    default:
        *layer = "time";
        return "the host accepted the connection, but the server stopped answering";
    }
}

static void set_timeout(struct error *err, PGconn *conn, const char *target)
{
    const char *layer;
    const char *what = stage(conn, &layer);
    error_set(err, ERROR_TIMEOUT, "cannot connect to PostgreSQL at %s in time: %s", target, what);
    err->outcome = OUTCOME_NOT_SENT;
    err->retryable = true;
    error_set_field(err, ERROR_LAYER, layer);
    error_set_field(err, ERROR_HINT,
                    "Check that this is a PostgreSQL server, that it is not overloaded or stopped, and that "
                    "no firewall on the way drops the packets.");
}

/* Waits for the socket; false with `err` set when the deadline passed or the program must stop. */
static bool wait_for(PGconn *conn, unsigned interest, const char *target, uint64_t deadline,
                     const struct io_interrupt *intr, struct error *err)
{
    unsigned ready;
    if (mono_now() >= deadline) { /* the socket of a server that never stops sending is always ready */
        set_timeout(err, conn, target);
        return false;
    }
    switch (io_poll(PQsocket(conn), interest, deadline, intr, &ready)) {
    case IO_READY:
        return true;
    case IO_TIMEOUT:
        set_timeout(err, conn, target);
        return false;
    case IO_INTERRUPTED:
        error_set(err, ERROR_CANCELLED, "interrupted while connecting to PostgreSQL at %s", target);
        return false;
    case IO_ERROR:
        error_set(err, ERROR_IO, "poll: %s", strerror(errno));
        return false;
    }
    return false;
}

/* Adds what has arrived to `received`; false when a server sends more than any login needs, because libpq
 * stores all of it. */
static bool is_login(PGconn *conn, size_t *received, const char *target, struct error *err)
{
    int n = 0;
    if (ioctl(PQsocket(conn), FIONREAD, &n) == 0 && n > 0)
        *received += (size_t)n;
    if (*received <= MOST_FOR_LOGIN)
        return true;
    error_set(
        err, ERROR_PROTOCOL,
        "cannot connect to PostgreSQL at %s: the server sent more than %d MiB before the login had ended",
        target, MOST_FOR_LOGIN >> 20);
    err->outcome = OUTCOME_NOT_SENT;
    return false;
}

static bool connect_loop(PGconn *conn, const char *target, uint64_t deadline, const struct io_interrupt *intr,
                         struct error *err)
{
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    size_t received = 0;
    while (status != PGRES_POLLING_OK) {
        if (status == PGRES_POLLING_FAILED) {
            pg_error_from_connect(err, conn, target);
            return false;
        }
        unsigned interest = status == PGRES_POLLING_READING ? IO_READ : IO_WRITE;
        if (!wait_for(conn, interest, target, deadline, intr, err) || !is_login(conn, &received, target, err))
            return false;
        status = PQconnectPoll(conn);
    }
    return true;
}

/* Runs one statement; stores its rows, if any, in `*rows` unless `rows` is NULL. */
static bool run(PGconn *conn, const char *sql, uint64_t deadline, const struct io_interrupt *intr,
                PGresult **rows, struct error *err)
{
    if (!PQsendQuery(conn, sql)) {
        error_set(err, ERROR_CONNECT, "%s", PQerrorMessage(conn));
        return false;
    }
    while (PQflush(conn) > 0)
        if (!wait_for(conn, IO_WRITE, "this connection", deadline, intr, err))
            return false;
    for (;;) {
        while (PQisBusy(conn)) {
            if (!wait_for(conn, IO_READ, "this connection", deadline, intr, err))
                return false;
            if (!PQconsumeInput(conn))
                break;
        }
        PGresult *r = PQgetResult(conn);
        if (!r)
            break;
        ExecStatusType status = PQresultStatus(r);
        if (status == PGRES_FATAL_ERROR && !error_is_set(err))
            pg_error_from_result(err, r, sql);
        if (status == PGRES_TUPLES_OK && rows && !*rows)
            *rows = r;
        else
            PQclear(r);
        if (PQstatus(conn) == CONNECTION_BAD)
            break;
    }
    return !error_is_set(err);
}

static bool run_command(PGconn *conn, const char *sql, uint64_t deadline, const struct io_interrupt *intr,
                        struct error *err)
{
    return run(conn, sql, deadline, intr, NULL, err);
}

PGresult *connect_pg_ask(PGconn *conn, const char *sql, uint64_t deadline, struct error *err)
{
    PGresult *r = NULL;
    bool ok = run(conn, sql, deadline, NULL, &r, err);
    if (ok && r && PQnfields(r) == 4)
        return r;
    PQclear(r);
    if (ok)
        error_set(err, ERROR_CONNECT, "the server did not answer a question about the session");
    return NULL;
}

/* Each time the socket is full, libpq moves the rest of the message to the front of its buffer. With the
 * small send buffer of a unix socket a message of hundreds of megabytes took minutes that way. TCP enlarges
 * its buffer itself. */
static void widen(int fd)
{
    int domain;
    int room = 4 << 20;
    socklen_t len = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX)
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room); /* the system may give less */
}

/* Sets what values depend on: the settings that a pooler did not take from the startup message, and those
 * that must not be in it (in DateStyle the order of day and month is the user's choice). */
static bool make_session(PGconn *conn, uint64_t deadline, const struct io_interrupt *intr, struct error *err)
{
    char sql[PG_SETTINGS_SQL];
    if (pg_settings_other_encoding(conn) &&
        !run_command(conn, "SET client_encoding = 'UTF8'", deadline, intr, err))
        return false;
    pg_settings_mend(conn, !pg_settings_at_startup(conn), false, sql);
    if (sql[0] && !run_command(conn, sql, deadline, intr, err))
        return false;
    if (!pg_settings_other_encoding(conn))
        return true;
    error_set(err, ERROR_CONNECT,
              "the client_encoding of the session is %s, and the server does not change it",
              PQparameterStatus(conn, "client_encoding"));
    error_set_field(err, ERROR_HINT,
                    "dbrun reads and writes only UTF-8: a pooler must let client_encoding be set.");
    return false;
}

static PGconn *open_once(const char *const *keywords, const char *const *values, const char *target,
                         uint64_t deadline, const struct io_interrupt *intr, struct error *err)
{
    PGconn *conn = PQconnectStartParams(keywords, values, 0);
    if (!conn) {
        error_set(err, ERROR_CONNECT, "not enough memory to connect");
        return NULL;
    }
    PQsetNoticeReceiver(conn, no_notice, NULL);
    /* The SQLSTATE of a refused connection is only in the message. */
    PQsetErrorVerbosity(conn, PQERRORS_VERBOSE);
    if (PQstatus(conn) == CONNECTION_BAD)
        pg_error_from_connect(err, conn, target);
    else
        connect_loop(conn, target, deadline, intr, err);
    return conn;
}

/* True for a pooler that takes no options: "unsupported startup parameter: options", or "... in options". */
static bool refuses_options(const PGconn *conn)
{
    const char *text = PQerrorMessage(conn);
    return strstr(text, "startup parameter") && strstr(text, "options");
}

static PGconn *open_session(const char *const *keywords, const char *const *values, const char *target,
                            uint64_t deadline, const struct io_interrupt *intr, int *plain, struct error *err)
{
    struct startup s;
    if (__atomic_load_n(plain, __ATOMIC_RELAXED))
        return open_once(keywords, values, target, deadline, intr, err);
    if (!startup_init(&s, keywords, values)) {
        error_set(err, ERROR_CONNECT, "not enough memory to connect");
        return NULL;
    }
    PGconn *conn = open_once(s.keywords, s.values, target, deadline, intr, err);
    startup_free(&s);
    if (!conn || !error_is_set(err) || !refuses_options(conn))
        return conn;
    PQfinish(conn);
    error_clear(err);
    conn = open_once(keywords, values, target, deadline, intr, err);
    if (conn && !error_is_set(err))
        __atomic_store_n(plain, 1, __ATOMIC_RELAXED);
    return conn;
}

/* Masks the passwords of this connection in an error, because a server may repeat what it was sent. Only
 * libpq knows a password from a password file, a service file or the environment. */
static void hide_passwords(struct error *err, PGconn *conn)
{
    struct secrets *secrets = secrets_new();
    const char *password = PQpass(conn);
    if (secrets && password)
        secrets_add(secrets, password, strlen(password));
    PQconninfoOption *options = secrets ? PQconninfo(conn) : NULL;
    for (PQconninfoOption *o = options; o && o->keyword; o++)
        if (strcmp(o->keyword, "sslpassword") == 0 && o->val)
            secrets_add(secrets, o->val, strlen(o->val));
    PQconninfoFree(options);
    if (!secrets || !error_mask(err, secrets))
        error_set(err, err->kind, "cannot connect to PostgreSQL (not enough memory to say why)");
    secrets_free(secrets);
}

PGconn *connect_pg_again(const char *const *keywords, const char *const *values, const char *target,
                         uint64_t deadline, const struct io_interrupt *intr, int *plain, struct error *err)
{
    if (!libpq_open(err))
        return NULL;
    PGconn *conn = open_session(keywords, values, target, deadline, intr, plain, err);
    bool ok = conn && !error_is_set(err);
    if (ok) {
        PQsetErrorVerbosity(conn, PQERRORS_DEFAULT);
        ok = PQsetnonblocking(conn, 1) == 0;
        widen(PQsocket(conn));
        ok = ok && make_session(conn, deadline, intr, err);
    }
    if (ok)
        return conn;
    if (conn && error_is_set(err))
        hide_passwords(err, conn);
    PQfinish(conn);
    return NULL;
}

PGconn *connect_pg(const char *const *keywords, const char *const *values, const char *target,
                   uint64_t deadline, const struct io_interrupt *intr, struct error *err)
{
    int plain = 0;
    return connect_pg_again(keywords, values, target, deadline, intr, &plain, err);
}
