/*
 * libpq, opened with dlopen when the first connection is made. Loading it with its own libraries (LDAP,
 * Kerberos, GnuTLS) takes half of the program's start time, and runs that only read a file, show help or
 * complete a word never connect.
 *
 * The functions keep their names and types; each name is a macro for a pointer, like a call to a linked
 * library. A libpq function that is missing in this list fails at link time.
 */
#ifndef DBRUN_PG_LIBPQ_H
#define DBRUN_PG_LIBPQ_H

#include "base/error.h"

#include <libpq-fe.h>

/* clang-format off */
#define LIBPQ_FUNCTIONS(X) \
    X(PQbackendPID) X(PQbinaryTuples) X(PQcancel) X(PQclear) X(PQclientEncoding) X(PQcmdStatus) \
    X(PQcmdTuples) X(PQconnectPoll) X(PQconnectStartParams) X(PQconninfo) X(PQconninfoFree) \
    X(PQconsumeInput) X(PQcopyResult) X(PQenterPipelineMode) X(PQerrorMessage) X(PQexitPipelineMode) \
    X(PQfformat) X(PQfinish) X(PQflush) X(PQfmod) X(PQfname) X(PQfreeCancel) X(PQfreemem) X(PQftype) \
    X(PQgetCancel) X(PQgetCopyData) X(PQgetisnull) X(PQgetlength) X(PQgetResult) X(PQgetvalue) \
    X(PQgssEncInUse) X(PQisBusy) X(PQlibVersion) X(PQnfields) X(PQnotifies) X(PQnparams) X(PQntuples) \
    X(PQoptions) X(PQparameterStatus) X(PQparamtype) X(PQpass) X(PQpipelineSync) X(PQputCopyData) \
    X(PQputCopyEnd) X(PQresultErrorField) X(PQresultErrorMessage) X(PQresultMemorySize) X(PQresultStatus) \
    X(PQsendDescribePrepared) X(PQsendPrepare) X(PQsendQuery) X(PQsendQueryParams) X(PQsendQueryPrepared) \
    X(PQsetErrorVerbosity) X(PQsetnonblocking) X(PQsetNoticeReceiver) X(PQsetSingleRowMode) X(PQsetvalue) \
    X(PQsocket) X(PQsslInUse) X(PQsslStruct) X(PQstatus) X(PQtransactionStatus)
/* clang-format on */

#define LIBPQ_POINTER(name) __typeof__(&(name)) at_##name;

/* Set by libpq_open, and only read from then on. Before that, functions that free are called only with NULL,
 * and the others are not called, because there is no connection or result. */
extern struct libpq {
    LIBPQ_FUNCTIONS(LIBPQ_POINTER)
} libpq;

/* Opens the library unless it is open; can be called on any thread. False, with `err` set, when the library
 * is missing or no descriptor is left. Must be called before a connection is made. */
bool libpq_open(struct error *err);

#define PQbackendPID           (libpq.at_PQbackendPID)
#define PQbinaryTuples         (libpq.at_PQbinaryTuples)
#define PQcancel               (libpq.at_PQcancel)
#define PQclear                (libpq.at_PQclear)
#define PQclientEncoding       (libpq.at_PQclientEncoding)
#define PQcmdStatus            (libpq.at_PQcmdStatus)
#define PQcmdTuples            (libpq.at_PQcmdTuples)
#define PQconnectPoll          (libpq.at_PQconnectPoll)
#define PQconnectStartParams   (libpq.at_PQconnectStartParams)
#define PQconninfo             (libpq.at_PQconninfo)
#define PQconninfoFree         (libpq.at_PQconninfoFree)
#define PQconsumeInput         (libpq.at_PQconsumeInput)
#define PQcopyResult           (libpq.at_PQcopyResult)
#define PQenterPipelineMode    (libpq.at_PQenterPipelineMode)
#define PQerrorMessage         (libpq.at_PQerrorMessage)
#define PQexitPipelineMode     (libpq.at_PQexitPipelineMode)
#define PQfformat              (libpq.at_PQfformat)
#define PQfinish               (libpq.at_PQfinish)
#define PQflush                (libpq.at_PQflush)
#define PQfmod                 (libpq.at_PQfmod)
#define PQfname                (libpq.at_PQfname)
#define PQfreeCancel           (libpq.at_PQfreeCancel)
#define PQfreemem              (libpq.at_PQfreemem)
#define PQftype                (libpq.at_PQftype)
#define PQgetCancel            (libpq.at_PQgetCancel)
#define PQgetCopyData          (libpq.at_PQgetCopyData)
#define PQgetisnull            (libpq.at_PQgetisnull)
#define PQgetlength            (libpq.at_PQgetlength)
#define PQgetResult            (libpq.at_PQgetResult)
#define PQgetvalue             (libpq.at_PQgetvalue)
#define PQgssEncInUse          (libpq.at_PQgssEncInUse)
#define PQisBusy               (libpq.at_PQisBusy)
#define PQlibVersion           (libpq.at_PQlibVersion)
#define PQnfields              (libpq.at_PQnfields)
#define PQnotifies             (libpq.at_PQnotifies)
#define PQnparams              (libpq.at_PQnparams)
#define PQntuples              (libpq.at_PQntuples)
#define PQoptions              (libpq.at_PQoptions)
#define PQparameterStatus      (libpq.at_PQparameterStatus)
#define PQparamtype            (libpq.at_PQparamtype)
#define PQpass                 (libpq.at_PQpass)
#define PQpipelineSync         (libpq.at_PQpipelineSync)
#define PQputCopyData          (libpq.at_PQputCopyData)
#define PQputCopyEnd           (libpq.at_PQputCopyEnd)
#define PQresultErrorField     (libpq.at_PQresultErrorField)
#define PQresultErrorMessage   (libpq.at_PQresultErrorMessage)
#define PQresultMemorySize     (libpq.at_PQresultMemorySize)
#define PQresultStatus         (libpq.at_PQresultStatus)
#define PQsendDescribePrepared (libpq.at_PQsendDescribePrepared)
#define PQsendPrepare          (libpq.at_PQsendPrepare)
#define PQsendQuery            (libpq.at_PQsendQuery)
#define PQsendQueryParams      (libpq.at_PQsendQueryParams)
#define PQsendQueryPrepared    (libpq.at_PQsendQueryPrepared)
#define PQsetErrorVerbosity    (libpq.at_PQsetErrorVerbosity)
#define PQsetnonblocking       (libpq.at_PQsetnonblocking)
#define PQsetNoticeReceiver    (libpq.at_PQsetNoticeReceiver)
#define PQsetSingleRowMode     (libpq.at_PQsetSingleRowMode)
#define PQsetvalue             (libpq.at_PQsetvalue)
#define PQsocket               (libpq.at_PQsocket)
#define PQsslInUse             (libpq.at_PQsslInUse)
#define PQsslStruct            (libpq.at_PQsslStruct)
#define PQstatus               (libpq.at_PQstatus)
#define PQtransactionStatus    (libpq.at_PQtransactionStatus)

#endif
