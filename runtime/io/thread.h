/* A detached thread for one job. */
#ifndef DBRUN_IO_THREAD_H
#define DBRUN_IO_THREAD_H

/* 0, or the errno of why no thread can be started. The thread takes no signals: they belong to the main
 * thread, which knows what they mean. */
int thread_start(void *(*fn)(void *arg), void *arg);

#endif
