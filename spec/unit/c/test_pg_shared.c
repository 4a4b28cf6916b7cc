/*
 * Groups of many callers in flight on one PostgreSQL connection, and connections that are lost, against a
 * scripted peer (see test_pg_flight.c).
 */
#include "check.h"
#include "pg_play.h"

#include <unistd.h>

#define OK(n) " <2 <T <D:" n " <C:SELECT_1 <Z"

static const struct pg_scenario shared[] = {
    {"learn share:A" OK("1") " clean", "A=(1) clean IDLE"},
    {"learn share:A share:B share:C" OK("1") OK("2") OK("3"), "A=(1) B=(2) C=(3) IDLE"},
    {"learn share:A share:B" OK("1") " share:C" OK("2") OK("3"), "A=(1) B=(2) C=(3) IDLE"},
    {"learn share:A share:B" OK("1") " query" OK("2") " query" OK("3"),
     "A=(1) no_!usage/not_sent B=(2) =(3) IDLE"},
    {"learn share:A share:B <2 <E:22012 query <Z" OK("2"),
     "no_!usage/not_sent A=!query/failed/22012 B=(2) IDLE"},
    {"share:A", "no_entry IDLE"},
    {"see share:A", "no_entry IDLE"},
    {"learn share:A <2 <n <C:INSERT_0_1 <Z share:B <2 <n <I <Z", "A=INSERT_0_1 B=empty IDLE"},
    /* one fails, also at its commit */
    {"learn share:A share:B share:C" OK("1") " <E:22012 <Z" OK("3"),
     "A=(1) B=!query/failed/22012 C=(3) IDLE"},
    {"learn share:A share:B share:C" OK("1") " <2 <E:22012 <Z" OK("3"),
     "A=(1) B=!query/failed/22012 C=(3) IDLE"},
    {"learn share:A share:B <2 <T <D:1 <C:SELECT_1 <E:23503 <Z" OK("2") " query" OK("3"),
     "A=!constraint/failed/23503 B=(2) =(3) IDLE"},
    {"learn share:A share:B" OK("1") " <2 <n <C:INSERT_0_1 <E:23503 <Z",
     "A=(1) B=!constraint/failed/23503 IDLE"},
    {"learn share:A share:B <E:22012 <E:22013 <Z" OK("2"), "A=!query/failed/22012 B=(2) IDLE"},
    /* abandoned: before, between and after the messages */
    {"learn share:A share:B abandon:A may" OK("1") OK("2"), "may_not B=(2) IDLE"},
    {"learn share:A share:B <2 <T abandon:A <D:1 <C:SELECT_1 <Z" OK("2"), "B=(2) IDLE"},
    {"learn share:A share:B <2 <T <D:1 <C:SELECT_1 abandon:A <Z" OK("2"), "B=(2) IDLE"},
    {"learn share:A share:B <2 <E:22012 abandon:A <Z" OK("2"), "B=(2) IDLE"},
    {"learn share:A share:B share:C" OK("1") " abandon:C abandon:A <2 <E:22012 <Z" OK("3"),
     "A=(1) B=!query/failed/22012 IDLE"},
    {"learn share:A abandon:A abandon:A abandon:B" OK("1") " query" OK("2"), "=(2) IDLE"},
    {"learn share:A share:B abandon:A abandon:B eof", "BROKEN"},
    /* cancelled: one request for each head */
    {"learn share:A share:B abandon:A may abandon:B may cancel may <E:57014 <Z may cancel may" OK("2") " may",
     "may_not may may_not may may_not may_not IDLE"},
    {"learn share:A abandon:A cancel <E:57014 <Z share:B <E:57014 <Z", "B=!cancelled/failed/57014 IDLE"},
    {"learn share:A step abandon:A cancel" OK("1") " share:B" OK("2"), "B=(2) IDLE"},
    /* a transaction that nobody began: the last group is not settled as a success */
    {"learn share:A share:B" OK("1") " <2 <T <D:2 <C:SELECT_1 <Z:T", "A=(1) B=!protocol/unknown BROKEN"},
    {"learn share:A <2 <T <D:2 <C:SELECT_1 <Z:E", "A=!protocol/unknown BROKEN"},
    /* messages that break the protocol */
    {"learn share:A share:B <Z", "A=!protocol/unknown B=!protocol/unknown BROKEN"},
    {"learn share:A share:B share:C" OK("1") " <Z" OK("2"),
     "A=(1) B=!protocol/unknown C=!protocol/unknown BROKEN"},
    {"learn share:A share:B <2 <T <D:1 <C:SELECT_1" OK("2"),
     "A=!protocol/unknown B=!protocol/unknown BROKEN"},
    {"learn share:A share:B <2 <T <D:1 <T <D:2 <C:SELECT_1 <Z",
     "A=!protocol/unknown B=!protocol/unknown BROKEN"},
    {"learn share:A share:B <2 <n <C:INSERT_0_1 <I <Z", "A=!protocol/unknown B=!protocol/unknown BROKEN"},
    {"learn share:A share:B <E:22012 <Z <G", "A=!query/failed/22012 B=!protocol/unknown BROKEN"},
    {"learn share:A share:B <2 <H", "A=!protocol/unknown B=!protocol/unknown BROKEN"},
    {"learn share:A share:B <2 <W", "A=!protocol/unknown B=!protocol/unknown BROKEN"},
    {"learn share:A share:B abandon:A <2 <G", "B=!protocol/unknown BROKEN"},
};

/* Groups that were synced keep their results; one whose error arrived has failed; the others are unknown. */
static const struct pg_scenario lost[] = {
    {"learn share:A share:B share:C share:D share:X abandon:X" OK("1") " <2 <E:22012 <Z <2 <T <D:3 eof",
     "A=(1) B=!query/failed/22012 C=!connect/unknown D=!connect/unknown BROKEN"},
    {"learn share:A share:B <2 <T <D:1 <C:SELECT_1 eof", "A=!connect/unknown B=!connect/unknown BROKEN"},
    {"learn share:A share:B <2 <E:22012 eof", "A=!query/failed/22012 B=!connect/unknown BROKEN"},
    {"learn share:A share:B eof", "A=!connect/unknown B=!connect/unknown BROKEN"},
    {"learn share:A share:B" OK("1") " <F:57P01 eof", "A=(1) B=!connect/failed/57P01 BROKEN"},
    {"learn share:A share:B share:C" OK("1") " <F:57P01 eof",
     "A=(1) B=!connect/failed/57P01 C=!connect/unknown/57P01 BROKEN"},
    {"learn share:A share:B <2 <T <D:1 <C:SELECT_1 <F:57P01 eof",
     "A=!connect/unknown/57P01 B=!connect/unknown/57P01 BROKEN"},
    {"learn share:A share:B <2 <T <D:1 <C:SELECT_1 <P:57P02 eof",
     "A=!connect/unknown/57P02 B=!connect/unknown/57P02 BROKEN"},
    {"learn share:A share:B <2 <T <D:1 <F:57P01 eof",
     "A=!connect/failed/57P01 B=!connect/unknown/57P01 BROKEN"},
    {"learn share:A share:B <2 <E:22012 <F:57P01 eof", "A=!query/failed/22012 B=!connect/unknown BROKEN"},
    {"learn share:A share:B" OK("1") " break", "A=(1) B=!connect/unknown BROKEN"},
    {"learn share:A share:B" OK("1") " close", "A=(1) CLOSED"},
    {"learn share:A share:B <E:22012 <Z unseen break", "A=!connect/unknown B=!connect/unknown BROKEN"},
    {"learn share:A <E:22012 <Z unseen break", "A=!query/unknown/22012 BROKEN"},
    {"learn share:A share:B <F:57P01 unseen break",
     "A=!connect/unknown/57P01 B=!connect/unknown/57P01 BROKEN"},
    /* alone */
    {"query <E:22012 unseen break", "=!query/unknown/22012 BROKEN"},
    {"query eof", "=!connect/unknown BROKEN"},
    {"query <1 <2 <T <D:1 eof", "=!connect/unknown BROKEN"},
    {"query <1 <2 <T <D:1 <C:SELECT_1 eof", "=!connect/unknown BROKEN"},
    {"query <1 <2 <T <D:1 <C:SELECT_1 <Z eof", "=(1) BROKEN"},
    {"query <1 <2 <E:22012 eof", "=!query/failed/22012 BROKEN"},
    {"query <F:57P01 eof", "=!connect/failed/57P01 BROKEN"},
    {"query <F:57P05 eof", "=!connect/failed/57P05 BROKEN"},
    {"learn share:A share:B <F:57P04 eof", "A=!connect/failed/57P04 B=!connect/unknown/57P04 BROKEN"},
    {"query <1 <2 <n <C:INSERT_0_1 <F:57P01 eof", "=!connect/unknown/57P01 BROKEN"},
    {"simple <C:INSERT_0_1 <F:57P01 eof", "=!connect/unknown/57P01 BROKEN"},
    {"see query <1 <F:57P01 eof", "=!connect/failed/57P01 BROKEN"},
    {"see query <1 <2 <n <C:INSERT_0_1 <F:57P01 eof", "=!connect/unknown/57P01 BROKEN"},
    {"see query <1 <2 <n <C:INSERT_0_1 eof", "=!connect/unknown BROKEN"},
    {"batch:2 <1 <2 <n <C:INSERT_0_1 <F:57P01 eof", "=!connect/failed/57P01 BROKEN"},
    {"batch:2 <1 <2 <n <C:INSERT_0_1 <2 <n <C:INSERT_0_1 <F:57P01 eof", "=!connect/unknown/57P01 BROKEN"},
    {"batch:2 <1 <2 <n <C:INSERT_0_1 <2 <n <C:INSERT_0_1 eof", "=!connect/unknown BROKEN"},
    {"describe eof", "=!connect/unknown BROKEN"},
    {"query break query", "=!connect/unknown no_!connect/not_sent BROKEN"},
    {"query break break discard step may busy clean", "=!connect/unknown may_not free unclean BROKEN"},
    {"query close break step busy", "free CLOSED"},
    /* while it is idle */
    {"eof query", "no_!connect/not_sent BROKEN"},
    {"<F:57P01 eof describe simple copy open",
     "no_!connect/not_sent no_!connect/not_sent no_!connect/not_sent "
     "no_!connect/not_sent BROKEN"},
    {"break may query", "may_not no_!connect/not_sent BROKEN"},
    {"close busy", "free CLOSED"},
    {"<N <S <A query <1 <2 <T <D:1 <C:SELECT_1 <Z", "=(1) IDLE"},
    /* unnoticed when the next one is sent: libpq reports it only when it reads */
    {"gone query go", "=!connect/unknown BROKEN"},
    {"learn gone query go query", "=!connect/unknown no_!connect/not_sent BROKEN"},
    {"learn gone simple go", "=!connect/unknown BROKEN"},
    {"see gone query go", "=!connect/unknown BROKEN"},
    {"gone describe go", "=!connect/unknown BROKEN"},
    {"gone open close_batch go", "=!connect/unknown BROKEN"},
    {"open gone add same close_batch go", "=!connect/unknown BROKEN"},
    {"open gone big add close_batch", "no_!connect/unknown BROKEN"},
    {"open add gone big add close_batch", "no_!connect/unknown BROKEN"},
    {"big query gone go", "=!connect/unknown BROKEN"},
    {"gone big query", "no_!connect/not_sent BROKEN"},
    {"see gone big query", "no_!connect/not_sent BROKEN"},
    {"learn gone big query", "no_!connect/not_sent BROKEN"},
    {"gone big simple", "no_!connect/not_sent BROKEN"},
    {"gone big describe", "no_!connect/not_sent BROKEN"},
    {"learn little big share:A" OK("1") " unseen gone go", "A=(1) BROKEN"},
    {"learn little big share:A step swallow share:B" OK("1") " swallow go" OK("2"), "A=(1) B=(2) IDLE"},
    {"learn gone share:A go", "A=!connect/unknown BROKEN"},
    {"learn share:A gone share:B share:C step", "no_share A=!connect/unknown B=!connect/unknown BROKEN"},
    {"learn <F:57P01 unseen gone query go", "=!connect/failed/57P01 BROKEN"},
    {"see <F:57P01 unseen gone query go", "=!connect/failed/57P01 BROKEN"},
    {"learn <F:57P01 unseen gone share:A share:B go",
     "A=!connect/failed/57P01 B=!connect/unknown/57P01 BROKEN"},
    {"learn share:A" OK("1") " unseen gone share:B share:C go",
     "A=(1) B=!connect/unknown C=!connect/unknown BROKEN"},
    {"learn share:A" OK("1") " unseen gone share:B go", "A=(1) B=!connect/unknown BROKEN"},
    {"open add <F:57P01 unseen gone close_batch go", "=!connect/failed/57P01 BROKEN"},
    {"learn little big share:A share:B step break", "A=!connect/unknown B=!connect/unknown BROKEN"},
    {"learn little big share:A share:B abandon:A step eof", "B=!connect/unknown BROKEN"},
    /* half a message */
    {"query <1 <2 <!540000001b000163 eof", "=!connect/unknown BROKEN"},
    {"query <1 <2 <T <!44 eof", "=!connect/unknown BROKEN"},
    {"learn share:A share:B" OK("1") " <!5a000000 eof", "A=(1) B=!connect/unknown BROKEN"},
    {"learn share:A <2 <T <D:1 <C:SELECT_1 <!5a00000005 eof", "A=!connect/unknown BROKEN"},
    {"learn share:A <2 <T <D:1 <C:SELECT_1 <!5a0000000549", "A=(1) IDLE"},
};

/* libpq itself reports what it does not understand; its place in the protocol is then unknown. */
static const struct pg_scenario garbage[] = {
    /* an unknown type; a length below 4, and a huge one; a body of another length */
    {"query <!2300000004 <1 <2 <T <D:1 <C:SELECT_1 <Z", "=!protocol/unknown BROKEN"},
    {"query <1 <2 <T <!4400000003", "=!protocol/unknown BROKEN"},
    {"query <1 <2 <!5a7fffffff", "=!protocol/unknown BROKEN"},
    {"query <1 <2 <T <!440000000c0001ffffffff0000 <C:SELECT_1 <Z", "=!protocol/unknown BROKEN"},
    {"query <1 <2 <T <!4400000006000a <C:SELECT_1 <Z", "=!protocol/unknown BROKEN"},
    {"query <1 <2 <T <!43000000065345 <Z", "=!protocol/unknown BROKEN"},
    {"query <!48545450 <!2f312e3120343030", "=!protocol/unknown BROKEN"},
    /* a row before its columns; an empty error */
    {"query <1 <2 <D:1 <C:SELECT_1 <Z", "=!protocol/unknown BROKEN"},
    {"query <1 <2 <!450000000500 <Z", "=!protocol/unknown BROKEN"},
    {"query <1 <2 <E:22012 <!450000000500 <Z", "=!query/failed/22012 BROKEN"},
    {"query <1 <2 <E <Z query <E:22012 <Z", "=!query/failed =!query/failed/22012 IDLE"},
    {"see query <1 <2 <D:1 <C:SELECT_1 <Z", "=!protocol/unknown BROKEN"},
    {"see query <!2300000004 <1 <2 <T <D:1 <C:SELECT_1 <Z", "=!protocol/unknown BROKEN"},
    {"batch:1 <1 <2 <D:1 <C:SELECT_1 <Z", "=!protocol/unknown BROKEN"},
    {"learn share:A share:B" OK("1") " <!2300000004" OK("2"), "A=(1) B=!protocol/unknown BROKEN"},
    {"learn share:A share:B <2 <!5a7fffffff", "A=!connect/unknown B=!connect/unknown BROKEN"},
    {"learn share:A share:B <2 <T <D:1 <C:SELECT_1 <!2300000004 <Z" OK("2"),
     "A=!protocol/unknown B=!protocol/unknown BROKEN"},
};

static struct pg_script peer;

#define PLAYS(name)                                                                                          \
    static void test_##name(void)                                                                            \
    {                                                                                                        \
        pg_play_all(&peer, name, sizeof name / sizeof *name);                                                \
    }

PLAYS(shared)
PLAYS(lost)
PLAYS(garbage)

/* The largest number of groups; the first place of the ring is not the first group's. */
static void test_full(void)
{
    struct buf words = {0};
    struct buf end = {0};
    buf_adds(&words, "learn share:A" OK("1"));
    buf_adds(&end, "A=(1)");
    for (int i = 0; i < PG_MOST_GROUPS; i++)
        buf_addf(&words, " share:%c", 'B' + i % 3);
    buf_adds(&words, " go");
    for (int i = 0; i < PG_MOST_GROUPS; i++) {
        buf_addf(&words, OK("%d"), i);
        buf_addf(&end, " %c=(%d)", 'B' + i % 3, i);
    }
    buf_adds(&end, " IDLE");
    pg_play_all(&peer, &(struct pg_scenario){words.data, end.data}, 1);
    buf_free(&words);
    buf_free(&end);
}

int main(void)
{
    alarm(120); /* whatever waits, waits forever */
    pg_script_open(&peer);
    TEST("groups of many callers", test_shared);
    TEST("the largest number of groups", test_full);
    TEST("a connection that is lost", test_lost);
    TEST("bytes that are not PostgreSQL's protocol", test_garbage);
    pg_play_end();
    pg_script_close(&peer);
    return check_end("pg_shared");
}
