/*
 * The address of a Redis server and how to log in. Immutable once made, and reference-counted, because a
 * connect on a worker thread can outlive its pool.
 */
#ifndef DBRUN_REDIS_TARGET_H
#define DBRUN_REDIS_TARGET_H

#include <stdbool.h>
#include <stdint.h>

enum redis_text {
    REDIS_HOST,
    REDIS_PATH, /* unix socket; wins over the host */
    REDIS_USERNAME,
    REDIS_PASSWORD,
    REDIS_CLIENT_NAME,
    REDIS_LIB_NAME, /* what CLIENT LIST shows; NULL: dbrun and its version, "": nothing */
    REDIS_LIB_VERSION,
    REDIS_CA_FILE, /* NULL: the system's authorities */
    REDIS_CA_DIR,
    REDIS_CERT_FILE, /* the client's own certificate */
    REDIS_KEY_FILE,
    REDIS_SERVER_NAME, /* the name in the certificate, when it is not the host */
    REDIS_SERVICE,     /* the master's name, for the sentinels */
    REDIS_SENTINEL_USERNAME,
    REDIS_SENTINEL_PASSWORD,
    REDIS_ADVICE, /* the hint when the server cannot be reached; NULL: a hint by the cause */
    REDIS_TEXTS,
};

struct redis_target {
    char *text[REDIS_TEXTS]; /* NULL = not given */
    char *label;             /* "host:port" or the socket's path: for messages */
    uint16_t port;
    int db;
    bool tls;
    bool tls13;           /* at least TLS 1.3; otherwise at least 1.2 */
    bool verify;          /* check the certificate; off only on request */
    bool verify_hostname; /* and the host name in it */
    bool read_replica;    /* in a cluster: send READONLY, so that a replica serves reads */
    bool no_evict;        /* the server does not close this connection when clients use too much memory */
    bool no_touch;        /* commands do not change the last access time of keys */
    bool sentinel_tls;
    bool is_sentinel;                /* it has its own user and password */
    bool bare;                       /* only log in: a server that runs a long script refuses all else */
    struct redis_target **sentinels; /* NULL-terminated; NULL = the server is where `text` says */
    /* The server's reply for which the current login waits: a literal such as "LOADING", or NULL. */
    const char *_Atomic waits_for;
    struct redis_target *origin;    /* with sentinels: the target whose master this is; referenced */
    _Atomic unsigned good_sentinel; /* the sentinel that answered last: ask it first next time */
    _Atomic unsigned refs;
};

/* An empty target with one reference, verifying, port 6379. NULL when out of memory. */
struct redis_target *redis_target_new(void);
/* Stores a copy. False when out of memory. */
bool redis_target_set(struct redis_target *t, enum redis_text which, const char *text);
/* Adds a sentinel: each connect then asks the sentinels for the master. False when out of memory. */
bool redis_target_add_sentinel(struct redis_target *t, const char *host, uint16_t port);
/* Sets, or with NULL clears, what logins wait for, in `t` and its origin. Any thread. */
void redis_target_tell(struct redis_target *t, const char *code);
/* The same server settings at another address, with `t` as its origin. NULL when out of memory. One
 * reference. */
struct redis_target *redis_target_at(struct redis_target *t, const char *host, uint16_t port);
/* The same server, for connections without database and name. NULL when out of memory. One reference. */
struct redis_target *redis_target_bare(const struct redis_target *t);
/* Makes the labels of the server and its sentinels, and sets the sentinels' password. Call it last. */
bool redis_target_seal(struct redis_target *t);
struct redis_target *redis_target_ref(struct redis_target *t);
/* Frees it with the last reference; the password is wiped. NULL is harmless. */
void redis_target_unref(struct redis_target *t);

#endif
