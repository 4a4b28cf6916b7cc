/*
 * Runs what was typed at the prompt under lua_pcallk, in a stretch that Ctrl-C cancels. Only one evaluation
 * at a time; the object whose method runs it holds the struct, and stays on the stack meanwhile.
 */
#ifndef DBRUN_HOST_EVALUATE_H
#define DBRUN_HOST_EVALUATE_H

#include "host/host.h"

struct evaluation {
    struct host *host;
    lua_CFunction method;      /* calls evaluate: a traceback ends above its frame */
    struct scope_box *stretch; /* the stretch that runs; NULL = none */
    lua_State *L;              /* the coroutine that it runs in */
};

/* Called in `method`, with the stack (object, fn, ...): returns true and fn's results; or false, the error (a
 * text with the traceback, or the error object), and whether Ctrl-C ended it. An interruption of the whole
 * program is raised. */
int evaluate(lua_State *L, struct evaluation *e);
bool evaluate_is_running(const struct evaluation *e);
/* Cancels what runs. Can be called from a uv callback or a Lua hook. */
void evaluate_cancel(struct evaluation *e);

#endif
