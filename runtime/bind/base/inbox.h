/*
 * What a server sends by itself (notifications, messages), from when it came until the script takes it: a
 * list with a byte budget, the one task that takes from it, and the one loss that ends it.
 *
 * Past 8 MiB the inbox is full: its owner reads no more from the connection, so memory stays bounded, until
 * the script has taken so much that only 4 MiB are left.
 *
 * Who owns what: the owner embeds the inbox and an inbox_item in each of its items; what was put is the
 * inbox's, which frees it with `free`. A task that waits has the owner's userdata on its stack.
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
    struct inbox_item *taken; /* being made into Lua values, each by a call of its own */
    size_t bytes;             /* in the list */
    bool full;                /* read no more */
    bool taking;              /* a task waits, or was woken and has not gone on yet */
    struct wait *wait;        /* its wait until it is woken */
    struct error lost;        /* set: nothing more comes */
};

/* ---- no Lua: may be called from the loop ---- */

/* Appends it, and wakes the task that waits. */
void inbox_put(struct inbox *in, struct inbox_item *i, size_t weight);
/* Nothing more comes. The first reason counts; a task hears of it behind all that came before. */
void inbox_lose(struct inbox *in, const struct error *why);
/* Throws away what is in the list, and wakes the task that waits. */
void inbox_close(struct inbox *in);
/* The end of the owner: nobody waits any more, or the program ends and takes the tasks along. */
void inbox_free(struct inbox *in);

/* ---- taking ---- */

/* The oldest item; there is one. It stays the inbox's until inbox_taken, also when a finaliser of the
 * script's closes the inbox or takes the next one while this one becomes Lua values. */
struct inbox_item *inbox_take(struct inbox *in);
void inbox_taken(struct inbox *in, struct inbox_item *i);
/* Is there anything to take? */
bool inbox_has(const struct inbox *in);
/* Parks the task until something came, the inbox is lost or closed, or the deadline has passed; then goes on
 * in k. Only when !in->taking. */
int inbox_wait(lua_State *L, struct runtime *rt, struct inbox *in, uint64_t deadline, lua_KContext ctx,
               lua_KFunction k);
/* In k: ends the wait. Raises when the task was cancelled. */
void inbox_waited(lua_State *L, struct runtime *rt, struct inbox *in);
/* Raises the error of the loss. */
int inbox_raise_lost(lua_State *L, struct runtime *rt, const struct inbox *in);

#endif
