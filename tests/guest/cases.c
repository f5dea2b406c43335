/*
 * A fuzzer's target: asks its emulator for the number of a test case, does that case, and says that it is done.
 *
 * The question is the instruction cpuid with eax = ASK and ebx = what; the emulator puts the answer into eax. Without
 * arguments the program waits for a case other than 0, leaves its name in a file, and has a child run it: the program
 * case-N, with the same pid in every case.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ASK = 0x5eed, NEXT = 1, DONE = 2, MARK = 9998 };

static long ask(long what)
{
    unsigned eax = ASK, ebx = what, ecx = 0, edx = 0;

    asm volatile("cpuid" : "+a"(eax), "+b"(ebx), "+c"(ecx), "+d"(edx));
    return eax;
}

static void child(long number)
{
    char text[32];

    syscall(MARK, number);
    snprintf(text, sizeof text, "case %ld\n", number);
    syscall(SYS_write, 3, text, strlen(text));
    syscall(SYS_dup2, 3, 5 + number % 3);
    snprintf(text, sizeof text, "/tmp/d%ld", number % 3);
    syscall(SYS_chdir, text);
    syscall(SYS_openat, AT_FDCWD, "here", O_RDWR | O_CREAT, 0600);
    syscall(SYS_write, 5 + number % 3, text, strlen(text));
    syscall(SYS_write, 4, text, strlen(text));
    ask(DONE);
    for (;;)
        syscall(SYS_pause);
}

int main(int argc, char **argv)
{
    char name[32], number[32];
    long next;

    if (argc > 1)
        child(atol(argv[1]));
    while (!(next = ask(NEXT)))
        usleep(1000);
    syscall(MARK, next);
    snprintf(name, sizeof name, "/tmp/case-%ld", next);
    snprintf(number, sizeof number, "%ld", next);
    syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_CREAT, 0600);
    if (!vfork()) {
        execl("/cases", name + 5, number, NULL);
        _exit(1);
    }
    wait(NULL);
    return 0;
}
