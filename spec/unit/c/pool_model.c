#include "pool_model.h"

struct model m;
const char owners[OWNERS];

static bool at_once(void)
{
    return m.sync && chance((uint32_t)m.sync);
}

/* ---- the model ---- */

struct conn *model_conn(const struct pool_slot *s)
{
    for (int i = 0; i < m.conns; i++)
        if (m.conn[i]->slot == s)
            return m.conn[i];
    CHECK_NEVER("a slot that the model does not know");
    abort();
}

int model_count(enum doing doing)
{
    int n = 0;
    for (int i = 0; i < m.conns; i++)
        n += m.conn[i]->doing == doing;
    return n;
}

struct conn *model_pick(enum doing doing)
{
    int n = model_count(doing);
    if (n == 0)
        return NULL;
    n = (int)prng_below(&m.random, (uint32_t)n);
    for (int i = 0;; i++)
        if (m.conn[i]->doing == doing && n-- == 0)
            return m.conn[i];
}

void model_forget_conn(struct conn *c)
{
    for (int i = 0; i < m.conns; i++)
        if (m.conn[i] == c)
            m.conn[i] = m.conn[--m.conns];
    free(c);
}

void model_new_generation(void)
{
    m.generation++;
}

bool model_doomed(const struct conn *c)
{
    return c->doomed || c->generation != m.generation || m.closed;
}

void model_forget_asker(struct asker *a)
{
    for (int i = 0; i < m.waiters; i++) {
        if (m.queue[i] != a)
            continue;
        memmove(m.queue + i, m.queue + i + 1, (size_t)(--m.waiters - i) * sizeof(m.queue[0]));
        if (a->w.owner)
            m.owner_waits[(const char *)a->w.owner - owners]--;
        return;
    }
    CHECK_NEVER("settled twice, or never queued");
}

/* First come, first served. A waiter whose pool_acquire is about to return its result does not count. */
void model_check_first(const struct asker *a)
{
    int i = 0;
    while (i < m.waiters && m.queue[i] != a && m.queue[i]->inside && !m.queue[i]->w.queued)
        i++;
    CHECK(i < m.waiters && m.queue[i] == a);
}

/* Whether `owner` would complete a deadlock by waiting. */
bool model_deadlock(const void *owner)
{
    bool holds = false;
    if (!owner || (uint32_t)model_count(LEASED) < m.limit)
        return false;
    for (int i = 0; i < m.conns; i++) {
        const void *who = m.conn[i]->owner;
        if (who == owner)
            holds = true;
        else if (!who || m.owner_waits[(const char *)who - owners] == 0)
            return false;
    }
    return holds;
}

void model_granted(struct pool_slot *s, const void *owner)
{
    struct conn *c = model_conn(s);
    CHECK_EQ(c->doing, UNUSED); /* never two users at once */
    CHECK(!model_doomed(c));
    CHECK(c->looked);
    CHECK(m.now <= s->expires_at);
    CHECK(m.recycle == 0 || s->expires_at <= s->opened_at + m.recycle);
    CHECK(s->owner == owner && s->state == SLOT_LEASED);
    CHECK_EQ(s->leased_at, m.now);
    c->doing = LEASED;
    c->owner = owner;
    c->since = m.now;
    m.want.acquired++;
}

/* ---- the embedder ---- */

void model_opened(struct conn *c)
{
    c->doing = UNUSED;
    c->looked = true;
    c->since = m.now;
    m.want.opened++;
    pool_opened(c->slot, c, m.now);
}

void model_open_failed(struct conn *c)
{
    struct error e = {0};
    struct pool_slot *s = c->slot;
    error_set(&e, ERROR_CONNECT, "refused");
    m.want.failed++;
    model_forget_conn(c);
    pool_open_failed(s, &e, m.now);
    CHECK(!error_is_set(&e));
}

void model_closed(struct conn *c)
{
    struct pool_slot *s = c->slot;
    CHECK(s->conn == c);
    m.want.closed++;
    model_forget_conn(c);
    pool_closed(s, m.now);
}

void model_pinged(struct conn *c, bool alive)
{
    c->doing = UNUSED;
    if (!alive) {
        c->doomed = true;
        if (c->generation == m.generation)
            model_new_generation();
    }
    c->looked = alive;
    c->since = m.now;
    pool_pinged(c->slot, alive, m.now);
}

void model_reset_done(struct conn *c, bool ok)
{
    c->doing = UNUSED;
    c->doomed |= !ok;
    c->looked = ok;
    c->since = m.now;
    pool_reset_done(c->slot, ok, m.now);
}

static void op_open(struct pool_slot *s)
{
    struct conn *c = calloc(1, sizeof *c);
    if (!c || m.conns == MAX_SLOTS)
        abort();
    *c = (struct conn){.slot = s, .doing = OPENING, .generation = m.generation};
    m.conn[m.conns++] = c;
    CHECK((uint32_t)m.conns <= m.limit);
    CHECK(!m.closed);
    if (!at_once())
        return;
    if (chance(4))
        model_open_failed(c);
    else
        model_opened(c);
}

/* Checks that there is a reason to close the connection, and that the pool counts it under that reason. */
static void check_reason(const struct conn *c, const struct pool_slot *s)
{
    struct pool_stats now;
    pool_stats(m.pool, &now);
    if (now.invalidated != m.want.invalidated) {
        CHECK(model_doomed(c));
        m.want.invalidated++;
    } else if (now.recycled != m.want.recycled) {
        CHECK(m.recycle && m.now > s->expires_at);
        CHECK(m.now - s->opened_at > m.recycle - m.recycle / 10 - 1);
        m.want.recycled++;
    } else {
        CHECK(m.closed || (!model_doomed(c) && (uint32_t)model_count(UNUSED) > m.keep));
    }
    CHECK_EQ(now.invalidated, m.want.invalidated);
    CHECK_EQ(now.recycled, m.want.recycled);
}

static void op_close(struct pool_slot *s)
{
    struct conn *c = model_conn(s);
    CHECK_EQ(c->doing, UNUSED);
    check_reason(c, s);
    c->doing = CLOSING;
    if (at_once())
        model_closed(c);
}

static enum pool_check op_check(struct pool_slot *s, uint64_t idle_ns)
{
    struct conn *c = model_conn(s);
    CHECK_EQ(c->doing, UNUSED);
    CHECK(!model_doomed(c));
    CHECK(!c->looked); /* a second check would be useless */
    CHECK_EQ(idle_ns, m.now - c->since);
    if (chance(100)) {
        c->doomed = true;
        model_new_generation();
        return POOL_CHECK_DEAD;
    }
    if (chance(8))
        return POOL_CHECK_PING;
    c->looked = true;
    return POOL_CHECK_OK;
}

static void op_ping(struct pool_slot *s)
{
    struct conn *c = model_conn(s);
    CHECK_EQ(c->doing, UNUSED);
    c->doing = PINGING;
    if (at_once())
        model_pinged(c, !chance(8));
}

static enum pool_verdict op_judge(struct pool_slot *s)
{
    struct conn *c = model_conn(s);
    CHECK(!model_doomed(c));
    if (chance(20)) {
        c->doomed = true;
        return POOL_BROKEN;
    }
    return chance(4) ? POOL_RESET : POOL_REUSE;
}

static void op_reset(struct pool_slot *s)
{
    struct conn *c = model_conn(s);
    CHECK_EQ(c->doing, UNUSED);
    c->doing = RESETTING;
    if (at_once())
        model_reset_done(c, !chance(8));
}

static void op_drained(struct pool *p)
{
    CHECK(p == m.pool && m.closed);
    CHECK_EQ(m.conns, 0);
    m.drained++;
    if (m.free_when_drained) {
        pool_free(p);
        m.pool = NULL;
    }
}

/* ---- checking ---- */

static void check_counters(const struct pool_stats *s)
{
    CHECK_EQ(s->opened, m.want.opened);
    CHECK_EQ(s->closed, m.want.closed);
    CHECK_EQ(s->failed, m.want.failed);
    CHECK_EQ(s->detached, m.want.detached);
    CHECK_EQ(s->acquired, m.want.acquired);
    CHECK_EQ(s->timeouts, m.want.timeouts);
    CHECK_EQ(s->recycled, m.want.recycled);
    CHECK_EQ(s->invalidated, m.want.invalidated);
    CHECK_EQ(s->wait_count, m.want.wait_count);
    CHECK_EQ(s->wait_ns, m.want.wait_ns);
    CHECK_EQ(s->wait_max_ns, m.want.wait_max_ns);
    CHECK_EQ(s->opened, s->closed + s->detached + s->open - s->opening);
}

static void count_slot(struct pool_slot *s, void *data)
{
    static const enum pool_slot_state state[DOINGS] = {
        [OPENING] = SLOT_OPENING, [UNUSED] = SLOT_IDLE,         [PINGING] = SLOT_PINGING,
        [LEASED] = SLOT_LEASED,   [RESETTING] = SLOT_RESETTING, [CLOSING] = SLOT_CLOSING,
    };
    CHECK_EQ(s->state, state[model_conn(s)->doing]);
    ++*(int *)data;
}

void model_check(void)
{
    struct pool_stats s;
    int seen = 0;
    if (!m.pool)
        return;
    pool_stats(m.pool, &s);
    check_counters(&s);
    CHECK_EQ(s.open, m.conns);
    CHECK_EQ(s.opening, model_count(OPENING));
    CHECK_EQ(s.idle, model_count(UNUSED));
    CHECK_EQ(s.pinging, model_count(PINGING));
    CHECK_EQ(s.leased, model_count(LEASED));
    CHECK_EQ(s.resetting, model_count(RESETTING));
    CHECK_EQ(s.closing, model_count(CLOSING));
    CHECK_EQ(s.waiting, m.waiters);
    CHECK(s.open <= m.limit);
    CHECK(s.idle <= m.keep);
    if (s.waiting > s.opening + s.pinging)
        CHECK(s.idle == 0 && s.open == m.limit);
    if (m.closed)
        CHECK(s.waiting == 0 && s.idle == 0);
    for (int i = 0; i < m.conns; i++)
        if (m.conn[i]->doing == UNUSED) {
            CHECK(!model_doomed(m.conn[i]));
            CHECK(m.conn[i]->slot->idle_since <= m.now);
            m.conn[i]->looked = false; /* time passes */
        }
    pool_each(m.pool, count_slot, &seen);
    CHECK_EQ(seen, m.conns);
}

const struct pool_ops model_ops = {
    .open = op_open,
    .close = op_close,
    .check = op_check,
    .ping = op_ping,
    .judge = op_judge,
    .reset = op_reset,
    .drained = op_drained,
};
