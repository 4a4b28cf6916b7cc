/*
 * Remembers the terminal's ordinary modes while the prompt edits a line in other modes. A process that ends
 * at once, by os.exit in a task or by a second signal, restores them.
 */
#ifndef DBRUN_HOST_MODES_H
#define DBRUN_HOST_MODES_H

/* Stores the modes of this terminal, before they are changed. */
void modes_keep(int fd);
/* Forgets the stored modes: the terminal has them again. */
void modes_forget(void);
/* Restores the stored modes, if any. Async-signal-safe. */
void modes_give_back(void);

#endif
