/*
 * Groups in flight on the PostgreSQL machine, against a scripted peer. Each scenario runs with the messages
 * in one piece, byte by byte, and under the blocking driver's loop, and must end the same way. pg_play.h and
 * pg_script.h explain the words.
 */
#include "check.h"
#include "pg_play.h"

#include <unistd.h>

static const struct pg_scenario plain[] = {
    {"query <1 <2 <T <D:5 <C:SELECT_1 <Z", "=(5) IDLE"},
    {"query <1 <2 <T <D <C:SELECT_1 <Z", "=(NULL) IDLE"},
    {"query <1 <2 <n <C:INSERT_0_1 <Z clean", "=INSERT_0_1 clean IDLE"},
    {"query <1 <2 <n <I <Z", "=empty IDLE"},
    {"simple <I <Z", "=empty IDLE"},
    {"simple <T <D:1 <C:SELECT_1 <T <D:2 <D:3 <C:SELECT_2 <Z", "=(2,3) IDLE"},
    {"simple <C:BEGIN <Z:T inside clean", "=BEGIN inside unclean IDLE"},
    {"simple <C:BEGIN <Z:T query <E:22012 <Z:E inside", "=BEGIN =!query/failed/22012 inside IDLE"},
    {"once <1 <2 <T <D:1 <C:SELECT_1 <Z entries", "=(1) entries=none IDLE"},
    {"learn query <2 <T <D:1 <C:SELECT_1 <Z", "=(1) IDLE"},
    {"query <E:22012 <Z query <1 <2 <T <D:1 <C:SELECT_1 <Z", "=!query/failed/22012 =(1) IDLE"},
    {"learn query <N <S <A <2 <N <T <A <D:1 <S <C:SELECT_1 <N <Z", "=(1) IDLE"},
    /* an error after the result, at the commit */
    {"query <1 <2 <n <C:INSERT_0_1 <E:23503 <Z", "=!constraint/failed/23503 IDLE"},
    {"simple <C:INSERT_0_1 <E:23503 <Z", "=!constraint/failed/23503 IDLE"},
    {"learn query <2 <T <D:1 <C:INSERT_0_1 <E:23503 <Z", "=!constraint/failed/23503 IDLE"},
    {"simple <C:INSERT_0_1 <E:22012 <E:23503 <Z", "=!query/failed/22012 IDLE"},
    /* what cannot be */
    {"query <1 <2 <n <C:INSERT_0_1 <C:INSERT_0_1 <Z", "=!protocol/unknown BROKEN"},
    {"query <Z", "=!protocol/unknown BROKEN"},
    {"simple <Z", "=!protocol/unknown BROKEN"},
    {"query <1 <2 <T <D:1 <Z", "=!protocol/unknown BROKEN"},
    {"simple <W", "=!protocol/unknown BROKEN"},
    /* one statement at a time; a refused one does not affect the running one */
    {"query query simple describe copy open <1 <2 <T <D:5 <C:SELECT_1 <Z",
     "no_!usage/not_sent no_!usage/not_sent no_!usage/not_sent no_!usage/not_sent no_!usage/not_sent =(5) "
     "IDLE"},
    {"query <1 <2 <E:22012 simple <Z", "no_!usage/not_sent =!query/failed/22012 IDLE"},
    /* cancelled, and abandoned */
    {"may query busy may cancel <E:57014 <Z busy", "may_not busy may_not =!cancelled/failed/57014 free IDLE"},
    {"query discard may cancel may <T <D:1 <C:SELECT_1 <Z", "may may_not =(1) IDLE"},
    {"query discard cancel <E:57014 <Z query <E:57014 <Z may",
     "=!cancelled/failed/57014 =!cancelled/failed/57014 may_not IDLE"},
    /* what is prepared: no statement without a plan, none with other types, none in vain */
    {"sql:vacuum query <1 <2 <n <C:VACUUM <Z entries", "=VACUUM entries=none IDLE"},
    {"sql:--_x\n/*_/*_*/_select_*/((select_1)) query <1 <2 <T <D:1 <C:SELECT_1 <Z entries",
     "=(1) entries=some IDLE"},
    {"sql:/*_/*_*/ query <1 <2 <n <I <Z entries", "=empty entries=none IDLE"},
    {"cache:0 query <1 <2 <T <D:1 <C:SELECT_1 <Z entries share:A", "=(1) entries=none no_entry IDLE"},
    {"learn typed query <1 <2 <T <D:1 <C:SELECT_1 <Z typed share:A", "=(1) no_entry IDLE"},
    {"see typed query <1 <2 <T <D:1 <C:SELECT_1 <Z typed query <1 <2 <T <D:2 <C:SELECT_1 <Z",
     "=(1) =(2) IDLE"},
    {"see simple <C:BEGIN <E:22012 <Z:E query <E:25P02 <Z:E",
     "=!query/failed/22012 =!query/failed/25P02 IDLE"},
    {"many query many describe query <1 <2 <T <D:1 <C:SELECT_1 <Z",
     "no_!usage/not_sent no_!usage/not_sent =(1) IDLE"},
    {"learn detach busy step", "free CLOSED"},
    /* more than the socket takes; a reply that comes too early */
    {"little big query <E:22012 swallow <Z", "=!query/failed/22012 IDLE"},
    {"<1 <2 <T <D:1 <C:SELECT_1 <Z unseen little big query <N go", "=(1) IDLE"},
    /* DISCARD ALL, and a changed type */
    {"learn sql:discard_all simple <C:DISCARD_ALL <Z entries", "=DISCARD_ALL entries=none IDLE"},
    {"learn simple <C:DEALLOCATE_ALL <E:22012 <Z entries", "=!query/failed/22012 entries=none IDLE"},
    {"catalog simple <C:ALTER_TYPE <Z simple <C:DROP_TABLE <Z", "=ALTER_TYPE =DROP_TABLE IDLE"},
};

static const struct pg_scenario rows[] = {
    {"query stream <1 <2 <T <D:1 <D:2 <C:SELECT_2 <Z", "row=(1) row=(2) =() IDLE"},
    {"query stream <1 <2 <T <D:1 <E:22012 <Z", "row=(1) =!query/failed/22012 IDLE"},
    {"query stream <1 <2 <T <C:SELECT_0 <Z", "=() IDLE"},
    {"query stream <1 <2 <T <D:1 discard <D:2 <C:SELECT_2 <Z", "row=(1) =() IDLE"},
    /* across PREPARE and statement; and into a pipeline after it */
    {"see query stream <1 <2 <T <D:1 <D:2 <C:SELECT_2 <Z", "row=(1) row=(2) =() IDLE"},
    {"see query stream <1 <2 <T <D:1 <D:2 <E:22012 <Z query <2 <T <D:1 <C:SELECT_1 <Z",
     "row=(1) row=(2) =!query/failed/22012 =(1) IDLE"},
    {"see query stream <E:42601 <Z", "=!query/failed/42601 IDLE"},
    {"learn query stream <2 <T <D:1 <C:SELECT_1 <Z share:A <2 <T <D:2 <D:3 <C:SELECT_2 <Z",
     "row=(1) =() A=(2,3) IDLE"},
    {"query stream <1 <2 <T <D:1 <C:SELECT_1 <Z batch:1 <1 <2 <T <D:2 <D:3 <C:SELECT_2 <Z",
     "row=(1) =() =1:2:(2,3) IDLE"},
    /* rows that were not requested, or after the end */
    {"query stream <1 <2 <T <D:1 <C:SELECT_1 <T <D:2 <C:SELECT_1 <Z", "row=(1) =!protocol/unknown BROKEN"},
    {"query stream <1 <2 <T <D:1 eof", "row=(1) =!connect/unknown BROKEN"},
};

static const struct pg_scenario pipelines[] = {
    {"see query <1 <2 <T <D:5 <C:SELECT_1 <Z query <2 <T <D:6 <C:SELECT_1 <Z", "=(5) =(6) IDLE"},
    {"see query <1 <2 <n <C:INSERT_0_1 <Z", "=INSERT_0_1 IDLE"},
    {"see query <1 <2 <n <I <Z", "=empty IDLE"},
    {"see query <E:42P01 <Z query <E:42P01 <Z", "=!query/failed/42P01 =!query/failed/42P01 IDLE"},
    {"see query <1 <E:22012 <Z query <2 <T <D:1 <C:SELECT_1 <Z", "=!query/failed/22012 =(1) IDLE"},
    {"see query <1 <2 <n <C:INSERT_0_1 <E:23503 <Z query <2 <T <D:1 <C:SELECT_1 <Z",
     "=!constraint/failed/23503 =(1) IDLE"},
    {"see query cancel <1 <2 <E:57014 <Z", "=!cancelled/failed/57014 IDLE"},
    {"see query discard may <1 <2 <T <D:1 <C:SELECT_1 <Z", "may =(1) IDLE"},
    {"see query query share:A <1 <2 <T <D:5 <C:SELECT_1 <Z", "no_!usage/not_sent no_entry =(5) IDLE"},
    /* the evicted name */
    {"cache:1 learn sql:select_2 query <1 <2 <T <D:1 <C:SELECT_1 <Z query <1 <2 <n <C:DEALLOCATE <1 <2 <T "
     "<D:2 <C:SELECT_1 <Z query <2 <T <D:3 <C:SELECT_1 <Z",
     "=(1) =(2) =(3) IDLE"},
    {"cache:1 learn sql:select_2 see query <E:26000 <Z query <1 <2 <T <D:2 <C:SELECT_1 <Z",
     "=!query/failed/26000 =(2) IDLE"},
    {"cache:1 learn sql:select_2 see query <1 <2 <n <C:DEALLOCATE <E:42P01 <Z", "=!query/failed/42P01 IDLE"},
    /* descriptions of a statement's result */
    {"describe <1 <t <T:3 <Z", "=() IDLE"},
    {"describe <1 <t <n <Z", "= IDLE"},
    {"describe <E:42601 <Z", "=!query/failed/42601 IDLE"},
    {"describe <1 <E:42P18 <Z", "=!query/failed/42P18 IDLE"},
    /* what cannot be */
    {"see query <1 <2 <n <C:INSERT_0_1 <C:INSERT_0_1 <Z", "=!protocol/unknown BROKEN"},
    {"see query <1 <2 <n <C:INSERT_0_1 <I <Z", "=!protocol/unknown BROKEN"},
    {"see query <Z", "=!protocol/unknown BROKEN"},
    {"see query <1 <Z", "=!protocol/unknown BROKEN"},
    {"see query <1 <2 <T <D:1 <T <D:2 <C:SELECT_1 <Z", "=!protocol/unknown BROKEN"},
    {"see query <1 <2 <G", "=!protocol/unknown BROKEN"},
    {"see query <1 <2 <H <d:x <c <C:COPY_1 <Z", "=!protocol/unknown BROKEN"},
    {"see query <1 <2 <W", "=!protocol/unknown BROKEN"},
    {"see query <1 <2 <E:22012 <G <Z", "=!query/failed/22012 BROKEN"},
};

static const struct pg_scenario batches[] = {
    {"batch:3 <1 <2 <T <D:1 <C:SELECT_1 <2 <T <D:2 <C:SELECT_1 <2 <T <D:3 <C:SELECT_1 <Z",
     "=3:3:(1):(2):(3) IDLE"},
    {"batch:2 <1 <2 <n <C:INSERT_0_5 <2 <n <C:UPDATE_3 <Z", "=2:8:INSERT_0_5:UPDATE_3 IDLE"},
    {"counts:3 <1 <2 <n <C:INSERT_0_2 <2 <n <C:INSERT_0_2 <2 <n <C:INSERT_0_2 <Z", "=3:6 IDLE"},
    {"counts:2 <1 <2 <n <I <2 <n <C:INSERT_0_2 <Z", "=2:2 IDLE"},
    {"open close_batch <Z", "=0:0 IDLE"},
    {"open add same add close_batch <1 <2 <T <D:1 <C:SELECT_1 <2 <T <D:2 <C:SELECT_1 <1 <2 <T <D:3 "
     "<C:SELECT_1 <Z",
     "=3:3:(1):(2):(3) IDLE"},
    {"batch:2 <1 <2 <n <C:INSERT_0_1 <E:22012 <Z", "=!query/failed/22012 IDLE"},
    {"batch:2 <E:42601 <Z query <1 <2 <T <D:1 <C:SELECT_1 <Z", "=!query/failed/42601 =(1) IDLE"},
    {"batch:2 <1 <2 <n <C:INSERT_0_1 <2 <n <C:INSERT_0_1 <E:23503 <Z", "=!constraint/failed/23503 IDLE"},
    {"counts:2 <1 <2 <n <C:INSERT_0_1 <2 <n <C:INSERT_0_1 <E:23503 <Z", "=!constraint/failed/23503 IDLE"},
    /* abandoned before, between and after its results; later results belong to another */
    {"batch:3 discard <1 <2 <T <D:1 <C:SELECT_1 <2 <T <D:2 <C:SELECT_1 <2 <T <D:3 <C:SELECT_1 <Z query <1 <2 "
     "<T <D:4 <C:SELECT_1 <Z",
     "=0:3 =(4) IDLE"},
    {"batch:3 <1 <2 <T <D:1 <C:SELECT_1 discard <2 <T <D:2 <C:SELECT_1 <2 <T <D:3 <C:SELECT_1 <Z query <1 <2 "
     "<T <D:4 <C:SELECT_1 <Z",
     "=1:3:(1) =(4) IDLE"},
    {"batch:2 <1 <2 <T <D:1 <C:SELECT_1 <2 <T <D:2 <C:SELECT_1 discard cancel <E:57014 <Z batch:1 <1 <2 <n "
     "<C:SELECT_0 <Z",
     "=!cancelled/failed/57014 =1:0:SELECT_0 IDLE"},
    {"batch:20 <1 <2 <T <C:SELECT_0 <2 <T <C:SELECT_0 <2 <T <C:SELECT_0 <2 <T <C:SELECT_0 <2 <T <C:SELECT_0 "
     "<2 <T <C:SELECT_0 <2 <T <C:SELECT_0 <2 <T <C:SELECT_0 <2 <T <C:SELECT_0 <2 <T <C:SELECT_0 <2 <T "
     "<C:SELECT_0 <2 <T <C:SELECT_0 <2 <T <C:SELECT_0 <2 <T <C:SELECT_0 <2 <T <C:SELECT_0 <2 <T <C:SELECT_0 "
     "<2 <T <C:SELECT_0 <2 <T <C:SELECT_0 <2 <T <C:SELECT_0 <2 <T <D:9 <C:SELECT_1 <Z",
     "=20:1:():():():():():():():():():():():():():():():():():():():(9) IDLE"},
    {"batch:20 <1 <2 <T <C:SELECT_0 break", "=!connect/unknown BROKEN"},
    /* the server drops what it has prepared */
    {"learn batch:2 <2 <n <C:DEALLOCATE_ALL <2 <n <C:SELECT_0 <Z entries",
     "=2:0:DEALLOCATE_ALL:SELECT_0 entries=none IDLE"},
    {"learn counts:1 <2 <n <C:DISCARD_ALL <Z entries", "=1:0 entries=none IDLE"},
    /* prepared when it runs again, if its PREPARE has worked; then it runs by its name */
    {"batch:1 <1 <2 <n <C:SELECT_0 <Z known batch:1 <1 <2 <n <C:SELECT_0 <Z known batch:1 <2 <n <C:SELECT_0 "
     "<Z",
     "=1:0:SELECT_0 known=no =1:0:SELECT_0 known=yes =1:0:SELECT_0 IDLE"},
    {"see batch:1 <E:42601 <Z known", "=!query/failed/42601 known=no IDLE"},
    {"see batch:1 <1 <E:22012 <Z known", "=!query/failed/22012 known=yes IDLE"},
    {"see open add add close_batch <1 <E:22012 <Z known", "=!query/failed/22012 known=yes IDLE"},
    {"learn counts:2 <2 <n <C:INSERT_0_1 <2 <n <C:INSERT_0_1 <Z", "=2:2 IDLE"},
    {"open add add add close_batch <1 <2 <n <C:SELECT_0 <1 <2 <n <C:SELECT_0 <2 <n <C:SELECT_0 <Z",
     "=3:0:SELECT_0:SELECT_0:SELECT_0 IDLE"},
    {"open add many add close_batch", "no_!query/unknown BROKEN"},
    /* what cannot be */
    {"batch:1 <1 <2 <n <C:INSERT_0_1 <2 <n <C:INSERT_0_1 <Z", "=!protocol/unknown BROKEN"},
    {"batch:2 <1 <2 <n <C:INSERT_0_1 <Z", "=!protocol/unknown BROKEN"},
    {"batch:2 <1 <2 <n <C:INSERT_0_1 <2 <G", "=!usage/unknown BROKEN"},
    {"open query add close_batch <1 <2 <T <D:1 <C:SELECT_1 <Z", "no_!usage/not_sent =1:1:(1) IDLE"},
};

static const struct pg_scenario copies[] = {
    {"copy <G put:1 put:2 end <C:COPY_2 <Z", "COPY_IN put=1 put=1 =COPY_2 IDLE"},
    {"copy <G put:1 fail <E:57014 <Z", "COPY_IN put=1 =!cancelled/failed/57014 IDLE"},
    {"copy copy <G end <C:COPY_0 <Z", "no_!usage/not_sent COPY_IN =COPY_0 IDLE"},
    {"copy <G query end <C:COPY_0 <Z", "COPY_IN no_!usage/not_sent =COPY_0 IDLE"},
    {"copy <G discard <E:57014 <Z", "COPY_IN =!cancelled/failed/57014 IDLE"},
    {"copy discard <G <E:57014 <Z", "=!cancelled/failed/57014 IDLE"},
    {"copy <H <d:1 <d:2 get <c <C:COPY_2 <Z get", "COPY_OUT got=1 got=2 wait end =COPY_2 IDLE"},
    {"copy <H <d:1 discard <d:2 <c <C:COPY_2 <Z", "COPY_OUT =COPY_2 IDLE"},
    {"copy discard <H <d:1 <d:2 <c <C:COPY_2 <Z", "=COPY_2 IDLE"},
    {"copy <H <d:1 <E:22012 <Z get", "COPY_OUT got=1 end =!query/failed/22012 IDLE"},
    {"copy <C:INSERT_0_1 <Z", "=INSERT_0_1 IDLE"},
    {"copy <E:42P01 <Z", "=!query/failed/42P01 IDLE"},
    {"little copy <G big put go swallow put:1 end <C:COPY_2 <Z", "COPY_IN put=0 put=1 =COPY_2 IDLE"},
    {"copy <G gone put:1 put:2 put:3 end", "COPY_IN put=1 put=-1 put=-1 =!connect/unknown BROKEN"},
    {"little copy <G big put gone big put end", "COPY_IN put=0 put=-1 =!connect/unknown BROKEN"},
    {"copy <G gone big put end", "COPY_IN put=-1 =!connect/unknown BROKEN"},
    {"copy <G unseen break", "=!connect/unknown BROKEN"},
    {"copy <H <d:1 unseen break", "=!connect/unknown BROKEN"},
    /* refused while it runs */
    {"copy <G put:1 <E:22P02 <Z put:2 end", "COPY_IN put=1 put=1 =!query/failed/22P02 IDLE"},
    /* not requested */
    {"simple <G may <E:57014 <Z", "may =!usage/failed IDLE"},
    {"query <1 <2 <G <E:57014 <Z", "=!usage/failed IDLE"},
    {"query <1 <2 <H <d:1 may cancel <d:2 <E:57014 <Z", "may =!usage/failed IDLE"},
    {"simple <C:INSERT_0_1 <H <d:1 <c <C:COPY_1 <C:INSERT_0_1 <Z", "=!usage/unknown IDLE"},
    {"simple <H <d:1 eof", "=!usage/unknown BROKEN"},
    {"simple <C:INSERT_0_1 <H <d:1 <F:57P01 eof", "=!usage/unknown BROKEN"},
    {"simple <H <d:1 <E:22012 <Z", "=!usage/failed IDLE"},
    {"simple <G eof", "=!usage/failed BROKEN"},
    {"query <1 <2 <W", "=!protocol/unknown BROKEN"},
    /* the connection is lost in it */
    {"copy <G put:1 eof", "COPY_IN put=1 =!connect/unknown BROKEN"},
    {"copy <G put:1 <F:57P01 eof", "COPY_IN put=1 =!connect/unknown/57P01 BROKEN"},
    {"copy <G end eof", "COPY_IN =!connect/unknown BROKEN"},
    {"copy <H <d:1 <F:57P01 eof", "COPY_OUT =!connect/unknown/57P01 BROKEN"},
    {"copy <H <d:1 eof", "COPY_OUT =!connect/unknown BROKEN"},
    {"copy <H <d:1 break", "COPY_OUT =!connect/unknown BROKEN"},
    {"copy <G break", "COPY_IN =!connect/unknown BROKEN"},
    {"copy <H <d:1 close", "COPY_OUT CLOSED"},
    {"copy <G close", "COPY_IN CLOSED"},
};

static struct pg_script peer;

#define PLAYS(name)                                                                                          \
    static void test_##name(void)                                                                            \
    {                                                                                                        \
        pg_play_all(&peer, name, sizeof name / sizeof *name);                                                \
    }

PLAYS(plain)
PLAYS(rows)
PLAYS(pipelines)
PLAYS(batches)
PLAYS(copies)

int main(void)
{
    alarm(120); /* whatever waits, waits forever */
    pg_script_open(&peer);
    TEST("a single statement", test_plain);
    TEST("rows one by one", test_rows);
    TEST("PREPARE and the statement in one trip, and descriptions", test_pipelines);
    TEST("several statements in one group", test_batches);
    TEST("COPY, requested or not", test_copies);
    pg_play_end();
    pg_script_close(&peer);
    return check_end("pg_flight");
}
