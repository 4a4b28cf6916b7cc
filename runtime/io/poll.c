#include "io/poll.h"

#include "base/deadline.h"

#include <errno.h>
#include <poll.h>

static unsigned ready_events(short revents)
{
    unsigned ready = 0;
    if (revents & (POLLIN | POLLERR | POLLHUP | POLLNVAL))
        ready |= IO_READ;
    if (revents & (POLLOUT | POLLERR | POLLHUP | POLLNVAL))
        ready |= IO_WRITE;
    return ready;
}

enum io_status io_poll(int fd, unsigned interest, uint64_t deadline, const struct io_interrupt *intr,
                       unsigned *ready)
{
    struct pollfd fds[2] = {{.fd = fd}, {.fd = -1}};
    if (interest & IO_READ)
        fds[0].events |= POLLIN;
    if (interest & IO_WRITE)
        fds[0].events |= POLLOUT;
    if (intr) {
        fds[1].fd = intr->fd;
        fds[1].events = POLLIN;
    }
    for (;;) {
        if (intr && intr->check && intr->check(intr->data))
            return IO_INTERRUPTED;
        int n = poll(fds, 2, deadline_poll_ms(deadline));
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return IO_ERROR;
        }
        if (fds[0].revents) {
            *ready = ready_events(fds[0].revents);
            return IO_READY;
        }
        if (n == 0 && (deadline_poll_ms(deadline) == 0))
            return IO_TIMEOUT;
        /* After a signal the interrupt's descriptor stays readable. When `check` says that the program goes
         * on (the script handles that signal), do not poll it again in this wait. */
        if (fds[1].revents && !(intr->check && intr->check(intr->data)))
            fds[1].fd = -1;
    }
}

bool io_poll_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n;
    do /* a signal interrupts poll(2) even with timeout 0 */
        n = poll(&p, 1, 0);
    while (n < 0 && errno == EINTR);
    return n != 0;
}
