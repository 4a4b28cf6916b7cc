/* Makes a segment of shared memory with the size of PostgreSQL's header, writes its key and number, and stays
 * attached until its input ends. It does not remove the segment. */
#include <stdio.h>
#include <sys/shm.h>
#include <unistd.h>

int main(void)
{
    key_t key = (key_t)(0x5db00000 + getpid());
    int id = shmget(key, 56, IPC_CREAT | IPC_EXCL | 0600);
    if (id < 0 || shmat(id, NULL, 0) == (void *)-1) {
        perror("segment");
        return 1;
    }
    printf("%d %d\n", (int)key, id);
    fflush(stdout);
    while (getchar() != EOF) {
    }
    return 0;
}
