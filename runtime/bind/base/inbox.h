/*
 * Keeps unsolicited notifications or messages from a server until the script takes them: a list with a byte
 * limit. One task at a time takes from it; the loss of the connection ends it.
 *
 * From 8 MiB on the inbox is full: to bound memory, its owner stops reading from the connection until the
 * script has taken items and at most 4 MiB are left.
 *
 * Who owns what: the owner embeds the inbox, and an inbox_item in each of its items. The inbox owns the items
 * that were put into it, and frees them with `free`. A waiting task keeps the owner's userdata on its stack.
 */
#ifndef DBRUN_BIND_INBOX_H
#define DBRUN_BIND_INBOX_H

#include "base/error.h"
#include "bind/base/runtime.h"

struct inbox_item {
    struct inbox_item *next;
    size_t weight; /* bytes */
};

struct inbox {
    void (*free)(struct inbox_item *i);
    struct inbox_item *head;
    struct inbox_item *tail;
    struct inbox_item *taken; /* items that are becoming Lua values, each in its own call */
    size_t bytes;             /* the weight of the list */
    bool full;                /* the owner must stop reading */
    bool taking;              /* a task waits, or was woken and has not run yet */
    struct wait *wait;        /* the wait of that task until it is woken */
    struct error lost;        /* set once no more items come */
};

/* ---- no Lua: can be called from the loop ---- */

/* Appends the item, and wakes the waiting task. */
void inbox_put(struct inbox *in, struct inbox_item *i, size_t weight);
/* Called when no more items come. Only the first reason counts; the script gets it after all earlier
 * items. */
void inbox_lose(struct inbox *in, const struct error *why);
/* Discards the items, and wakes the waiting task. */
void inbox_close(struct inbox *in);
/* Frees everything without waking a task: when the owner is freed, no task waits, or the program ends without
 * resuming it. */
void inbox_free(struct inbox *in);

/* ---- taking ---- */

/* The oldest item; the inbox must not be empty. The inbox owns it until inbox_taken, even if a finaliser of
 * the script closes the inbox or takes the next item while this one becomes Lua values. */
struct inbox_item *inbox_take(struct inbox *in);
void inbox_taken(struct inbox *in, struct inbox_item *i);
/* True when there is an item to take. */
bool inbox_has(const struct inbox *in);
/* Parks the task until an item comes, the inbox is lost or closed, or the deadline passes; then k continues.
 * Only when !in->taking. */
int inbox_wait(lua_State *L, struct runtime *rt, struct inbox *in, uint64_t deadline, lua_KContext ctx,
               lua_KFunction k);
/* For k: ends the wait. Raises when the task was cancelled. */
void inbox_waited(lua_State *L, struct runtime *rt, struct inbox *in);
/* Raises in->lost. */
int inbox_raise_lost(lua_State *L, struct runtime *rt, const struct inbox *in);

#endif
