/*
 * The floor of R1 to R3: hiredis sends DEPTH commands at once and reads their replies, SET and GET in turns.
 * Usage: redis_batch SOCKET DEPTH SECONDS
 */
#include "floor.h"

#include <hiredis/hiredis.h>
#include <string.h>

static uint64_t done, wrong;

/* One batch of SET, or of GET of the values that the last batch stored. */
static void batch(redisContext *c, int depth, uint64_t round, int get)
{
    char value[24];
    for (int i = 0; i < depth; i++) {
        snprintf(value, sizeof value, "%llu", (unsigned long long)(round + (uint64_t)i));
        if (get)
            redisAppendCommand(c, "GET bench:%d", i);
        else
            redisAppendCommand(c, "SET bench:%d %s", i, value);
    }
    for (int i = 0; i < depth; i++) {
        redisReply *reply = NULL;
        if (redisGetReply(c, (void **)&reply) != REDIS_OK) {
            fprintf(stderr, "reply: %s\n", c->errstr);
            exit(1);
        }
        snprintf(value, sizeof value, "%llu", (unsigned long long)(round + (uint64_t)i));
        wrong += strcmp(reply->str, get ? value : "OK") != 0;
        freeReplyObject(reply);
    }
    done += (uint64_t)depth;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s SOCKET DEPTH SECONDS\n", argv[0]);
        return 2;
    }
    int depth = atoi(argv[2]);
    redisContext *c = redisConnectUnix(argv[1]);
    if (c == NULL || c->err) {
        fprintf(stderr, "connect: %s\n", c ? c->errstr : "no memory");
        return 1;
    }
    struct floor_clock start = floor_start();
    double deadline = start.wall + atof(argv[3]);
    for (uint64_t round = 100; floor_seconds() < deadline; round++) {
        batch(c, depth, round, 0);
        batch(c, depth, round, 1);
    }
    floor_report(start, done, wrong);
    redisFree(c);
    return 0;
}
