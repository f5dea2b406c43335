/*
 * Calls that signals interrupt: some go on, some fail, some never come back. Each scene is a process of its own, whose
 * parent waits until it is blocked, sends it a signal, and lets it go on.
 *
 * Prints what the scenes' calls were to them, in the order in which each task made them, one JSON line a call:
 *
 *   {"scene": "restarts", "pid": 80, "tid": 80, "name": "read", "nr": 0, "ret": 1}
 *
 *   ret      null when the call did not come back; -errno
 *
 * Every call of a scene is here, but those that its process or thread makes before its first line.
 */
#define _GNU_SOURCE
#include "raw.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 128 };

struct line {
    const char *scene, *name;
    int pid, tid, came_back;
    long nr, ret;
};

static struct {
    unsigned used;
    struct line lines[MOST];
} *account;
static const char *scene;
static int pid, ends[2], second[2];
static sigjmp_buf outside;

#define CALL(name, ...) call(pid, #name, SYS_##name, (unsigned long[WORDS]){__VA_ARGS__})
#define P(pointer) ((unsigned long)(pointer))

static struct line *claim(int tid, const char *name, long nr)
{
    struct line *line = &account->lines[__atomic_fetch_add(&account->used, 1, __ATOMIC_SEQ_CST)];

    *line = (struct line){.scene = scene, .name = name, .pid = pid, .tid = tid, .nr = nr};
    return line;
}

static long call(int tid, const char *name, long nr, const unsigned long *words)
{
    struct line *line = claim(tid, name, nr);

    line->ret = raw(nr, words);
    line->came_back = 1;
    return line->ret;
}

/* ---- what signals do ---- */

static void on_signal(int number)
{
    (void)number;
    CALL(getppid, 0);
    claim(pid, "rt_sigreturn", SYS_rt_sigreturn);
}

/* A handler that is in a call itself when another signal comes. */
static void on_signal_reads(int number)
{
    char byte;

    (void)number;
    CALL(read, second[0], P(&byte), 1);
    claim(pid, "rt_sigreturn", SYS_rt_sigreturn);
}

static void on_signal_leaves(int number)
{
    (void)number;
    CALL(getppid, 0);
    siglongjmp(outside, 1);
}

static void handle(int number, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};

    sigaction(number, &action, NULL);
}

/* ---- scenes: all that follows in a scene's process is a line ---- */

static void reads(void)
{
    char byte;

    CALL(read, ends[0], P(&byte), 1);
}

static void sleeps(void)
{
    struct timespec moment = {0, 150000000};

    CALL(nanosleep, P(&moment), 0);
}

static void polls(void)
{
    struct pollfd one = {.fd = ends[0], .events = POLLIN};
    struct timespec long_ = {100, 0};

    CALL(ppoll, P(&one), 1, P(&long_), 0, 8);
    CALL(getpid, 0);
}

static void leaves(void)
{
    if (!sigsetjmp(outside, 0))
        reads();
    CALL(getpid, 0);
    reads();
}

static void thread_reads(void)
{
    unsigned long words[WORDS] = {ends[0], P(&words), 1};
    int tid = raw(SYS_gettid, words);

    call(tid, "getppid", SYS_getppid, words);
    call(tid, "read", SYS_read, words);
}

/* Its end ends a thread's call, which never comes back. */
static void leaves_a_thread(void)
{
    static char stack[4 * 4096] __attribute__((aligned(16)));
    unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    unsigned long words[WORDS] = {flags, P(stack + sizeof stack - 64)};
    struct line *line = claim(pid, "clone", SYS_clone);
    struct timespec moment = {0, 100000000};

    line->ret = spawn(SYS_clone, words, thread_reads);
    line->came_back = 1;
    CALL(nanosleep, P(&moment), 0);
}

/* ---- the parent ---- */

/* Waits until a process is in a state: S asleep, T stopped. */
static void await(int child, char state)
{
    char path[32], text[128];

    snprintf(path, sizeof path, "/proc/%d/stat", child);
    for (;;) {
        FILE *file = fopen(path, "r");
        char *end = file && fgets(text, sizeof text, file) ? strrchr(text, ')') : NULL;

        if (file)
            fclose(file);
        if (end && end[2] == state)
            return;
        usleep(2000);
    }
}

static void play(const char *name, void (*body)(void), void (*direct)(int child))
{
    int status;
    pid_t child;

    scene = name;
    if (pipe(ends) || pipe(second))
        exit(1);
    child = fork();
    if (!child) {
        pid = getpid();
        body();
        claim(pid, "exit_group", SYS_exit_group);
        raw(SYS_exit_group, (unsigned long[WORDS]){0});
    }
    await(child, 'S');
    direct(child);
    waitpid(child, &status, 0);
    for (int i = 0; i < 2; i++) {
        close(ends[i]);
        close(second[i]);
    }
}

static void put(int end)
{
    if (write(end, "x", 1) != 1)
        exit(1);
}

static void signal_and_write(int child)
{
    kill(child, SIGUSR1);
    usleep(20000);
    await(child, 'S');
    put(ends[1]);
}

static void signal_alone(int child)
{
    kill(child, SIGUSR1);
}

static void stop_and_write(int child)
{
    kill(child, SIGSTOP);
    await(child, 'T');
    kill(child, SIGCONT);
    await(child, 'S');
    put(ends[1]);
}

static void stop_alone(int child)
{
    kill(child, SIGSTOP);
    await(child, 'T');
    kill(child, SIGCONT);
}

static void stop_twice(int child)
{
    stop_alone(child);
    await(child, 'S');
    stop_alone(child);
}

/* SIGUSR1's handler reads, SIGUSR2's interrupts that. */
static void signal_twice_and_write(int child)
{
    kill(child, SIGUSR1);
    usleep(20000);
    await(child, 'S');
    kill(child, SIGUSR2);
    usleep(20000);
    await(child, 'S');
    put(second[1]);
    usleep(20000);
    await(child, 'S');
    put(ends[1]);
}

static void finish(int child)
{
    kill(child, SIGKILL);
}

static void watch(int child)
{
    (void)child;
}

int main(void)
{
    account = mmap(NULL, sizeof *account, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (account == MAP_FAILED)
        return 1;
    handle(SIGUSR1, on_signal, SA_RESTART);
    handle(SIGUSR2, on_signal, SA_RESTART);
    play("restarts after a handler", reads, signal_and_write);
    play("stopped and continued", reads, stop_and_write);
    play("sleep stopped and continued", sleeps, stop_alone);
    play("sleep stopped twice", sleeps, stop_twice);
    play("sleep fails in spite of SA_RESTART", sleeps, signal_alone);
    play("poll stopped", polls, stop_and_write);
    play("killed", reads, finish);
    play("a thread's call ends with its process", leaves_a_thread, watch);
    handle(SIGUSR1, on_signal_reads, SA_RESTART);
    play("a handler's call restarts", reads, signal_twice_and_write);
    handle(SIGUSR1, on_signal, 0);
    play("fails", reads, signal_alone);
    play("poll fails", polls, signal_alone);
    handle(SIGUSR1, on_signal_leaves, SA_NODEFER);
    play("left by its handler", leaves, signal_and_write);
    for (unsigned i = 0; i < account->used; i++) {
        struct line *line = &account->lines[i];

        printf("{\"scene\": \"%s\", \"pid\": %d, \"tid\": %d, \"name\": \"%s\", \"nr\": %ld, \"ret\": ", line->scene,
               line->pid, line->tid, line->name, line->nr);
        if (line->came_back)
            printf("%ld}\n", line->ret);
        else
            printf("null}\n");
    }
    return 0;
}
