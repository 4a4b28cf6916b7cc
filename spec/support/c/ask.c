/*
 * Asks a PostgreSQL one statement at a time, each on a connection of its own, and prints what psql -XAtq
 * prints: rows as lines, columns apart by '|'. A psql costs more than most of what specs ask it, and is
 * needed for each question.
 *
 * A request on the standard input is `URL-LENGTH SQL-LENGTH\n`, then URL and SQL. The answer is `ok LINES\n`
 * or `error LINES\n`, then so many lines.
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static FILE *answer;

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

/* Did it work? The rows or the error are in `answer`. */
static int ask(const char *url, const char *sql)
{
    const char *names[] = {"dbname", "fallback_application_name", NULL};
    const char *values[] = {url, "psql", NULL};
    PGconn *conn = PQconnectdbParams(names, values, 1);
    PQsetNoticeProcessor(conn, be_silent, NULL);
    PGresult *result = PQstatus(conn) == CONNECTION_OK ? PQexec(conn, sql) : NULL;
    ExecStatusType status = PQresultStatus(result);
    int ok = status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
    if (ok)
        print_rows(result);
    else
        fprintf(answer, "%s", PQerrorMessage(conn));
    PQclear(result);
    PQfinish(conn);
    return ok;
}

static char *take(size_t len)
{
    char *text = malloc(len + 1);
    if (text == NULL || fread(text, 1, len, stdin) != len)
        exit(1);
    text[len] = '\0';
    return text;
}

int main(void)
{
    size_t url_len;
    size_t sql_len;
    while (scanf("%zu %zu", &url_len, &sql_len) == 2 && getchar() == '\n') {
        char *url = take(url_len);
        char *sql = take(sql_len);
        char *text = NULL;
        size_t len = 0;
        answer = open_memstream(&text, &len);
        if (answer == NULL)
            return 1;
        int ok = ask(url, sql);
        if (fclose(answer) != 0)
            return 1;
        size_t lines = 0;
        for (size_t i = 0; i < len; i++)
            lines += text[i] == '\n';
        printf("%s %zu\n", ok ? "ok" : "error", lines);
        fwrite(text, 1, len, stdout);
        if (fflush(stdout) != 0)
            return 1;
        free(text);
        free(sql);
        free(url);
    }
    return 0;
}
