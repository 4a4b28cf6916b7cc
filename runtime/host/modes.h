/*
 * The terminal's ordinary modes while the prompt edits a line in modes of its own. A process that ends at
 * once, by os.exit in a task or by a second signal, gives the terminal back with them.
 */
#ifndef DBRUN_HOST_MODES_H
#define DBRUN_HOST_MODES_H

/* Before the modes of this terminal are changed: notes them. */
void modes_keep(int fd);
/* They are the ordinary ones again. */
void modes_forget(void);
/* Sets those that were noted, if any. Async-signal-safe. */
void modes_give_back(void);

#endif
