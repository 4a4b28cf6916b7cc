#include "base/certificate.h"

#include <openssl/ssl.h>
#include <openssl/x509.h>

enum { DAY = 86400 };

/* Seconds until the certificate expires. False: there is none, or its time cannot be read. */
static bool time_left(const X509 *certificate, double *left)
{
    int days = 0, seconds = 0;
    if (!certificate || !ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(certificate)))
        return false;
    *left = (double)days * DAY + seconds;
    return true;
}

struct certificates certificates_of(void *ssl)
{
    struct certificates c = {.has_peer = false};
    if (!ssl)
        return c;
    X509 *peer = SSL_get_peer_certificate(ssl); /* must be freed */
    c.has_peer = time_left(peer, &c.peer);
    X509_free(peer);
    c.has_own = time_left(SSL_get_certificate(ssl), &c.own);
    return c;
}
