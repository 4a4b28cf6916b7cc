/*
 * The floor of P2: prepared point selects in libpq's pipeline mode, DEPTH in flight on each of N connections,
 * each with its own sync, all of them in one epoll loop.
 *
 * Usage: select_pipeline CONNINFO CONNECTIONS DEPTH SECONDS
 */
#include "floor_pg.h"

#include <sys/epoll.h>

enum { MOST_IN_FLIGHT = 64 };

struct client {
    PGconn *conn;
    int accounts[MOST_IN_FLIGHT]; /* a ring: the accounts of the statements in flight */
    unsigned sent, answered;
};

static uint64_t random_state = 88172645463325252u;
static uint64_t done, wrong;

static void client_open(struct client *c, const char *conninfo)
{
    c->conn = floor_connect(conninfo);
    if (!PQenterPipelineMode(c->conn) || PQsetnonblocking(c->conn, 1) != 0)
        floor_die("pipeline", c->conn);
}

static void client_fill(struct client *c, unsigned depth)
{
    for (; c->sent - c->answered < depth; c->sent++) {
        char text[12];
        const char *values[1] = {text};
        int account = floor_account(&random_state);
        snprintf(text, sizeof text, "%d", account);
        c->accounts[c->sent % MOST_IN_FLIGHT] = account;
        if (!PQsendQueryPrepared(c->conn, "s", 1, values, NULL, NULL, 0) || !PQpipelineSync(c->conn))
            floor_die("send", c->conn);
    }
    if (PQflush(c->conn) < 0)
        floor_die("flush", c->conn);
}

static void client_receive(struct client *c)
{
    if (!PQconsumeInput(c->conn))
        floor_die("receive", c->conn);
    while (c->sent != c->answered && !PQisBusy(c->conn)) {
        PGresult *res = PQgetResult(c->conn);
        if (PQresultStatus(res) == PGRES_TUPLES_OK) {
            int account = c->accounts[c->answered % MOST_IN_FLIGHT];
            wrong += PQntuples(res) != 1 || atoi(PQgetvalue(res, 0, 0)) != account;
        } else if (PQresultStatus(res) == PGRES_PIPELINE_SYNC) {
            c->answered++;
            done++;
        } else if (res) {
            floor_die("select", c->conn);
        }
        PQclear(res);
    }
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: %s CONNINFO CONNECTIONS DEPTH SECONDS\n", argv[0]);
        return 2;
    }
    int n = atoi(argv[2]);
    unsigned depth = (unsigned)atoi(argv[3]);
    struct client *clients = calloc((size_t)n, sizeof *clients);
    int ep = epoll_create1(EPOLL_CLOEXEC);
    if (!clients || n < 1 || depth < 1 || depth > MOST_IN_FLIGHT || ep < 0)
        floor_die("start", NULL);
    for (int i = 0; i < n; i++) {
        client_open(&clients[i], argv[1]);
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &clients[i]};
        if (epoll_ctl(ep, EPOLL_CTL_ADD, PQsocket(clients[i].conn), &ev) < 0)
            floor_die("epoll_ctl", NULL);
    }
    struct floor_clock start = floor_start();
    double deadline = start.wall + atof(argv[4]);
    for (int i = 0; i < n; i++)
        client_fill(&clients[i], depth);
    while (floor_seconds() < deadline) {
        struct epoll_event events[64];
        int ready = epoll_wait(ep, events, 64, 1000);
        for (int i = 0; i < ready; i++) {
            client_receive(events[i].data.ptr);
            client_fill(events[i].data.ptr, depth);
        }
    }
    floor_report(start, done, wrong);
    for (int i = 0; i < n; i++)
        PQfinish(clients[i].conn);
    free(clients);
    return 0;
}
