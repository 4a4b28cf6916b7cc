/*
 * Runs one statement or command at a time, each on a new connection to a PostgreSQL or a Redis, and prints
 * the output of psql -XAtq or redis-cli. Starting psql or redis-cli costs more than most of what specs ask.
 *
 * A request on the standard input is `COUNT LENGTH...\n`, then COUNT texts: the URL of a PostgreSQL, SQL and,
 * to keep the connection until a request names another URL, `keep`; or `unix:PATH` or `tcp:PORT` of a Redis,
 * its password and a database number (both can be empty), and the words of a command. The answer is a line,
 * `ok TEXT` or `error TEXT`; TEXT has the escapes \\, \n and \r.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MOST_TEXTS 1024

typedef struct {
    size_t len;
    char *bytes; /* and a 0 behind them */
} text;

static FILE *answer;

/* ---- PostgreSQL ---- */

static void be_silent(void *data, const char *message)
{
    (void)data;
    (void)message;
}

static void print_rows(const PGresult *result)
{
    for (int row = 0; row < PQntuples(result); row++) {
        for (int column = 0; column < PQnfields(result); column++)
            fprintf(answer, "%s%s", column > 0 ? "|" : "", PQgetvalue(result, row, column));
        fputc('\n', answer);
    }
}

static PGconn *kept;
static char *kept_url;

static void let_go(void)
{
    PQfinish(kept);
    free(kept_url);
    kept = NULL;
    kept_url = NULL;
}

/* Between requests a server only sends its shutdown, or messages that do not matter. */
static int is_alive(PGconn *conn)
{
    struct pollfd p = {.fd = PQsocket(conn), .events = POLLIN};
    return poll(&p, 1, 0) == 0 || PQconsumeInput(conn);
}

static PGconn *connect_postgres(const char *url, int keep)
{
    const char *names[] = {"dbname", "fallback_application_name", NULL};
    const char *values[] = {url, "psql", NULL};
    if (keep && kept != NULL && strcmp(kept_url, url) == 0 && is_alive(kept))
        return kept;
    let_go();
    PGconn *conn = PQconnectdbParams(names, values, 1);
    PQsetNoticeProcessor(conn, be_silent, NULL);
    if (keep && PQstatus(conn) == CONNECTION_OK && (kept_url = strdup(url)) != NULL)
        kept = conn;
    return conn;
}

/* Returns whether it succeeded; the rows or the error are in `answer`. */
static int ask_postgres(const char *url, const char *sql, int keep)
{
    PGconn *conn = connect_postgres(url, keep);
    PGresult *result = PQstatus(conn) == CONNECTION_OK ? PQexec(conn, sql) : NULL;
    ExecStatusType status = PQresultStatus(result);
    int ok = status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
    if (ok)
        print_rows(result);
    else
        fprintf(answer, "%s", PQerrorMessage(conn));
    PQclear(result);
    if (conn != kept)
        PQfinish(conn);
    return ok;
}

/* ---- Redis ---- */

static int connect_redis(const char *address)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in inet = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on_socket = strncmp(address, "unix:", 5) == 0;
    if (on_socket && strlen(address + 5) >= sizeof local.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    if (on_socket)
        strcpy(local.sun_path, address + 5);
    else
        inet.sin_port = htons((uint16_t)atoi(address + 4));
    int fd = socket(on_socket ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int failed = on_socket ? connect(fd, (struct sockaddr *)&local, sizeof local)
                           : connect(fd, (struct sockaddr *)&inet, sizeof inet);
    if (!failed)
        return fd;
    int reason = errno;
    close(fd);
    errno = reason;
    return -1;
}

/* A failed write shows when the reply is missing. */
static void say(int fd, const void *bytes, size_t len)
{
    for (const char *at = bytes; len > 0;) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            return;
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
    }
}

static void say_command(int fd, const text *words, size_t count)
{
    char head[32];
    say(fd, head, (size_t)snprintf(head, sizeof head, "*%zu\r\n", count));
    for (size_t i = 0; i < count; i++) {
        say(fd, head, (size_t)snprintf(head, sizeof head, "$%zu\r\n", words[i].len));
        say(fd, words[i].bytes, words[i].len);
        say(fd, "\r\n", 2);
    }
}

/* Copies a reply to `out`. Returns 1, or 0 for an error reply, or -1 when the connection is closed. */
static int hear(FILE *in, FILE *out)
{
    char line[4096];
    if (fgets(line, sizeof line, in) == NULL)
        return -1;
    line[strcspn(line, "\r\n")] = '\0';
    long n = atol(line + 1);
    switch (line[0]) {
    case '$':
        for (long i = 0; i < n + 2 && n >= 0; i++) {
            int byte = fgetc(in);
            if (byte == EOF)
                return -1;
            if (i < n)
                fputc(byte, out);
        }
        return 1;
    case '*':
        for (long i = 0; i < n; i++) {
            if (i > 0)
                fputc('\n', out);
            if (hear(in, out) < 0)
                return -1;
        }
        return 1;
    case '-':
        fprintf(out, "%s\n", line + 1);
        return 0;
    default:
        fputs(line + 1, out);
        return 1;
    }
}

/* Sends a command that prepares the connection, such as AUTH; warns of errors like redis-cli, and goes on. */
static int prepare(int fd, FILE *in, const char *command, text word)
{
    text words[] = {{strlen(command), (char *)command}, word};
    if (word.len == 0)
        return 1;
    char *reply = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&reply, &len);
    if (out == NULL)
        exit(1);
    say_command(fd, words, 2);
    int heard = hear(in, out);
    fclose(out);
    free(reply);
    return heard;
}

/* Returns whether the server answered; the reply (which can be an error) or the reason is in `answer`. */
static int ask_redis(const text *texts, size_t count)
{
    int fd = connect_redis(texts[0].bytes);
    FILE *in = fd >= 0 ? fdopen(fd, "rb") : NULL;
    if (in == NULL) {
        fprintf(answer, "Could not connect to Redis at %s: %s\n", texts[0].bytes, strerror(errno));
        return 0;
    }
    int heard = prepare(fd, in, "AUTH", texts[1]) < 0 ? -1 : prepare(fd, in, "SELECT", texts[2]);
    if (heard >= 0) {
        say_command(fd, texts + 3, count - 3);
        heard = hear(in, answer);
    }
    fputs(heard < 0 ? "Error: Server closed the connection\n" : "\n", answer);
    fclose(in);
    return heard >= 0;
}

/* ---- requests ---- */

static size_t take_texts(text *texts)
{
    size_t count;
    if (scanf("%zu", &count) != 1 || count < 2 || count > MOST_TEXTS)
        return 0;
    for (size_t i = 0; i < count; i++) {
        if (scanf("%zu", &texts[i].len) != 1)
            return 0;
    }
    if (getchar() != '\n')
        return 0;
    for (size_t i = 0; i < count; i++) {
        texts[i].bytes = malloc(texts[i].len + 1);
        if (texts[i].bytes == NULL || fread(texts[i].bytes, 1, texts[i].len, stdin) != texts[i].len)
            return 0;
        texts[i].bytes[texts[i].len] = '\0';
    }
    return count;
}

static void print_answer(int ok, const char *bytes, size_t len)
{
    fputs(ok ? "ok " : "error ", stdout);
    for (size_t i = 0; i < len; i++) {
        switch (bytes[i]) {
        case '\\':
            fputs("\\\\", stdout);
            break;
        case '\n':
            fputs("\\n", stdout);
            break;
        case '\r':
            fputs("\\r", stdout);
            break;
        default:
            putchar(bytes[i]);
        }
    }
    putchar('\n');
}

int main(void)
{
    static text texts[MOST_TEXTS];
    size_t count;
    while ((count = take_texts(texts)) > 0) {
        char *said = NULL;
        size_t len = 0;
        answer = open_memstream(&said, &len);
        if (answer == NULL)
            return 1;
        int ok =
            count <= 3 ? ask_postgres(texts[0].bytes, texts[1].bytes, count == 3) : ask_redis(texts, count);
        if (fclose(answer) != 0)
            return 1;
        print_answer(ok, said, len);
        if (fflush(stdout) != 0)
            return 1;
        free(said);
        for (size_t i = 0; i < count; i++)
            free(texts[i].bytes);
    }
    return 0;
}
