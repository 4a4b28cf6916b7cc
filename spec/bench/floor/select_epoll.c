/*
 * The floor of P1: a prepared point select on N connections, one at a time per connection, all of
 * them in one epoll loop. Usage: select_epoll CONNINFO CONNECTIONS SECONDS
 */
#include "floor_pg.h"

#include <string.h>
#include <sys/epoll.h>

enum { WARM_UP = 100 }; /* statements per connection before the clock starts */

struct client {
    PGconn *conn;
    int account; /* the account of the statement in flight: its balance is the same number */
};

static uint64_t random_state = 88172645463325252u;
static uint64_t done, wrong;

static void client_send(struct client *c)
{
    char text[12];
    const char *values[1] = {text};
    c->account = floor_account(&random_state);
    snprintf(text, sizeof text, "%d", c->account);
    if (!PQsendQueryPrepared(c->conn, "s", 1, values, NULL, NULL, 0))
        floor_die("send", c->conn);
}

/* True when the reply was complete. */
static int client_receive(struct client *c)
{
    if (!PQconsumeInput(c->conn))
        floor_die("receive", c->conn);
    while (!PQisBusy(c->conn)) {
        PGresult *res = PQgetResult(c->conn);
        if (!res)
            return 1;
        if (PQntuples(res) != 1 || atoi(PQgetvalue(res, 0, 0)) != c->account)
            wrong++;
        done++;
        PQclear(res);
    }
    return 0;
}

/* Runs until `limit` statements were answered (0 = no limit) or `deadline` passes (0 = none). Waits for
 * the statements in flight at the end, so that the next run starts clean. */
static void run(int ep, struct client *clients, int n, uint64_t limit, double deadline)
{
    struct epoll_event events[64];
    int in_flight = n;
    int stop = 0;
    for (int i = 0; i < n; i++)
        client_send(&clients[i]);
    while (in_flight > 0) {
        int ready = epoll_wait(ep, events, 64, -1);
        if (!stop)
            stop = (limit && done >= limit) || (deadline > 0 && floor_seconds() >= deadline);
        for (int i = 0; i < ready; i++) {
            struct client *c = events[i].data.ptr;
            if (!client_receive(c))
                continue;
            if (stop)
                in_flight--;
            else
                client_send(c);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s CONNINFO CONNECTIONS SECONDS\n", argv[0]);
        return 2;
    }
    int n = atoi(argv[2]);
    struct client *clients = calloc((size_t)n, sizeof *clients);
    int ep = epoll_create1(EPOLL_CLOEXEC);
    if (!clients || n < 1 || ep < 0)
        floor_die("start", NULL);
    for (int i = 0; i < n; i++) {
        clients[i].conn = floor_connect(argv[1]);
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &clients[i]};
        if (epoll_ctl(ep, EPOLL_CTL_ADD, PQsocket(clients[i].conn), &ev) < 0)
            floor_die("epoll_ctl", NULL);
    }
    run(ep, clients, n, (uint64_t)n * WARM_UP, 0);
    done = 0;
    struct floor_clock start = floor_start();
    run(ep, clients, n, 0, start.wall + atof(argv[3]));
    floor_report(start, done, wrong);
    for (int i = 0; i < n; i++)
        PQfinish(clients[i].conn);
    free(clients);
    return 0;
}
