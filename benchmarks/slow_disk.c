/* A disk that takes FSYNC_MS milliseconds to make something durable: preloaded. */
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void spin_the_platter(void)
{
    const char *given = getenv("FSYNC_MS");
    long milliseconds = given ? atol(given) : 0;
    struct timespec wait = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&wait, NULL);
}

int fsync(int file)
{
    spin_the_platter();
    return syscall(SYS_fsync, file);
}

int fdatasync(int file)
{
    spin_the_platter();
    return syscall(SYS_fdatasync, file);
}
