#include "redis/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct redis_tls {
    SSL *ssl;
    BIO_METHOD *method;
    size_t taken; /* bytes of a record that a write began and the next must continue; 0 = none */
};

/* ---- a BIO for the socket: OpenSSL's own would raise SIGPIPE ---- */

static int bio_fd(BIO *bio)
{
    return (int)(intptr_t)BIO_get_data(bio);
}

static int bio_read(BIO *bio, char *data, int len)
{
    BIO_clear_retry_flags(bio);
    ssize_t n = recv(bio_fd(bio), data, (size_t)len, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_read(bio);
    return (int)n;
}

static int bio_write(BIO *bio, const char *data, int len)
{
    BIO_clear_retry_flags(bio);
    ssize_t n = send(bio_fd(bio), data, (size_t)len, MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_write(bio);
    return (int)n;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)bio;
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static bool attach_socket(struct redis_tls *tls, int fd)
{
    tls->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "dbrun socket");
    if (!tls->method)
        return false;
    BIO_meth_set_read(tls->method, bio_read);
    BIO_meth_set_write(tls->method, bio_write);
    BIO_meth_set_ctrl(tls->method, bio_ctrl);
    BIO *bio = BIO_new(tls->method);
    if (!bio)
        return false;
    BIO_set_data(bio, (void *)(intptr_t)fd);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    return true;
}

/* ---- setting up ---- */

static const char *last_reason(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    /* OpenSSL has no reason string for errors of system calls. */
    if (!reason && code && ERR_SYSTEM_ERROR(code))
        reason = strerror(ERR_GET_REASON(code));
    return reason ? reason : "unknown error";
}

static bool config_error(struct error *e, const char *what, const char *file)
{
    error_set(e, ERROR_CONFIG, "TLS: cannot use the %s %s: %s", what, file, last_reason());
    return false;
}

/* An encrypted key fails: OpenSSL would ask for its pass phrase at the terminal. */
static int no_pass_phrase(char *buf, int size, int rwflag, void *data)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)data;
    return 0;
}

static bool load_authorities(SSL_CTX *ctx, const struct redis_target *t, struct error *e)
{
    const char *file = t->text[REDIS_CA_FILE];
    const char *dir = t->text[REDIS_CA_DIR];
    if (file && SSL_CTX_load_verify_file(ctx, file) != 1)
        return config_error(e, "certificate authority file", file);
    if (dir && SSL_CTX_load_verify_dir(ctx, dir) != 1)
        return config_error(e, "certificate authority folder", dir);
    if (!file && !dir)
        SSL_CTX_set_default_verify_paths(ctx);
    return true;
}

static bool load_own_certificate(SSL_CTX *ctx, const struct redis_target *t, struct error *e)
{
    const char *cert = t->text[REDIS_CERT_FILE];
    const char *key = t->text[REDIS_KEY_FILE] ? t->text[REDIS_KEY_FILE] : cert;
    if (!cert)
        return true;
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
        return config_error(e, "client certificate", cert);
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
        return config_error(e, "client key", key);
    return true;
}

static SSL_CTX *new_context(const struct redis_target *t, struct error *e)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (!ctx) {
        error_set(e, ERROR_CONNECT, "TLS: %s", last_reason());
        return NULL;
    }
    SSL_CTX_set_min_proto_version(ctx, t->tls13 ? TLS1_3_VERSION : TLS1_2_VERSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_default_passwd_cb(ctx, no_pass_phrase);
    SSL_CTX_set_verify(ctx, t->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    if (!load_authorities(ctx, t, e) || !load_own_certificate(ctx, t, e)) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

static bool is_address(const char *host)
{
    unsigned char addr[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, host, addr) == 1 || inet_pton(AF_INET6, host, addr) == 1;
}

/* The name that the certificate must carry, and SNI. An address is checked, but never sent as SNI. */
static bool expect_name(SSL *ssl, const struct redis_target *t)
{
    const char *name = t->text[REDIS_SERVER_NAME] ? t->text[REDIS_SERVER_NAME] : t->text[REDIS_HOST];
    if (!name)
        name = t->text[REDIS_PATH] ? "localhost" : "127.0.0.1";
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    bool address = is_address(name);
    if (!address && SSL_set_tlsext_host_name(ssl, name) != 1)
        return false;
    if (!t->verify || !t->verify_hostname)
        return true;
    if (address)
        return X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1;
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(param, name, 0) == 1;
}

struct redis_tls *redis_tls_new(const struct redis_target *target, int fd, struct error *e)
{
    ERR_clear_error();
    SSL_CTX *ctx = new_context(target, e);
    if (!ctx)
        return NULL;
    struct redis_tls *tls = calloc(1, sizeof *tls);
    if (!tls) {
        error_set(e, ERROR_CONNECT, "not enough memory");
        SSL_CTX_free(ctx);
        return NULL;
    }
    tls->ssl = SSL_new(ctx);
    SSL_CTX_free(ctx); /* the session holds a reference */
    if (!tls->ssl || !attach_socket(tls, fd) || !expect_name(tls->ssl, target)) {
        error_set(e, ERROR_CONNECT, "TLS: %s", last_reason());
        redis_tls_free(tls);
        return NULL;
    }
    SSL_set_connect_state(tls->ssl);
    return tls;
}

void redis_tls_free(struct redis_tls *tls)
{
    if (!tls)
        return;
    SSL_free(tls->ssl);
    BIO_meth_free(tls->method);
    free(tls);
}

/* ---- reading and writing ---- */

static const char *hint_for(long verify, const char *reason)
{
    switch (verify) {
    case X509_V_OK:
        break;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return "connect by a name that is in the server's certificate";
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return "the server's certificate has to be renewed";
    default:
        return "name the file of the certificate authority that signed the server's certificate "
               "(ssl_ca_certs=FILE in the URL)";
    }
    if (strstr(reason, "wrong version number"))
        return "the server does not seem to speak TLS on this port: redis:// instead of rediss://?";
    if (strstr(reason, "certificate required") || strstr(reason, "handshake failure"))
        return "the server may want a client certificate (ssl_certfile=FILE&ssl_keyfile=FILE in the URL)";
    return NULL;
}

static enum redis_io fail(struct redis_tls *tls, struct error *e)
{
    const char *reason = last_reason();
    long verify = SSL_get_verify_result(tls->ssl);
    if (SSL_get_verify_mode(tls->ssl) == SSL_VERIFY_NONE)
        verify = X509_V_OK;
    error_set(e, ERROR_CONNECT, "TLS: %s",
              verify == X509_V_OK ? reason : X509_verify_cert_error_string(verify));
    error_set_field(e, ERROR_HINT, hint_for(verify, reason));
    ERR_clear_error();
    return REDIS_IO_FAILED;
}

/* What the return value `rc` of an SSL_ call means when it is not success. */
static enum redis_io explain(struct redis_tls *tls, int rc, unsigned *want, struct error *e)
{
    int err = errno;
    switch (SSL_get_error(tls->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        *want = REDIS_IO_READ;
        return REDIS_IO_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        *want = REDIS_IO_WRITE;
        return REDIS_IO_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return REDIS_IO_CLOSED;
    case SSL_ERROR_SYSCALL:
        if (ERR_peek_error())
            return fail(tls, e);
        if (err == 0 || err == ECONNRESET || err == EPIPE)
            return REDIS_IO_CLOSED;
        error_set(e, ERROR_CONNECT, "TLS: %s", strerror(err));
        return REDIS_IO_FAILED;
    default:
        /* A server that closes without TLS' close_notify counts as closed. */
        if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
            ERR_clear_error();
            return REDIS_IO_CLOSED;
        }
        return fail(tls, e);
    }
}

enum redis_io redis_tls_handshake(struct redis_tls *tls, unsigned *want, struct error *e)
{
    ERR_clear_error();
    errno = 0;
    int rc = SSL_do_handshake(tls->ssl);
    return rc == 1 ? REDIS_IO_OK : explain(tls, rc, want, e);
}

enum redis_io redis_tls_read(struct redis_tls *tls, void *data, size_t len, size_t *done, unsigned *want,
                             struct error *e)
{
    ERR_clear_error();
    errno = 0;
    int rc = SSL_read_ex(tls->ssl, data, len, done);
    return rc == 1 ? REDIS_IO_OK : explain(tls, rc, want, e);
}

enum redis_io redis_tls_write(struct redis_tls *tls, const void *data, size_t len, size_t *done,
                              unsigned *want, struct error *e)
{
    /* One record at a time: SSL_write would continue with the next record and, if that blocks, not report
     * that the first was sent. After a write that blocked, OpenSSL has encrypted the record and needs the
     * same bytes again. */
    size_t n = len < SSL3_RT_MAX_PLAIN_LENGTH ? len : SSL3_RT_MAX_PLAIN_LENGTH;
    if (tls->taken)
        n = tls->taken;
    ERR_clear_error();
    errno = 0;
    int rc = SSL_write_ex(tls->ssl, data, n, done);
    enum redis_io io = rc == 1 ? REDIS_IO_OK : explain(tls, rc, want, e);
    tls->taken = io == REDIS_IO_AGAIN ? n : 0;
    return io;
}

size_t redis_tls_taken(const struct redis_tls *tls)
{
    return tls->taken;
}

bool redis_tls_pending(const struct redis_tls *tls)
{
    return SSL_has_pending(tls->ssl) == 1;
}

bool redis_tls_quiet(struct redis_tls *tls)
{
    char byte;
    size_t done;
    ERR_clear_error();
    int rc = SSL_peek_ex(tls->ssl, &byte, 1, &done);
    bool quiet = rc != 1 && SSL_get_error(tls->ssl, rc) == SSL_ERROR_WANT_READ;
    ERR_clear_error();
    return quiet;
}

struct certificates redis_tls_certificates(const struct redis_tls *tls)
{
    return certificates_of(tls->ssl);
}
