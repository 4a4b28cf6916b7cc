/*
 * A peer that misbehaves on command, for specs: one poll loop, no threads.
 *
 *   faultproxy LISTEN proxy TARGET         passes everything on, with the faults that stdin asks for
 *   faultproxy LISTEN mute                 accepts connections and sends nothing
 *   faultproxy LISTEN say HEX [HEX ...]    answers the n-th chunk that it receives with the n-th HEX
 *   faultproxy LISTEN greet HEX [HEX ...]  as say, but sends the first HEX at once
 *   faultproxy LISTEN record HEX [HEX ...] as say, and keeps the first bytes that it receives for `heard`
 *   faultproxy LISTEN drown HEX [HEX ...]  as say, then repeats the last HEX forever
 *   faultproxy LISTEN flood HEX            repeats HEX forever, from the first bytes that it receives
 *   faultproxy LISTEN garbage SEED         sends random bytes forever
 *
 * LISTEN and TARGET: unix:PATH, tcp:PORT on 127.0.0.1 (0 = any), or any:PORT on all addresses. The first line
 * of stdout is "listening PATH-or-PORT". Lines of stdin (up = towards the server, down = towards the client):
 *
 *   delay up|down MS      delays each chunk by MS        drip MS        one byte every MS
 *   hold up|down          passes nothing any more        pass up|down   passes bytes again
 *   cut up|down N         after N more bytes: the connection that sends the next one is closed at once
 *   cut                   closes all connections         reset          the same, with RST
 *   later MS LINE         obeys LINE after MS; replaces an earlier one  never          cancels `later`
 *   refuse                closes new connections         accept         accepts them again
 *   stats                 prints "connections N up BYTES down BYTES"
 *   heard                 prints "heard HEX", of `record`
 *
 * It answers each line with "ok" or "error", and ends when stdin closes.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { UP, DOWN };
enum mode { PROXY, MUTE, SAY, GREET, RECORD, DROWN, FLOOD, GARBAGE, MODES };

#define MAX_CONNS  512
#define QUEUE_FULL (1 << 20)

struct chunk {
    struct chunk *next;
    int64_t due; /* ms */
    size_t len;
    size_t off;
    char data[];
};

struct flow {
    struct chunk *head;
    struct chunk *tail;
    size_t queued;
    bool eof;   /* its source has no more */
    bool ended; /* and its destination was told */
};

struct conn {
    int fd[2]; /* [UP] = the server's side, [DOWN] = the client's; flow[d] goes to fd[d] */
    struct flow flow[2];
    int heard;
};

static struct {
    enum mode mode;
    struct sockaddr_storage target;
    socklen_t target_len;
    char **script;
    int script_len;
    int64_t delay[2];
    int64_t drip;
    int64_t cut_after[2]; /* -1 = not */
    bool hold[2];
    bool refuse;
    int64_t later_at; /* 0 = nothing to do later */
    char later[64];
    uint64_t seed;
    uint64_t bytes[2];
    uint64_t accepted;
    char memory[1024]; /* of RECORD */
    size_t memory_len;
    struct conn conns[MAX_CONNS];
    int n;
} g = {.cut_after = {-1, -1}};

static void die(const char *what)
{
    fprintf(stderr, "faultproxy: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- addresses ---- */

static socklen_t parse_address(const char *text, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (strncmp(text, "unix:", 5) == 0) {
        struct sockaddr_un *un = (struct sockaddr_un *)out;
        un->sun_family = AF_UNIX;
        if (strlen(text + 5) >= sizeof(un->sun_path)) {
            errno = ENAMETOOLONG;
            die(text);
        }
        strcpy(un->sun_path, text + 5);
        return sizeof(*un);
    }
    struct sockaddr_in *in = (struct sockaddr_in *)out;
    bool any = strncmp(text, "any:", 4) == 0;
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(any ? INADDR_ANY : INADDR_LOOPBACK);
    in->sin_port = htons((uint16_t)atoi(any || strncmp(text, "tcp:", 4) == 0 ? text + 4 : text));
    return sizeof(*in);
}

static int listen_at(const char *text)
{
    struct sockaddr_storage addr;
    socklen_t len = parse_address(text, &addr);
    int one = 1;
    int fd = socket(addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (addr.ss_family == AF_UNIX)
        unlink(((struct sockaddr_un *)&addr)->sun_path);
    if (bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, 128) < 0)
        die(text);
    if (addr.ss_family == AF_UNIX) {
        printf("listening %s\n", text + 5);
    } else {
        getsockname(fd, (struct sockaddr *)&addr, &len);
        printf("listening %d\n", ntohs(((struct sockaddr_in *)&addr)->sin_port));
    }
    fflush(stdout);
    return fd;
}

/* ---- connections ---- */

static void flow_free(struct flow *f)
{
    while (f->head) {
        struct chunk *c = f->head;
        f->head = c->next;
        free(c);
    }
}

static void conn_close(struct conn *c, bool reset)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    for (int d = 0; d < 2; d++) {
        flow_free(&c->flow[d]);
        if (c->fd[d] < 0)
            continue;
        if (reset)
            setsockopt(c->fd[d], SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
        close(c->fd[d]);
    }
    *c = g.conns[--g.n];
}

static void push(struct flow *f, const char *data, size_t len, int64_t due)
{
    struct chunk *c = malloc(sizeof(*c) + len);
    if (!c)
        die("malloc");
    *c = (struct chunk){.due = due, .len = len};
    memcpy(c->data, data, len);
    if (f->tail && f->head)
        f->tail->next = c;
    else
        f->head = c;
    f->tail = c;
    f->queued += len;
}

/* Queues bytes in the direction `dir`, with the delay or the drip in force. */
static void enqueue(struct conn *c, int dir, const char *data, size_t len)
{
    struct flow *f = &c->flow[dir];
    int64_t at = now_ms() + g.delay[dir];
    if (!g.drip) {
        push(f, data, len, at);
        return;
    }
    if (f->head && f->tail->due > at)
        at = f->tail->due;
    for (size_t i = 0; i < len; i++)
        push(f, data + i, 1, at += g.drip);
}

static void say_hex(struct conn *c, const char *hex)
{
    char buf[65536];
    size_t n = 0;
    for (; hex[0] && hex[1] && n < sizeof(buf); hex += 2) {
        char two[3] = {hex[0], hex[1], 0};
        buf[n++] = (char)strtoul(two, NULL, 16);
    }
    if (n)
        enqueue(c, DOWN, buf, n);
}

static void say_garbage(struct conn *c)
{
    char buf[4096];
    for (size_t i = 0; i < sizeof(buf); i++) {
        g.seed = g.seed * 6364136223846793005u + 1442695040888963407u;
        buf[i] = (char)(g.seed >> 56);
    }
    enqueue(c, DOWN, buf, sizeof(buf));
}

static void accept_one(int listener)
{
    int one = 1;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    g.accepted++;
    if (g.refuse || g.n == MAX_CONNS) {
        close(fd);
        return;
    }
    struct conn *c = &g.conns[g.n++];
    *c = (struct conn){.fd = {-1, fd}};
    if (g.mode == PROXY) {
        int up = socket(g.target.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        c->fd[UP] = up;
        if (up < 0 || connect(up, (struct sockaddr *)&g.target, g.target_len) < 0) {
            conn_close(c, false);
            return;
        }
        fcntl(up, F_SETFL, O_NONBLOCK);
        setsockopt(up, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (g.mode == GREET)
        say_hex(c, g.script[c->heard++]);
    if (g.mode == GARBAGE)
        say_garbage(c);
}

/* A fake server has received something. */
static void heard(struct conn *c, const char *data, size_t len)
{
    bool scripted = g.mode == SAY || g.mode == GREET || g.mode == RECORD || g.mode == DROWN;
    if (g.mode == RECORD && len <= sizeof(g.memory) - g.memory_len) {
        memcpy(g.memory + g.memory_len, data, len);
        g.memory_len += len;
    }
    if (scripted && c->heard < g.script_len)
        say_hex(c, g.script[c->heard]);
    if (g.mode == FLOOD && c->heard == 0)
        say_hex(c, g.script[0]);
    c->heard++;
}

/* ---- moving bytes; false = the connection is closed ---- */

/* Writes what is queued, then the last bytes before the cut, as far as the socket accepts them now. */
static void say_last_words(struct conn *c, int dir, const char *data, size_t len)
{
    push(&c->flow[dir], data, len, 0);
    for (struct chunk *ch = c->flow[dir].head; ch; ch = ch->next) {
        size_t left = ch->len - ch->off;
        if (send(c->fd[dir], ch->data + ch->off, left, MSG_NOSIGNAL) != (ssize_t)left)
            return;
    }
}

static bool read_side(struct conn *c, int side)
{
    int dir = side == DOWN ? UP : DOWN; /* what the client says goes up */
    char buf[65536];
    ssize_t n = read(c->fd[side], buf, sizeof(buf));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0) {
        if (n < 0 || g.mode != PROXY) {
            conn_close(c, n < 0);
            return false;
        }
        c->flow[dir].eof = true;
        return true;
    }
    g.bytes[dir] += (uint64_t)n;
    if (g.mode != PROXY) {
        heard(c, buf, (size_t)n);
        return true;
    }
    if (g.cut_after[dir] >= 0 && n > g.cut_after[dir]) {
        size_t pass = (size_t)g.cut_after[dir];
        say_last_words(c, dir, buf, pass);
        g.cut_after[dir] = -1;
        conn_close(c, false);
        return false;
    }
    if (g.cut_after[dir] >= 0)
        g.cut_after[dir] -= n;
    enqueue(c, dir, buf, (size_t)n);
    return true;
}

static bool write_side(struct conn *c, int dir)
{
    struct flow *f = &c->flow[dir];
    int64_t now = now_ms();
    while (f->head && f->head->due <= now) {
        struct chunk *ch = f->head;
        ssize_t n = send(c->fd[dir], ch->data + ch->off, ch->len - ch->off, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return true;
        if (n < 0) {
            conn_close(c, true);
            return false;
        }
        ch->off += (size_t)n;
        f->queued -= (size_t)n;
        if (ch->off < ch->len)
            return true;
        f->head = ch->next;
        free(ch);
    }
    if (!f->head && g.mode == FLOOD && dir == DOWN && c->heard > 0)
        say_hex(c, g.script[0]);
    if (!f->head && g.mode == DROWN && dir == DOWN && c->heard >= g.script_len - 1)
        say_hex(c, g.script[g.script_len - 1]);
    if (!f->head && g.mode == GARBAGE && dir == DOWN)
        say_garbage(c);
    return true;
}

static bool end_flows(struct conn *c)
{
    for (int dir = 0; dir < 2; dir++) {
        struct flow *f = &c->flow[dir];
        if (f->eof && !f->head && !f->ended && !g.hold[dir]) {
            shutdown(c->fd[dir], SHUT_WR);
            f->ended = true;
        }
    }
    if (c->flow[UP].ended && c->flow[DOWN].ended) {
        conn_close(c, false);
        return false;
    }
    return true;
}

/* ---- control ---- */

static void print_memory(void)
{
    printf("heard ");
    for (size_t i = 0; i < g.memory_len; i++)
        printf("%02x", (unsigned char)g.memory[i]);
    printf("\n");
}

static bool remember_for_later(const char *line)
{
    long ms;
    int at = 0;
    if (sscanf(line, "later %ld %n", &ms, &at) != 1 || at == 0 || strlen(line + at) >= sizeof(g.later))
        return false;
    strcpy(g.later, line + at);
    g.later_at = now_ms() + ms;
    return true;
}

static bool command(char *line)
{
    if (strncmp(line, "later ", 6) == 0)
        return remember_for_later(line);
    char *word = strtok(line, " \n"), *a = strtok(NULL, " \n"), *b = strtok(NULL, " \n");
    int dir = a && strcmp(a, "down") == 0 ? DOWN : UP;
    if (!word)
        return false;
    if (strcmp(word, "delay") == 0 && b)
        g.delay[dir] = atoll(b);
    else if (strcmp(word, "drip") == 0 && a)
        g.drip = atoll(a);
    else if (strcmp(word, "hold") == 0 && a)
        g.hold[dir] = true;
    else if (strcmp(word, "pass") == 0 && a)
        g.hold[dir] = false;
    else if (strcmp(word, "cut") == 0 && b)
        g.cut_after[dir] = atoll(b);
    else if (strcmp(word, "cut") == 0 || strcmp(word, "reset") == 0)
        while (g.n > 0)
            conn_close(&g.conns[0], *word == 'r');
    else if (strcmp(word, "never") == 0)
        g.later_at = 0;
    else if (strcmp(word, "refuse") == 0)
        g.refuse = true;
    else if (strcmp(word, "accept") == 0)
        g.refuse = false;
    else if (strcmp(word, "stats") == 0)
        printf("connections %llu up %llu down %llu\n", (unsigned long long)g.accepted,
               (unsigned long long)g.bytes[UP], (unsigned long long)g.bytes[DOWN]);
    else if (strcmp(word, "heard") == 0)
        print_memory();
    else
        return false;
    return true;
}

static void read_commands(void)
{
    static char buf[4096];
    static size_t len;
    ssize_t n = read(0, buf + len, sizeof(buf) - len - 1);
    if (n <= 0)
        exit(0);
    len += (size_t)n;
    buf[len] = '\0';
    for (char *nl; (nl = strchr(buf, '\n'));) {
        *nl = '\0';
        bool ok = command(buf);
        printf("%s\n", ok ? "ok" : "error");
        fflush(stdout);
        len -= (size_t)(nl + 1 - buf);
        memmove(buf, nl + 1, len + 1);
    }
}

/* ---- the loop ---- */

static short wanted(const struct conn *c, int side, int64_t now, int64_t *next)
{
    short events = 0;
    if (c->fd[side] < 0)
        return 0;
    const struct flow *in = &c->flow[side == DOWN ? UP : DOWN], *out = &c->flow[side];
    if (!in->eof && in->queued < QUEUE_FULL)
        events |= POLLIN;
    if (out->head && !g.hold[side]) {
        if (out->head->due <= now)
            events |= POLLOUT;
        else if (out->head->due < *next)
            *next = out->head->due;
    }
    return events;
}

static void turn(int listener)
{
    static struct pollfd fds[2 + 2 * MAX_CONNS];
    int64_t now = now_ms(), next = now + 3600000;
    if (g.later_at && g.later_at <= now) {
        g.later_at = 0;
        command(g.later);
    } else if (g.later_at) {
        next = g.later_at;
    }
    int n = g.n;
    fds[0] = (struct pollfd){.fd = 0, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = listener, .events = POLLIN};
    for (int i = 0; i < n; i++)
        for (int side = 0; side < 2; side++) {
            short events = wanted(&g.conns[i], side, now, &next);
            /* Without interest even a hang-up would only make the loop spin. */
            fds[2 + 2 * i + side] =
                (struct pollfd){.fd = events ? g.conns[i].fd[side] : -1, .events = events};
        }
    if (poll(fds, (nfds_t)(2 + 2 * n), (int)(next - now)) < 0 && errno != EINTR)
        die("poll");
    /* Backwards, because closing moves the last connection into the gap. */
    for (int i = n - 1; i >= 0; i--) {
        struct conn *c = &g.conns[i];
        bool there = true;
        for (int side = 0; there && side < 2; side++) {
            short got = fds[2 + 2 * i + side].revents;
            if (there && (got & POLLOUT))
                there = write_side(c, side);
            if (there && (got & (POLLIN | POLLHUP | POLLERR)))
                there = read_side(c, side);
        }
        if (there)
            end_flows(c);
    }
    if (fds[1].revents)
        accept_one(listener);
    if (fds[0].revents)
        read_commands();
}

int main(int argc, char **argv)
{
    static const char *const modes[] = {"proxy",  "mute",  "say",   "greet",
                                        "record", "drown", "flood", "garbage"};
    int mode = 0;
    while (argc > 2 && mode < MODES && strcmp(argv[2], modes[mode]) != 0)
        mode++;
    if (argc < 3 || mode == MODES || (mode != MUTE && argc < 4)) {
        fprintf(stderr, "usage: faultproxy LISTEN proxy|mute|say|greet|record|drown|flood|garbage ...\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    g.mode = (enum mode)mode;
    g.script = argv + 3;
    g.script_len = argc - 3;
    if (g.mode == PROXY)
        g.target_len = parse_address(argv[3], &g.target);
    if (g.mode == GARBAGE)
        g.seed = strtoull(argv[3], NULL, 10);
    int listener = listen_at(argv[1]);
    for (;;)
        turn(listener);
}
