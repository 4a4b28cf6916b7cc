#include "pg_asked.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void pg_must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "PostgreSQL machine: %s\n", what);
    abort();
}

void pg_asked_add(struct pg_asked *a, const char *words)
{
    char text[PG_ASKED_WORDS];
    const char *mark = strstr(words, "%u");
    size_t have = strlen(a->words);
    int before = mark ? (int)(mark - words) : (int)strlen(words);
    int n = snprintf(text, sizeof text, "%.*s", before, words);
    if (mark)
        snprintf(text + n, sizeof text - (size_t)n, "%u%s", a->number, mark + 2);
    n = snprintf(a->words + have, sizeof a->words - have, "%s ", text);
    pg_must(have + (size_t)n < sizeof a->words, "too much was asked");
}

void pg_asked_say(struct pg_asked *a, struct buf *out, bool fail, bool in_copy)
{
    char word[64];
    const char *next = a->words + a->at;
    size_t len = strcspn(next, " ");
    if (next[0] == '^' && in_copy)
        return;
    if (fail && !strstr(a->words, "E:")) { /* even just before the sync */
        snprintf(word, sizeof word, "E:N%04u", a->number);
        pg_must(pg_script_add(out, word), word);
        a->error = true;
        a->at = strlen(a->words) - strlen("Z ");
        return;
    }
    snprintf(word, sizeof word, "%.*s", (int)len, next);
    pg_must(word[0] == '^' || pg_script_add(out, word), word);
    a->at += len + 1;
    a->served = word[0] == 'Z';
}

void pg_asked_check_rows(const struct pg_asked *a, const PGresult *r)
{
    char own[16];
    snprintf(own, sizeof own, "n%u", a->number);
    for (int i = 0; r && PQnfields(r) > 0 && i < PQntuples(r); i++) {
        const char *value = PQgetvalue(r, i, 0);
        pg_must(value[0] != 'n' || strcmp(value, own) == 0, "a row of another statement");
    }
}

static void check_error(const struct pg_asked *a, const struct error *e, bool honest)
{
    char own[16];
    const char *state = e->field[ERROR_SQLSTATE];
    snprintf(own, sizeof own, "N%04u", a->number);
    pg_must(e->outcome == OUTCOME_FAILED || e->outcome == OUTCOME_UNKNOWN,
            "an error without a possible outcome");
    pg_must(!state || state[0] != 'N' || strcmp(state, own) == 0, "the error of another statement");
    pg_must(a->error || !honest || e->outcome == OUTCOME_UNKNOWN, "an error that the server did not send");
}

void pg_asked_check_end(const struct pg_asked *a, const struct pg_machine *m, const PGresult *r,
                        const struct error *e, bool honest)
{
    bool failed = e && error_is_set(e);
    pg_asked_check_rows(a, r);
    if (failed)
        check_error(a, e, honest);
    if (m->state == PG_BROKEN) {
        pg_must(failed || (a->served && !a->shared), "a result on a connection that is broken");
        return;
    }
    pg_must(!honest || a->served, "settled before its sync");
    if (!a->served)
        return;
    pg_must(failed == a->error, "a correct reply has the wrong result");
    pg_must(failed || !a->shared || PQntuples(r) == 1, "an honest row is lost");
    if (failed && e->kind == ERROR_USAGE) /* the server completes a COPY TO STDOUT that the machine refuses */
        return;
    pg_must(!failed || (e->field[ERROR_SQLSTATE] && e->outcome == OUTCOME_FAILED),
            "a correct error reply has the wrong result");
}
