/*
 * The remaining validity of the certificates of a TLS session (OpenSSL).
 */
#ifndef DBRUN_BASE_CERTIFICATE_H
#define DBRUN_BASE_CERTIFICATE_H

#include <stdbool.h>

struct certificates {
    bool has_peer; /* the other side has shown one */
    bool has_own;  /* this side has one */
    double peer;   /* seconds until it expires; negative: it has expired */
    double own;
};

/* `ssl` is the session's SSL; NULL: a connection without TLS. */
struct certificates certificates_of(void *ssl);

#endif
