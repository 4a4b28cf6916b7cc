/* COPY FROM STDIN and TO STDOUT on the connection machine. */
#include "pg/machine_impl.h"

#include <sys/socket.h>

enum { LARGEST_PART = 1 << 26 }; /* libpq counts in int, and copies what it is given */

/* Does an ErrorResponse begin here? 'E', its length, then severity, its untranslated form and the
 * SQLSTATE. Two NUL bytes in a row occur nowhere inside of another message that a COPY can bring, so a
 * look that begins in the middle of one is not mistaken. */
static bool is_error_message(const char *p, ssize_t n)
{
    return n >= 6 && p[0] == 'E' && p[1] == 0 && p[2] == 0 && p[5] == 'S';
}

void pg_machine_copy_look(struct pg_machine *m)
{
    char head[8];
    if (m->refused || PQsslInUse(m->conn))
        return;
    ssize_t n = recv(PQsocket(m->conn), head, sizeof head, MSG_PEEK | MSG_DONTWAIT);
    m->refused = is_error_message(head, n);
}

int pg_machine_copy_put(struct pg_machine *m, const char *data, size_t len)
{
    pg_machine_copy_look(m);
    if (m->refused)
        return 1;
    while (len > 0) {
        int part = len > LARGEST_PART ? LARGEST_PART : (int)len;
        /* 0 = libpq's buffer cannot grow, and this part is lost: it is never full otherwise. */
        if (PQputCopyData(m->conn, data, part) <= 0)
            return -1;
        data += part;
        len -= (size_t)part;
    }
    /* libpq would queue without end: what the socket does not take now is waited for. */
    int flush = PQflush(m->conn);
    if (flush < 0)
        return -1;
    m->flushing = flush > 0;
    return flush == 0;
}

void pg_machine_copy_end(struct pg_machine *m, const char *failure)
{
    /* What cannot be sent any more shows itself in the next step. */
    PQputCopyEnd(m->conn, failure);
    pg_machine_set_state(m, PG_PLAIN);
    m->flushing = true;
}

int pg_machine_copy_get(struct pg_machine *m, char **row)
{
    int n = PQgetCopyData(m->conn, row, 1);
    if (n < 0)
        pg_machine_set_state(m, PG_PLAIN);
    return n < 0 ? -1 : n;
}
