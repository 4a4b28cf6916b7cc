#include "pg_server.h"

#include "base/deadline.h"

#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* PostgreSQL refuses to run as root; the user `postgres` runs it then. */
static bool drop_root(void)
{
    if (geteuid() != 0)
        return true;
    struct passwd *pw = getpwnam("postgres");
    return pw && setgroups(0, NULL) == 0 && setgid(pw->pw_gid) == 0 && setuid(pw->pw_uid) == 0;
}

static pid_t spawn(const char *dir, char *const argv[])
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    char log[96];
    snprintf(log, sizeof log, "%s/log", dir);
    if (!drop_root() || chdir(dir) != 0)
        _exit(126);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    execv(argv[0], argv);
    _exit(127);
}

static bool bin_folder(char *out, size_t size)
{
    glob_t g;
    bool found = false;
    if (glob("/usr/lib/postgresql/*/bin/postgres", 0, NULL, &g) == 0) {
        snprintf(out, size, "%s", g.gl_pathv[g.gl_pathc - 1]);
        *strrchr(out, '/') = '\0';
        found = true;
    }
    globfree(&g);
    return found;
}

static bool answers(const struct pg_server *s)
{
    char info[128];
    snprintf(info, sizeof info, "host=%s user=postgres dbname=postgres", s->dir);
    uint64_t deadline = deadline_in(30);
    while (mono_now() < deadline) {
        PGPing ping = PQping(info);
        if (ping == PQPING_OK)
            return true;
        poll(NULL, 0, 20);
    }
    return false;
}

bool pg_server_start(struct pg_server *s)
{
    char bin[256];
    char initdb[300];
    char postgres[300];
    char data[96];
    strcpy(s->dir, "/tmp/dbrun-ctest-XXXXXX");
    s->pid = -1;
    if (!bin_folder(bin, sizeof bin) || !mkdtemp(s->dir)) {
        fprintf(stderr, "no PostgreSQL server under /usr/lib/postgresql\n");
        return false;
    }
    struct passwd *pw = getpwnam("postgres");
    if (geteuid() == 0 && (!pw || chown(s->dir, pw->pw_uid, pw->pw_gid) != 0))
        return false;
    snprintf(initdb, sizeof initdb, "%s/initdb", bin);
    snprintf(postgres, sizeof postgres, "%s/postgres", bin);
    snprintf(data, sizeof data, "%s/data", s->dir);
    pid_t init =
        spawn(s->dir, (char *const[]){initdb, "-N", "-A", "trust", "-U", "postgres", "-D", data, NULL});
    int status = -1;
    if (init < 0 || waitpid(init, &status, 0) != init || status != 0) {
        fprintf(stderr, "initdb failed: %s/log\n", s->dir);
        return false;
    }
    s->pid = spawn(s->dir, (char *const[]){postgres, "-D", data, "-k", s->dir, "-c",
                                           "listen_addresses=", "-c", "fsync=off", NULL});
    if (s->pid > 0 && answers(s))
        return true;
    fprintf(stderr, "PostgreSQL did not start: %s/log\n", s->dir);
    return false;
}

void pg_server_stop(struct pg_server *s)
{
    if (s->pid > 0) {
        kill(s->pid, SIGQUIT); /* immediate */
        waitpid(s->pid, NULL, 0);
    }
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", s->dir);
    if (system(command) != 0)
        fprintf(stderr, "cannot remove %s\n", s->dir);
}
