#include "redis/codes.h"

#include "base/number.h"

#include <stdlib.h>
#include <string.h>

struct fact {
    const char *code;
    const char *hint;
    bool retryable;
};

/* Sorted by code (bytes). */
static const struct fact facts[] = {
    {"ASK",
     "this key is migrating to another node of the cluster: a client with a redis+cluster:// URL finds it",
     true},
    {"BUSY",
     "a script or function has been running for too long: SCRIPT KILL or FUNCTION KILL stops it, unless it "
     "has "
     "written",
     true},
    {"BUSYGROUP", "the consumer group exists already: use it as it is, or XGROUP DESTROY it first", false},
    {"BUSYKEY", "the key exists already: RESTORE ... REPLACE overwrites it", false},
    {"CLUSTERDOWN", "the cluster does not serve all hash slots: redis-cli --cluster check host:port", true},
    {"CROSSSLOT", "in a cluster, keys that are used together need the same {tag}", false},
    {"DENIED", "the server is in protected mode: set a password on it, or connect from its own machine",
     false},
    {"EXECABORT",
     "a command was refused when it was queued (DETAIL says why), so none of the transaction was run", false},
    {"INPROG", "a failover is under way already: wait for its end", true},
    {"INVALIDOBJ", "the value is no HyperLogLog, or it is damaged", false},
    {"IOERR",
     "the other server did not answer in time: the key may be on both servers now (MIGRATE ... REPLACE sends "
     "it "
     "again)",
     true},
    {"LOADING", "the server is loading its data: try again in a moment", true},
    {"MASTERDOWN",
     "this replica has lost its primary, and does not serve old data (replica-serve-stale-data no)", true},
    {"MISCONF",
     "the server cannot save its data to disk, and therefore refuses writes; reads work. Its log says why: "
     "often "
     "a full disk or missing permissions",
     false},
    {"MOVED", "another node of the cluster has this key: a client with a redis+cluster:// URL finds it",
     false},
    {"NOAUTH", "the server requires a password: set REDIS_PASSWORD, or use redis://:password@host", false},
    {"NOGOODSLAVE", "no replica is fit to become the master: look at them with SENTINEL REPLICAS", true},
    {"NOGROUP",
     "the stream has no such consumer group: XGROUP CREATE stream group $ MKSTREAM makes both; the group "
     "goes "
     "when the stream is deleted",
     false},
    {"NOMASTERLINK", "the server has lost its own primary", true},
    {"NOPERM", "the user's ACL does not allow this command, key or channel", false},
    {"NOPROTO", "the server does not know this version of the protocol", false},
    {"NOQUORUM", "too few sentinels can be reached to agree on a failover", true},
    {"NOREPLICAS",
     "fewer replicas than min-replicas-to-write are connected and up to date: nothing was written; try again "
     "in a "
     "moment, as after a failover",
     true},
    {"NOSCRIPT", "the server does not know the script (any more): r:script(source) loads it when needed",
     true},
    {"NOSUB", "the connection has no subscription", false},
    {"NOTBUSY", "no script or function is running there", false},
    {"OOM", "the server has reached its maxmemory: delete keys or raise the limit", true},
    {"READONLY", "this server is a replica: write to the primary", false},
    {"REDIRECT",
     "this server is a replica now, and the primary is at the address in the message: connect there", false},
    {"TRYAGAIN",
     "the keys are migrating to another node of the cluster: try again. A migration that was left half done "
     "is ended by redis-cli --cluster fix HOST:PORT",
     true},
    {"UNBLOCKED", "while the command waited, the server became a replica or the key was deleted", true},
    {"UNKILLABLE",
     "the script has written already: wait for its end; SHUTDOWN NOSAVE ends the server and loses what is "
     "not saved",
     false},
    {"WRONGPASS",
     "check the user and the password in REDIS_URL, or REDIS_USERNAME and REDIS_PASSWORD; the user may also "
     "be "
     "switched off",
     false},
    {"WRONGTYPE", "the key has a value of another type: TYPE tells which", false},
};

static int compare(const void *key, const void *item)
{
    return strcmp(key, ((const struct fact *)item)->code);
}

static const struct fact *find(const char *code)
{
    return bsearch(code, facts, sizeof facts / sizeof *facts, sizeof *facts, compare);
}

void redis_code_read(const char *text, size_t len, char code[REDIS_CODE_SIZE])
{
    size_t n = 0;
    while (n < len && n < REDIS_CODE_SIZE - 1 && (ascii_is_upper(text[n]) || text[n] == '_'))
        n++;
    if (n < len && text[n] != ' ')
        n = 0;
    memcpy(code, text, n);
    code[n] = '\0';
}

bool redis_code_is(const char *text, size_t len, const char *code)
{
    char own[REDIS_CODE_SIZE];
    redis_code_read(text, len, own);
    return strcmp(own, code) == 0;
}

bool redis_code_is_transient(const char *code)
{
    const struct fact *fact = find(code);
    return fact && fact->retryable;
}

const char *redis_code_hint(const char *code)
{
    const struct fact *fact = find(code);
    return fact ? fact->hint : NULL;
}

/* ---- the rest of the text ---- */

static const char *after(const char *text, size_t len, const char *part)
{
    const char *at = memmem(text, len, part, strlen(part));
    return at ? at + strlen(part) : NULL;
}

/* True when a script or function raised the error. The server then names the line: "... script: SHA, on
 * @user_script:1." (7.0 and later), or begins with a text that says so. */
static bool is_from_script(const char *text, size_t len)
{
    const char *at = after(text, len, " script: ");
    return (at && after(at, len - (size_t)(at - text), ", on @")) ||
           (len > 4 && after(text, len, "ERR Error running script (call to ") == text + 34);
}

/* True for errors that a script gets only before its first write, or that end a script that has not
 * written. */
static bool precedes_writes(const char *text, size_t len, const char *code)
{
    static const char *const codes[] = {"MISCONF", "NOREPLICAS", "OOM", "READONLY"};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (strcmp(code, codes[i]) == 0)
            return true;
    return after(text, len, "Script killed by user");
}

void redis_code_describe(struct error *e, const char *text, size_t len)
{
    char code[REDIS_CODE_SIZE];
    redis_code_read(text, len, code);
    const struct fact *fact = find(code);
    error_set_field(e, ERROR_CODE, code[0] ? code : NULL);
    e->outcome = OUTCOME_FAILED;
    bool sent_on = strcmp(code, "IOERR") == 0 && !after(text, len, "timeout connecting");
    if (sent_on || (is_from_script(text, len) && !precedes_writes(text, len, code)))
        e->outcome = OUTCOME_UNKNOWN;
    if (fact) {
        error_set_field(e, ERROR_HINT, fact->hint);
        e->retryable = fact->retryable;
    } else if (after(text, len, "max number of clients")) {
        error_set_field(e, ERROR_HINT, "raise maxclients on the server, or lower REDIS_MAX_CONNECTIONS");
        e->retryable = true;
    }
}
