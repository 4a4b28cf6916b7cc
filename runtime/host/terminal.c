#include "host/terminal.h"

#include "host/input.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

static struct {
    bool held;
    dev_t device;
    struct wait_queue queue;
} terminal;

/* The device number; 0: not a character device. */
static dev_t device_of(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) ? st.st_rdev : 0;
}

void terminal_hold(int fd)
{
    terminal.device = device_of(fd);
    terminal.held = true;
}

void terminal_release(void)
{
    struct reading *r;
    terminal.held = false;
    while ((r = reading_pop(&terminal.queue)) != NULL)
        reading_wake(r);
}

bool terminal_is_held(int fd)
{
    if (!terminal.held)
        return false;
    dev_t device = device_of(fd);
    return device != 0 && (device == terminal.device || device == makedev(5, 0)); /* /dev/tty */
}

struct wait_queue *terminal_queue(void)
{
    return &terminal.queue;
}
