#include "host/keys.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#define PASTE_BEGINS "\033[200~"
#define PASTE_ENDS   "\033[201~"

enum {
    KEY_WAIT = 50,     /* ms for the rest of a key that sends several bytes */
    PASTE_WAIT = 2000, /* ms for more of a paste; a terminal sends it at once */
    ERASE = 0x7f       /* what the Backspace key sends */
};

/* Reads from the descriptor that the program shares with the shell, which blocks. The loop watches another
 * descriptor. */
static bool read_byte(struct keys *k, char *byte)
{
    ssize_t n;
    do
        n = read(STDIN_FILENO, byte, 1);
    while (n < 0 && errno == EINTR);
    k->ended = k->ended || n <= 0;
    return n == 1;
}

static bool read_within(struct keys *k, char *byte, int ms)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&p, 1, ms) == 1 && read_byte(k, byte);
}

bool keys_queued(const struct keys *k)
{
    return k->next < k->queue.len;
}

static void queue(struct keys *k, const char *text, size_t len)
{
    if (!keys_queued(k)) {
        buf_clear(&k->queue);
        k->next = 0;
    }
    buf_add(&k->queue, text, len);
}

void keys_queue(struct keys *k, int erase, const char *text, size_t len)
{
    static const char key = ERASE;
    while (erase-- > 0)
        queue(k, &key, 1);
    queue(k, text, len);
}

void keys_type(struct keys *k, const char *text, size_t len)
{
    static const char literally = 'V' & 0x1f; /* Ctrl-V */
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\t')
            queue(k, &literally, 1);
        queue(k, &text[i], 1);
    }
}

/* One end of line is \n, \r or \r\n. Other control characters except tabs are dropped, because the editor
 * would read them as keys. */
static void add_pasted(struct buf *paste, char byte, char before)
{
    if (byte == '\n' && before == '\r')
        return;
    if (byte == '\r')
        byte = '\n';
    if (byte == '\n' || byte == '\t' || ((unsigned char)byte >= ' ' && byte != ERASE))
        buf_add(paste, &byte, 1);
}

static void read_paste(struct keys *k, struct buf *paste)
{
    static const char ends[] = PASTE_ENDS;
    size_t matched = 0;
    char byte, before = 0;
    while (matched < sizeof ends - 1 && read_within(k, &byte, PASTE_WAIT)) {
        if (byte == ends[matched]) {
            matched++;
            continue;
        }
        for (size_t i = 0; i < matched; i++)
            add_pasted(paste, ends[i], before);
        before = matched > 0 ? '\0' : before;
        matched = byte == ends[0];
        if (matched == 0)
            add_pasted(paste, byte, before);
        before = byte;
    }
}

enum keys_kind keys_look(struct keys *k, struct buf *paste)
{
    static const char begins[] = PASTE_BEGINS;
    char seen[sizeof begins];
    size_t n = 0;
    buf_clear(paste);
    if (keys_queued(k) || !read_byte(k, seen))
        return KEYS_PLAIN;
    while (seen[n] == begins[n]) {
        n++;
        if (n == sizeof begins - 1) {
            read_paste(k, paste);
            return KEYS_PASTE;
        }
        if (!read_within(k, &seen[n], KEY_WAIT)) {
            queue(k, seen, n);
            return KEYS_PLAIN;
        }
    }
    queue(k, seen, n + 1);
    return KEYS_PLAIN;
}

static bool take_byte(struct keys *k, char *byte)
{
    if (!keys_queued(k))
        return read_byte(k, byte);
    *byte = k->queue.data[k->next++];
    return true;
}

int keys_next(struct keys *k)
{
    mbstate_t state = {0};
    wchar_t wide;
    char byte;
    for (;;) {
        if (!take_byte(k, &byte))
            return -1;
        size_t n = mbrtowc(&wide, &byte, 1, &state);
        if (n == (size_t)-1)
            return (unsigned char)byte; /* invalid in this encoding */
        if (n != (size_t)-2)
            return n == 0 ? 0 : (int)wide;
    }
}

void keys_free(struct keys *k)
{
    buf_free(&k->queue);
}
