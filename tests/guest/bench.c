/*
 * What a system call costs by the guest's own clock: bench COUNT
 *
 * Prints one JSON line per loop: {"loop": "getppid", "calls": N, "ns_per_call": F}. The loops are getppid; open, read,
 * fstat, close of a small file ("open": four calls a round); and stat of a missing path.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* syscall(2) throughout: glibc's own names for these vary by version (stat became newfstatat in 2.33). */
static void getppid_round(void)
{
    syscall(SYS_getppid);
}

static void open_round(void)
{
    char buffer[64];
    struct stat status;
    long fd = syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);

    syscall(SYS_read, fd, buffer, sizeof buffer);
    syscall(SYS_fstat, fd, &status);
    syscall(SYS_close, fd);
}

static void stat_round(void)
{
    struct stat status;

    syscall(SYS_newfstatat, AT_FDCWD, "/no/such/file", &status, 0);
}

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now); /* by the vDSO: no system call when the clock source allows */
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void measure(const char *name, void (*round)(void), long count, int calls)
{
    double start = seconds();

    for (long i = 0; i < count; i++)
        round();
    printf("{\"loop\": \"%s\", \"calls\": %ld, \"ns_per_call\": %.0f}\n", name, count * calls,
           (seconds() - start) * 1e9 / (count * calls));
}

int main(int argc, char **argv)
{
    long count = argc > 1 ? strtol(argv[1], NULL, 10) : 10000;

    if (count < 1) {
        fprintf(stderr, "usage: bench COUNT\n");
        return 2;
    }
    measure("getppid", getppid_round, count, 1);
    measure("open", open_round, count, 4);
    measure("stat", stat_round, count, 1);
    return 0;
}
