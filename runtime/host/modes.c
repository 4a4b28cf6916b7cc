#include "host/modes.h"

#include <signal.h>
#include <termios.h>
#include <unistd.h>

static struct {
    volatile sig_atomic_t kept;
    int fd;
    struct termios ordinary;
} modes;

void modes_keep(int fd)
{
    modes_forget();
    modes.fd = fd;
    modes.kept = tcgetattr(fd, &modes.ordinary) == 0;
}

void modes_forget(void)
{
    modes.kept = 0;
}

void modes_give_back(void)
{
    if (modes.kept &&
        tcgetpgrp(modes.fd) == getpgrp()) /* otherwise another job has the terminal, and SIGTTOU came */
        tcsetattr(modes.fd, TCSANOW, &modes.ordinary);
}
