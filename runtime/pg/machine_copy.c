/* COPY FROM STDIN and TO STDOUT on the connection machine. */
#include "pg/machine_impl.h"

#include <sys/socket.h>

enum { LARGEST_PART = 1 << 26 }; /* libpq takes the length as an int, and copies the data */

/* True when an ErrorResponse begins here: 'E', a length below 64 KiB, then the field 'S'. No other message
 * during a COPY contains two NUL bytes in a row, so these bytes cannot be the middle of one. */
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
        /* 0 = libpq has no memory for this part, which is lost. (The buffer has no other limit.) */
        if (PQputCopyData(m->conn, data, part) <= 0)
            return -1;
        data += part;
        len -= (size_t)part;
    }
    /* libpq's buffer grows without limit: so the caller must wait until the socket has taken all of it. */
    int flush = PQflush(m->conn);
    if (flush < 0)
        return -1;
    m->flushing = flush > 0;
    return flush == 0;
}

void pg_machine_copy_end(struct pg_machine *m, const char *failure)
{
    /* If this cannot be sent, the next step finds the connection lost. */
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
