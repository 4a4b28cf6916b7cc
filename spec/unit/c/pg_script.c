#include "pg_script.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { TEXT = 25, INT8 = 20, INT4 = 23, OWN = 100001, LONGEST_WORD = 256 };

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "pg_script: %s\n", what);
    abort();
}

/* ---- waiting ---- */

bool pg_script_never_wait;

/* Replaces the C library's. */
__attribute__((visibility("default"))) int poll(struct pollfd *fds, nfds_t n, int timeout)
{
    struct timespec t = {0};
    int ready = ppoll(fds, n, &t, NULL);
    if (ready != 0 || timeout == 0)
        return ready;
    must(!pg_script_never_wait, "something waits inside of the machine");
    t = (struct timespec){.tv_sec = timeout / 1000, .tv_nsec = timeout % 1000 * 1000000L};
    return ppoll(fds, n, timeout < 0 ? NULL : &t, NULL);
}

unsigned pg_script_readiness(const struct pg_machine *m, unsigned want)
{
    struct pollfd f = {.fd = pg_machine_fd(m)};
    f.events = (short)((want & PG_WANT_READ ? POLLIN : 0) | (want & PG_WANT_WRITE ? POLLOUT : 0));
    if (m->state == PG_BROKEN || m->state == PG_CLOSED)
        return 0;
    if (f.fd < 0)
        return want;
    if (poll(&f, 1, 0) <= 0)
        return 0;
    if (f.revents & (POLLHUP | POLLERR))
        return want;
    return (f.revents & POLLIN ? PG_WANT_READ : 0) | (f.revents & POLLOUT ? PG_WANT_WRITE : 0);
}

/* ---- the connection ---- */

void pg_script_open(struct pg_script *s)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    strcpy(s->dir, "/tmp/dbrun-ctest-XXXXXX");
    must(mkdtemp(s->dir) != NULL, "no temporary folder");
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s/.s.PGSQL.5432", s->dir);
    s->fd = -1;
    s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(bind(s->listener, (struct sockaddr *)&addr, sizeof addr) == 0 && listen(s->listener, 1) == 0,
         "cannot listen");
}

void pg_script_hang_up(struct pg_script *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

void pg_script_close(struct pg_script *s)
{
    char path[128];
    pg_script_hang_up(s);
    close(s->listener);
    snprintf(path, sizeof path, "%s/.s.PGSQL.5432", s->dir);
    unlink(path);
    rmdir(s->dir);
}

void pg_script_send(const struct pg_script *s, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(s->fd, bytes, len, MSG_NOSIGNAL);
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) /* the machine has hung up */
            return;
        must(n > 0, "what the machine is to read does not fit into its socket");
        bytes += n;
        len -= (size_t)n;
    }
}

size_t pg_script_swallow(const struct pg_script *s)
{
    char bytes[4096];
    size_t all = 0;
    for (ssize_t n; (n = recv(s->fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0;)
        all += (size_t)n;
    return all;
}

static void no_notice(void *data, const PGresult *r)
{
    (void)data;
    (void)r;
}

PGconn *pg_script_connect(struct pg_script *s)
{
    static const char login[] = "R\0\0\0\10\0\0\0\0"
                                "S\0\0\0\31client_encoding\0UTF8\0"
                                "K\0\0\0\14\0\0\0\1\0\0\0\2"
                                "Z\0\0\0\5I";
    const char *keywords[] = {"host", "port", "user", "dbname", "sslmode", "gssencmode", NULL};
    const char *values[] = {s->dir, "5432", "u", "d", "disable", "disable", NULL};
    struct error err = {0};
    pg_script_hang_up(s);
    must(libpq_open(&err), "there is no libpq");
    PGconn *conn = PQconnectStartParams(keywords, values, 0);
    must(conn && PQstatus(conn) != CONNECTION_BAD, "libpq does not connect");
    PQsetNoticeReceiver(conn, no_notice, NULL);
    s->fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
    must(s->fd >= 0, "cannot accept");
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    while (status == PGRES_POLLING_WRITING)
        status = PQconnectPoll(conn);
    pg_script_send(s, login, sizeof login - 1);
    while (status == PGRES_POLLING_READING)
        status = PQconnectPoll(conn);
    must(status == PGRES_POLLING_OK && PQsetnonblocking(conn, 1) == 0, "libpq does not log in");
    pg_script_swallow(s);
    return conn;
}

/* ---- messages ---- */

static void add2(struct buf *out, int n)
{
    uint16_t v = htobe16((uint16_t)n);
    buf_add(out, &v, 2);
}

static void add4(struct buf *out, int32_t n)
{
    uint32_t v = htobe32((uint32_t)n);
    buf_add(out, &v, 4);
}

static void add_text(struct buf *out, const char *text)
{
    buf_add(out, text, strlen(text) + 1);
}

static void add_column(struct buf *out, Oid type)
{
    add_text(out, "c");
    add4(out, 0);
    add2(out, 0);
    add4(out, (int32_t)type);
    add2(out, -1);
    add4(out, -1);
    add2(out, 0);
}

static void row_description(struct buf *out, const char *arg)
{
    bool own = strcmp(arg, "own") == 0;
    int n = arg[0] && !own ? atoi(arg) : 1;
    add2(out, n);
    for (int i = 0; i < n; i++)
        add_column(out, own ? OWN : arg[0] ? INT8 : TEXT);
}

static void row(struct buf *out, const char *arg)
{
    add2(out, 1);
    add4(out, arg ? (int32_t)strlen(arg) : -1);
    if (arg)
        buf_adds(out, arg);
}

static void add_field(struct buf *out, char field, const char *text)
{
    buf_add(out, &field, 1);
    add_text(out, text);
}

static void report(struct buf *out, char kind, const char *state)
{
    const char *severity = kind == 'F' ? "FATAL" : kind == 'P' ? "PANIC" : kind == 'N' ? "NOTICE" : "ERROR";
    add_field(out, 'S', severity);
    add_field(out, 'V', severity);
    if (state[0])
        add_field(out, 'C', state);
    add_field(out, 'M', strcmp(state, "57014") == 0 ? "canceling statement due to user request" : "told");
    buf_add(out, "", 1);
}

static void copy_start(struct buf *out)
{
    buf_add(out, "", 1); /* text */
    add2(out, 1);
    add2(out, 0);
}

/* Bytes as hexadecimal digits. */
static bool raw(struct buf *out, const char *digits)
{
    unsigned byte;
    for (; digits[0]; digits += 2) {
        if (sscanf(digits, "%2x", &byte) != 1)
            return false;
        char c = (char)byte;
        buf_add(out, &c, 1);
    }
    return true;
}

/* Adds the body of a message. `arg` NULL: the word has no argument. False: the kind is unknown. */
static bool body(struct buf *out, char kind, const char *arg)
{
    const char *text = arg ? arg : "";
    switch (kind) {
    case '1':
    case '2':
    case '3':
    case 'n':
    case 's':
    case 'I':
    case 'c':
        return true;
    case 't':
        add2(out, 1);
        add4(out, INT4);
        return true;
    case 'T':
        row_description(out, text);
        return true;
    case 'D':
        row(out, arg);
        return true;
    case 'C':
        add_text(out, text);
        return true;
    case 'E':
    case 'F':
    case 'P':
    case 'N':
        report(out, kind, text);
        return true;
    case 'Z':
        return buf_add(out, text[0] ? text : "I", 1);
    case 'G':
    case 'H':
    case 'W':
        copy_start(out);
        return true;
    case 'd':
        return buf_adds(out, text);
    case 'S':
        add_text(out, "application_name");
        add_text(out, "script");
        return true;
    case 'A':
        add4(out, 1);
        add_text(out, "channel");
        add_text(out, "payload");
        return true;
    default:
        return false;
    }
}

bool pg_script_add(struct buf *out, const char *word)
{
    char copy[LONGEST_WORD];
    size_t len = strlen(word);
    if (len == 0 || len >= sizeof copy)
        return false;
    memcpy(copy, word, len + 1);
    for (char *at = copy; *at; at++)
        if (*at == '_')
            *at = ' ';
    if (copy[0] == '!')
        return raw(out, copy + 1);
    char type = copy[0] == 'F' || copy[0] == 'P' ? 'E' : copy[0];
    const char *arg = copy[1] == ':' ? copy + 2 : copy[1] ? copy + 1 : NULL;
    buf_add(out, &type, 1);
    size_t from = out->len;
    add4(out, 0);
    if (!body(out, copy[0], arg))
        return false;
    uint32_t n = htobe32((uint32_t)(out->len - from));
    memcpy(out->data + from, &n, sizeof n);
    return true;
}

/* ---- results ---- */

void pg_script_describe_error(struct buf *out, const struct error *e)
{
    const char *outcome = error_outcome_name(e->outcome);
    const char *state = e->field ? e->field[ERROR_SQLSTATE] : NULL;
    buf_addf(out, "!%s/%s%s%s", error_kind_name(e->kind), outcome ? outcome : "none", state ? "/" : "",
             state ? state : "");
}

void pg_script_describe_result(struct buf *out, PGresult *r)
{
    if (!r) {
        buf_adds(out, "nothing");
        return;
    }
    if (PQresultStatus(r) == PGRES_EMPTY_QUERY)
        buf_adds(out, "empty");
    if (PQresultStatus(r) == PGRES_COMMAND_OK && PQnfields(r) == 0)
        buf_adds(out, PQcmdStatus(r));
    if (PQnfields(r) == 0)
        return;
    buf_adds(out, "(");
    for (int i = 0; i < PQntuples(r); i++)
        buf_addf(out, "%s%s", i ? "," : "", PQgetisnull(r, i, 0) ? "NULL" : PQgetvalue(r, i, 0));
    buf_adds(out, ")");
}

/* ---- invariants ---- */

const char *pg_script_check(const struct pg_machine *m)
{
    if (m->state == PG_CLOSED)
        return m->conn || m->owed ? "a closed machine still has something" : NULL;
    if (m->owed > PG_MOST_GROUPS)
        return "more groups are owed than there may be";
    if (m->state == PG_BROKEN)
        return m->owed ? "a broken machine owes something" : NULL;
    if (m->doomed)
        return NULL; /* the next step breaks it */
    if ((m->state == PG_IDLE) != (m->owed == 0))
        return "idle and owed do not agree";
    if ((m->state == PG_PIPE) != (PQpipelineStatus(m->conn) != PQ_PIPELINE_OFF))
        return "the state and libpq's pipeline mode do not agree";
    if (m->state != PG_PIPE && m->owed > 1)
        return "several groups outside of a pipeline";
    if (m->state != PG_PIPE && m->shared)
        return "shared outside of a pipeline";
    return NULL;
}
