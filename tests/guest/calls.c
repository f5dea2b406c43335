/*
 * A known series of system calls, and afterwards what they were: ground truth for a tracer.
 *
 * Every call of the series is an instruction of our own (raw.h). What went in and came out is kept in memory and printed
 * when the series is over, one JSON line per call, in the order in which they began:
 *
 *   {"index": 7, "name": "openat", "nr": 257, "words": ["0xffffff9c", "0x4a1000"...], "args": ["0xffffff9c"...],
 *    "strings": {"1": "2f65..."}, "lists": {}, "out": {}, "ret": -2, "errno": "ENOENT", "pid": 80, "tid": 80}
 *
 *   name     the kernel's; null where no such system call exists
 *   nr       as the kernel takes it: the low 32 bits of its register, signed
 *   words    the registers (and words on the stack), as many as the call takes
 *   args     what they mean: a 64-bit argument in two registers is one number, and what only fills a hole is none
 *   strings  NUL-terminated strings that go in, by argument, as hex bytes; absent when the kernel cannot read them
 *   lists    argv and envp, by argument, as lists of hex strings
 *   out      the first `ret` bytes, 64 at most, that the call wrote, by argument
 *   ret      null when the call does not come back (exit, exit_group, rt_sigreturn); -errno on every architecture
 *
 * In the stream of calls the series lies between two that do not exist: nr 9998 with the arguments of BEGIN and of END
 * below. They are not among the lines. What a child does before its first line or after its execve is not either: the
 * program started by vfork and execve is this one again, whose C library starts up before main.
 *
 * Two lines need a word. `pause` (rt_sigsuspend) is cut short by a signal: the user sees -4 (EINTR), but at the kernel's
 * common exit path the register still holds -514 (ERESTARTNOHAND), which signal delivery turns into -4. The last call of
 * unknown() on x86_64 puts getpid's number into rax with bit 32 set: Linux 6.1 looks at the low half alone.
 */
#define _GNU_SOURCE
#include "raw.h"

#ifdef __x86_64__
#include <asm/prctl.h>
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/param.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MARK = 9998, PAGE = 4096, MOST = 256, LONG_ARGV = 25 };
#define BITS (8 * (int)sizeof(long))
#define TOP (1UL << (BITS - 1))
#define WORD(value) ((unsigned long)(value##ULL))
#define BEGIN WORD(0x5359535245454c), 0xbe617, ~0UL, TOP, WORD(0x0123456789abcdef), 6
#define END WORD(0x5359535245454c), 0xe17d, ~0UL, TOP, WORD(0xfedcba9876543210), 6

/*
 * A 64-bit argument: in one register, or in two, with the half first that is first in memory. arm and mips want the
 * first of the two to be an even one: ODD is an argument that would not be, so that a hole comes before it.
 */
#define HOLE 0x5ad5ad5a
#if __SIZEOF_LONG__ == 8
#define EVEN(value) (value)
#define ODD(value) (value)
#else
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define EVEN(value) (unsigned long)(value), (unsigned long)((value) >> 32)
#else
#define EVEN(value) (unsigned long)((value) >> 32), (unsigned long)(value)
#endif
#ifdef __i386__
#define ODD(value) EVEN(value)
#else
#define ODD(value) HOLE, EVEN(value)
#endif
#endif

struct task {
    int pid, tid; /* filled in when known; lines are printed afterwards */
};

struct record {
    const char *name;
    const struct task *task;
    long nr, ret;
    unsigned long words[WORDS];
    unsigned long long args[WORDS];
    unsigned marks; /* IN, LIST and OUT bits */
    int count, args_count, returned;
};

/* Shared with forked children, which add their own records. */
static struct shared {
    unsigned next;
    struct task main, fork, vfork, thread;
    struct record records[MOST];
} *shared;

#define IN(i) (1u << (i))
#define LIST(i) (1u << ((i) + 8))
#define OUT(i) (1u << ((i) + 16))
#define P(pointer) ((unsigned long)(pointer))
#define ARGS(...) ((unsigned long[WORDS]){__VA_ARGS__})
#define VALUES(...) (unsigned long long[WORDS]){__VA_ARGS__}, COUNT(__VA_ARGS__)
#define COUNT(...) ((int)(sizeof((unsigned long long[]){0, ##__VA_ARGS__}) / sizeof(long long)) - 1)
#define CALL_AS(task, name, marks, ...) \
    call(claim(task, #name, SYS_##name, marks, COUNT(__VA_ARGS__), ARGS(__VA_ARGS__)))
#define CALL(name, marks, ...) CALL_AS(&shared->main, name, marks, ##__VA_ARGS__)
#define CALL_NR(name, nr, ...) call(claim(&shared->main, name, nr, 0, COUNT(__VA_ARGS__), ARGS(__VA_ARGS__)))
/* A call whose words are not its arguments one by one. */
#define WIDE(name, marks, values, ...) \
    call(mean(claim(&shared->main, #name, SYS_##name, marks, COUNT(__VA_ARGS__), ARGS(__VA_ARGS__)), values))

static struct record *claim(const struct task *task, const char *name, long nr, unsigned marks, int count,
                            const unsigned long *words)
{
    struct record *record = &shared->records[__atomic_fetch_add(&shared->next, 1, __ATOMIC_SEQ_CST)];

    *record = (struct record){.name = name, .task = task, .nr = nr, .marks = marks, .count = count, .args_count = count};
    for (int i = 0; i < WORDS; i++)
        record->args[i] = record->words[i] = words[i];
    return record;
}

static struct record *mean(struct record *record, const unsigned long long *args, int count)
{
    memcpy(record->args, args, sizeof record->args);
    record->args_count = count;
    return record;
}

static void returned(struct record *record, long ret)
{
    record->ret = ret;
    record->returned = 1;
}

static long call(struct record *record)
{
    long ret = raw(record->nr, record->words);

    returned(record, ret);
    return ret;
}

/* ---- tasks ---- */

static void fork_and_wait(void)
{
#ifdef SYS_fork
    struct record *record = claim(&shared->main, "fork", SYS_fork, 0, 0, ARGS(0));
#else
    struct record *record = claim(&shared->main, "clone", SYS_clone, 0, 5, ARGS(SIGCHLD));
#endif
    int status;
    long pid = raw(record->nr, record->words);

    if (pid == 0) { /* the record of fork is the parent's to fill */
        const struct task *me = &shared->fork;
        long fd = CALL_AS(me, openat, IN(1), AT_FDCWD, P("child-file"), O_CREAT | O_WRONLY, 0600);

        CALL_AS(me, getppid, 0);
        CALL_AS(me, write, IN(1), fd, P("from the child"), 14);
        CALL_AS(me, exit_group, 0, 3);
    }
    shared->fork = (struct task){pid, pid};
    returned(record, pid);
    CALL(wait4, 0, pid, P(&status), 0, 0);
    CALL(wait4, 0, pid, P(&status), 0, 0); /* ECHILD: it is gone */
}

static void vfork_and_exec(char **argv, char **envp)
{
#if defined(SYS_vfork) && !defined(__mips__)
    struct record *record = claim(&shared->main, "vfork", SYS_vfork, 0, 0, ARGS(0));
#else
    struct record *record =
        claim(&shared->main, "clone", SYS_clone, 0, 5, ARGS(CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0));
#endif
    struct record *exec = claim(&shared->vfork, "execve", SYS_execve, IN(0) | LIST(1) | LIST(2), 3,
                                ARGS(P("/proc/self/exe"), P(argv), P(envp)));
    int status;
    long pid = vfork_exec(exec->words);

    shared->vfork = (struct task){pid, pid};
    returned(record, pid);
    returned(exec, 0);
    claim(&shared->vfork, "exit_group", SYS_exit_group, 0, 1, ARGS(LONG_ARGV));
    CALL(wait4, 0, pid, P(&status), 0, 0);
}

static void thread_body(void)
{
    const struct task *me = &shared->thread;

    CALL_AS(me, mkdirat, IN(1), AT_FDCWD, P("/missing/by-thread"), 0700);
    CALL_AS(me, getpid, 0);
    CALL_AS(me, exit, 0, 0);
}

static void start_thread(void)
{
    static char stack[4 * PAGE] __attribute__((aligned(16)));
    static int alive; /* the kernel stores the thread's id here, and 0 when it has ended */
    unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                          CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    unsigned long top = P(stack + sizeof stack - 64); /* mips' callees may store their arguments above */
#ifdef __x86_64__
    unsigned long fourth = P(&alive), fifth = 0;
#else
    unsigned long fourth = 0, fifth = P(&alive); /* the thread's own data, unused, comes first */
#endif
    struct record *record =
        claim(&shared->main, "clone", SYS_clone, 0, 5, ARGS(flags, top, P(&alive), fourth, fifth));
    long tid = spawn(SYS_clone, record->words, thread_body);

    shared->thread = (struct task){shared->main.pid, tid};
    returned(record, tid);
    for (int seen; (seen = __atomic_load_n(&alive, __ATOMIC_SEQ_CST)) != 0;)
        CALL(futex, 0, P(&alive), FUTEX_WAIT, seen, 0, 0, 0);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info, (void)context;
    /* Returning from here is a system call that the restorer makes. */
    claim(&shared->main, "rt_sigreturn", SYS_rt_sigreturn, 0, 0, ARGS(0));
}

static void signals(void)
{
    /* The kernel's struct sigaction, not the C library's. */
    struct {
#ifdef __mips__
        unsigned flags;
        void (*handler)(int, siginfo_t *, void *);
        unsigned long mask[128 / BITS];
    } action = {SA_SIGINFO, on_signal, {0}};
    enum { MASK = 16 };
#else
        void (*handler)(int, siginfo_t *, void *);
        unsigned long flags;
        void (*restorer)(void);
        unsigned long mask[64 / BITS];
    } action = {on_signal, SA_SIGINFO | 0x04000000 /* SA_RESTORER */, restorer, {0}};
    enum { MASK = 8 };
#endif
    struct itimerval soon = {{0, 50000}, {0, 50000}}, never = {{0, 0}, {0, 0}};

    CALL(rt_sigaction, 0, SIGUSR1, P(&action), 0, MASK);
    CALL(rt_sigaction, 0, SIGALRM, P(&action), 0, MASK);
    CALL(kill, 0, shared->main.pid, SIGUSR1);
    /* Again and again, so that a signal before pause does not leave us there. */
    CALL(setitimer, 0, ITIMER_REAL, P(&soon), 0);
#ifdef SYS_pause
    CALL(pause, 0);
#else
    CALL(rt_sigsuspend, 0, P((unsigned long[2]){0}), MASK);
#endif
    CALL(setitimer, 0, ITIMER_REAL, P(&never), 0);
    CALL(kill, 0, 0x3fffffff, 0);
    CALL(kill, 0, shared->main.pid, 999);
}

/* ---- files and memory ---- */

static void files(void)
{
    static char buffers[8][1024];
    int pair[2];
    long fd, folder, mem;

#ifdef SYS_open
    fd = CALL(open, IN(0), P("/etc/passwd"), O_RDONLY, 0);
#else
    fd = CALL(openat, IN(1), AT_FDCWD, P("/etc/passwd"), O_RDONLY, 0);
#endif
    CALL(read, OUT(1), fd, P(buffers[0]), 32);
    CALL(close, 0, fd);
    CALL(close, 0, fd);
    CALL(close, 0, -1UL);
    fd = CALL(openat, IN(1), AT_FDCWD, P("file"), O_CREAT | O_RDWR | O_TRUNC, 0640);
    CALL(write, IN(1), fd, P("hello, tracer\n"), 14);
    CALL(write, IN(1), fd, P("nothing"), 0);
    CALL(lseek, 0, fd, 0, SEEK_SET);
    CALL(read, OUT(1), fd, P(buffers[1]), 64);
    CALL(read, OUT(1), fd, P(buffers[2]), 64); /* 0: the end */
    CALL(lseek, 0, fd, -1UL, SEEK_SET);
    CALL(lseek, 0, fd, ~0UL >> 1, SEEK_SET); /* returns the greatest there is */
    CALL(fcntl, 0, fd, F_GETFL, 0);
    CALL(fcntl, 0, fd, F_DUPFD, 40);
    CALL(ioctl, 0, fd, 0x5401 /* TCGETS; on mips another */, P(buffers[4]));
    CALL(dup, 0, fd);
#ifdef SYS_dup2
    CALL(dup2, 0, fd, 50);
#endif
    CALL(dup3, 0, fd, 51, O_CLOEXEC);
    CALL(dup3, 0, fd, fd, 0);
    CALL(close, 0, 51);
#ifdef SYS_newfstatat
    CALL(newfstatat, IN(1), AT_FDCWD, P("/no/such/file"), P(buffers[4]), 0);
#else
    CALL(fstatat64, IN(1), AT_FDCWD, P("/no/such/file"), P(buffers[4]), 0);
#endif
#ifdef SYS_stat
    CALL(stat, IN(0), P("/no/such/file"), P(buffers[4]));
#endif
    CALL(mkdirat, IN(1), AT_FDCWD, P("folder"), 0755);
    CALL(mkdirat, IN(1), AT_FDCWD, P("folder"), 0755);
    CALL(chdir, IN(0), P("folder"));
    CALL(getcwd, OUT(0), P(buffers[5]), 1024);
    CALL(chdir, IN(0), P(".."));
    CALL(renameat2, IN(1) | IN(3), AT_FDCWD, P("file"), AT_FDCWD, P("folder/renamed"), 0);
    CALL(renameat2, IN(1) | IN(3), AT_FDCWD, P("file"), AT_FDCWD, P("folder/renamed"), 0);
#ifdef SYS_symlink
    CALL(symlink, IN(0) | IN(1), P("folder/renamed"), P("link"));
    CALL(readlink, IN(0) | OUT(1), P("link"), P(buffers[6]), 1024);
    CALL(unlink, IN(0), P("link"));
    CALL(unlink, IN(0), P("link"));
#else
    CALL(symlinkat, IN(0) | IN(2), P("folder/renamed"), AT_FDCWD, P("link"));
    CALL(readlinkat, IN(1) | OUT(2), AT_FDCWD, P("link"), P(buffers[6]), 1024);
    CALL(unlinkat, IN(1), AT_FDCWD, P("link"), 0);
    CALL(unlinkat, IN(1), AT_FDCWD, P("link"), 0);
#endif
    folder = CALL(openat, IN(1), AT_FDCWD, P("folder"), O_DIRECTORY | O_RDONLY, 0);
    CALL(openat, IN(1), folder, P("renamed"), O_RDONLY, 0);
    CALL(getdents64, OUT(1), folder, P(buffers[7]), 1024);
    CALL(unlinkat, IN(1), AT_FDCWD, P("folder"), AT_REMOVEDIR);
    /* A successful return that is negative: offsets of /proc/self/mem are addresses. */
    mem = CALL(openat, IN(1), AT_FDCWD, P("/proc/self/mem"), O_RDONLY, 0);
    CALL(lseek, 0, mem, WORD(0xffffffff81000000), SEEK_SET);
    CALL(pipe2, 0, P(pair), 0);
    CALL(write, IN(1), pair[1], P("through the pipe"), 16);
    CALL(read, OUT(1), pair[0], P(buffers[2] + 512), 64);
    CALL(pipe2, 0, P(pair), -1UL);
#ifdef __mips__
    CALL(pipe, 0); /* no argument: the second descriptor comes back in v1 */
#elif defined(SYS_pipe)
    CALL(pipe, 0, P(pair));
#endif
}

/* Arguments of 64 bits, in a register or in two: both halves are different, and neither is 0. */
static void wide(void)
{
    static char buffers[3][64];
    const unsigned long long far = 0x123456789, length = 0x1000, cookie = 0xfedcba9876543210, mask = 0x800000010;
    long fd = CALL(openat, IN(1), AT_FDCWD, P("sparse"), O_CREAT | O_RDWR | O_TRUNC, 0600);

    WIDE(pwrite64, IN(1), VALUES(fd, P("far away"), 8, far), fd, P("far away"), 8, ODD(far));
    WIDE(pread64, OUT(1), VALUES(fd, P(buffers[0]), 8, far), fd, P(buffers[0]), 8, ODD(far));
    WIDE(pread64, OUT(1), VALUES(fd, P(buffers[1]), 5, far + 3), fd, P(buffers[1]), 5, ODD(far + 3));
    WIDE(pread64, 0, VALUES(fd, P(buffers[1]), 5, ~far), fd, P(buffers[1]), 5, ODD(~far)); /* EINVAL: negative */
    WIDE(pwrite64, IN(1), VALUES(-1UL, P("nobody"), 6, far), -1UL, P("nobody"), 6, ODD(far));
#if __SIZEOF_LONG__ == 8
    WIDE(ftruncate, 0, VALUES(fd, far + 1), fd, far + 1);
    WIDE(truncate, IN(0), VALUES(P("sparse"), far + 2), P("sparse"), far + 2);
    WIDE(truncate, IN(0), VALUES(P("missing"), far + 2), P("missing"), far + 2);
    WIDE(lseek, 0, VALUES(fd, far, SEEK_SET), fd, far, SEEK_SET);
#else
    unsigned long long where = 0;

    WIDE(ftruncate64, 0, VALUES(fd, far + 1), fd, ODD(far + 1));
    WIDE(truncate64, IN(0), VALUES(P("sparse"), far + 2), P("sparse"), ODD(far + 2));
    WIDE(truncate64, IN(0), VALUES(P("missing"), far + 2), P("missing"), ODD(far + 2));
    /* Not a pair: the high half is an argument, and comes first everywhere. */
    CALL(_llseek, 0, fd, far >> 32, (unsigned long)far, P(&where), SEEK_SET);
    CALL(_llseek, 0, fd, ~0UL, -2UL, P(&where), SEEK_SET);
    if (where != far)
        CALL_NR("the file is elsewhere", MARK);
#endif
#if defined(__arm__)
    WIDE(arm_fadvise64_64, 0, VALUES(fd, 3, far, length), fd, 3, EVEN(far), EVEN(length));
    WIDE(arm_fadvise64_64, 0, VALUES(-1UL, 3, far, far + 1), -1UL, 3, EVEN(far), EVEN(far + 1));
    WIDE(arm_sync_file_range, 0, VALUES(fd, 2, far, length), fd, 2, EVEN(far), EVEN(length));
    WIDE(arm_sync_file_range, 0, VALUES(-1UL, 2, far, far + 1), -1UL, 2, EVEN(far), EVEN(far + 1));
#else
#ifdef __i386__
    WIDE(fadvise64_64, 0, VALUES(fd, far, length, 3), fd, ODD(far), EVEN(length), 3);
    WIDE(fadvise64_64, 0, VALUES(-1UL, far, far + 1, 3), -1UL, ODD(far), EVEN(far + 1), 3);
    WIDE(fadvise64, 0, VALUES(fd, far, 7, 3), fd, ODD(far), 7, 3);
#else
    WIDE(fadvise64, 0, VALUES(fd, far, length, 3), fd, ODD(far), EVEN(length), 3);
    WIDE(fadvise64, 0, VALUES(-1UL, far, far + 1, 3), -1UL, ODD(far), EVEN(far + 1), 3);
#endif
    WIDE(sync_file_range, 0, VALUES(fd, far, length, 2), fd, ODD(far), EVEN(length), 2);
    WIDE(sync_file_range, 0, VALUES(-1UL, far, far + 1, 2), -1UL, ODD(far), EVEN(far + 1), 2);
#endif
    WIDE(fallocate, 0, VALUES(fd, 0, far, length), fd, 0, EVEN(far), EVEN(length));
    WIDE(fallocate, 0, VALUES(fd, 0, far, ~length), fd, 0, EVEN(far), EVEN(~length));
    WIDE(fallocate, 0, VALUES(-1UL, 1, far, far + 1), -1UL, 1, EVEN(far), EVEN(far + 1));
    WIDE(readahead, 0, VALUES(fd, far, 4096), fd, ODD(far), 4096);
    WIDE(readahead, 0, VALUES(-1UL, far, 4096), -1UL, ODD(far), 4096);
    WIDE(fanotify_mark, IN(4), VALUES(-1UL, 1, mask, AT_FDCWD, P("/tmp")), -1UL, 1, EVEN(mask), AT_FDCWD, P("/tmp"));
    WIDE(lookup_dcookie, 0, VALUES(cookie, P(buffers[2]), 64), EVEN(cookie), P(buffers[2]), 64);
    CALL(close, 0, fd);
}

static void memory(void)
{
    static char random[16];
#ifdef SYS_mmap2
#define MAP(...) CALL(mmap2, 0, __VA_ARGS__)
#else
#define MAP(...) CALL(mmap, 0, __VA_ARGS__)
#endif
#ifdef __mips__
#define HIGH 0x70000000 /* the upper half of what there is belongs to the kernel */
#else
#define HIGH 0xb0000000
#endif
    unsigned long at = MAP(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1UL, 0);

    CALL(mprotect, 0, at, PAGE, PROT_READ);
    CALL(mprotect, 0, at + 1, PAGE, PROT_READ);
    CALL(munmap, 0, at, 2 * PAGE);
    MAP(HIGH, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1UL, 0); /* negative in 32 bits */
    CALL(munmap, 0, HIGH, PAGE);
    MAP(0, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1UL, 0);
    MAP(0, PAGE, PROT_READ, MAP_PRIVATE, -1UL, 0);
    MAP(0, 1UL << (BITS - 2) | TOP, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1UL, 0);
    CALL(brk, 0, 0);
    CALL(getrandom, OUT(0), P(random), sizeof random, 0);
    CALL(getrandom, 0, P(random), sizeof random, -1UL);
}

static void others(void)
{
    static const struct sockaddr_un nobody = {AF_UNIX, "/tmp/nobody.sock"};
    static const struct timespec moment = {0, 1000000};
    long fd;

    CALL(getpid, 0);
    CALL(getppid, 0);
    CALL(gettid, 0);
    CALL(getuid, 0);
    CALL(prctl, IN(1), PR_SET_NAME, P("calls-renamed"), 0, 0, 0);
    CALL(prctl, 0, -1UL, 0, 0, 0, 0);
#ifdef __x86_64__
    CALL(arch_prctl, 0, 0xdead, 0);
#elif defined(__arm__)
    CALL_NR("get_tls", 0xf0006); /* __ARM_NR_get_tls: the kernel gives what the C library once set */
#elif defined(__mips__)
    CALL(sysmips, 0, 0xdead, 0, 0);
#endif
    CALL(nanosleep, 0, P(&moment), 0);
    fd = CALL(socket, 0, AF_UNIX, SOCK_STREAM, 0);
    CALL(connect, 0, fd, P(&nobody), sizeof nobody);
    CALL(socket, 0, 0xffff, SOCK_STREAM, 0);
    CALL(close, 0, fd);
}

/* ---- pointers ---- */

static char deep[4001], longer[5001], component[300];
static char *at_edge, *over_edge, *across, *lazy;

/* Run before the series: may use the C library. */
static int set_traps(void)
{
    static const char name[] = "/tmp/at-the-edge", page[] = "/tmp/lazy-page";
    char *pages = mmap(NULL, 6 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = open("/tmp/page", O_CREAT | O_RDWR, 0600);

    if (pages == MAP_FAILED || fd < 0 || pwrite(fd, page, sizeof page, 3 * PAGE) != sizeof page)
        return -1;
    at_edge = memcpy(pages + PAGE - sizeof name, name, sizeof name);
    mprotect(pages + PAGE, PAGE, PROT_NONE); /* not munmap: the next mmap would fill the hole */
    over_edge = memset(pages + 3 * PAGE - 20, 'x', 20);
    mprotect(pages + 3 * PAGE, PAGE, PROT_NONE);
    across = memcpy(pages + 5 * PAGE - 5, "/tmp/across-two-pages", 22);
    /* Nobody has touched this page when the kernel is first asked to read it: no page table maps it yet. */
    lazy = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 3 * PAGE); /* six arguments, by the C library's own way */
    for (size_t i = 0; i < sizeof longer - 1; i++)
        longer[i] = i % 10 ? 'd' : '/';
    memcpy(deep, longer, sizeof deep - 1);
    memset(component, 'c', sizeof component - 1);
    return lazy == MAP_FAILED ? -1 : 0;
}

static void pointers(void)
{
    const char *good[] = {
        "/tmp/\xff\xfe",  "/tmp/new\nline \x01\x7f \"quote\\", "/tmp/caf\xc3\xa9 \xe2\x98\x83", "", deep, longer,
        component,        at_edge,                             across,                         lazy,
    };
    const unsigned long bad[] = {
        0, 0xdead0000, P(over_edge), TOP, WORD(0xffffffff81000000) /* kernel text, when not moved */, ~0UL,
    };

    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CALL(openat, IN(1), AT_FDCWD, P(good[i]), O_RDONLY, 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CALL(openat, 0, AT_FDCWD, bad[i], O_RDONLY, 0);
    CALL(renameat, IN(3), AT_FDCWD, 0, AT_FDCWD, P("/tmp/to"));
}

static void unknown(void)
{
    CALL_NR(NULL, 9999, TOP, ~0UL, TOP + 1, ~0UL - 4094, 0, WORD(0x8000000080000000));
#ifndef __arm__ /* there, a signal */
    CALL_NR(NULL, -1L, 0, 0, 0, 0, 0, 0);
#endif
#ifdef __x86_64__
    CALL_NR(NULL, 0x40000000L | SYS_getpid, 0, 0, 0, 0, 0, 0); /* the x32 ABI, which Debian turns off */
    CALL_NR("getpid", (1L << 32) | SYS_getpid);
#endif
}

static void failing_execs(char **argv, char **envp)
{
    CALL(execve, IN(0) | LIST(1) | LIST(2), P("/no/such/program"), P(argv), P(envp));
    CALL(execve, IN(0) | LIST(1) | LIST(2), P("/etc/passwd"), P(argv), P(envp));
    CALL(execve, IN(0), P("/no/such/program"), 0, 0);
    CALL(execve, IN(0), P("/no/such/program"), 0xdead0000, 0);
    CALL(execveat, IN(1) | LIST(2) | LIST(3), AT_FDCWD, P("no/such/program"), P(argv), P(envp), 0);
}

/* ---- lines ---- */

static void print_hex(const char *bytes, size_t size)
{
    putchar('"');
    for (size_t i = 0; i < size; i++)
        printf("%02x", (unsigned char)bytes[i]);
    putchar('"');
}

static void print_list(char *const *list)
{
    putchar('[');
    for (int i = 0; list[i]; i++) {
        printf(i ? ", " : "");
        print_hex(list[i], strlen(list[i]));
    }
    putchar(']');
}

/* The object of those arguments that `mark` picks. */
static void print_marked(const char *key, const struct record *r, unsigned mark)
{
    const char *comma = "";

    printf(", \"%s\": {", key);
    for (int i = 0; i < r->args_count; i++) {
        const char *at = (const char *)(unsigned long)r->args[i];

        if (!(r->marks & mark << i))
            continue;
        printf("%s\"%d\": ", comma, i);
        comma = ", ";
        if (mark == LIST(0))
            print_list((char *const *)at);
        else if (mark == IN(0))
            print_hex(at, strlen(at));
        else
            print_hex(at, MAX(0, MIN(r->ret, 64)));
    }
    putchar('}');
}

static void print_record(int index, const struct record *r)
{
    printf("{\"index\": %d, \"name\": ", index);
    printf(r->name ? "\"%s\"" : "null", r->name);
    printf(", \"nr\": %d, \"words\": [", (int)r->nr);
    for (int i = 0; i < r->count; i++)
        printf("%s\"0x%lx\"", i ? ", " : "", r->words[i]);
    printf("], \"args\": [");
    for (int i = 0; i < r->args_count; i++)
        printf("%s\"0x%llx\"", i ? ", " : "", r->args[i]);
    putchar(']');
    print_marked("strings", r, IN(0));
    print_marked("lists", r, LIST(0));
    print_marked("out", r, OUT(0));
    printf(r->returned ? ", \"ret\": %ld" : ", \"ret\": null", r->ret);
    printf(r->returned && r->ret < 0 && r->ret >= -4095 ? ", \"errno\": \"%s\"" : ", \"errno\": null",
           strerrorname_np(-r->ret));
    printf(", \"pid\": %d, \"tid\": %d}\n", r->task->pid, r->task->tid);
}

int main(int argc, char **argv)
{
    static char *envp[] = {"LAB=calls", "EMPTY=", "BYTES=\xff\xfe", NULL};
    static char words[LONG_ARGV][24], *long_argv[LONG_ARGV + 1];

    if (argc == LONG_ARGV && strcmp(argv[0], "word-0") == 0)
        raw(SYS_exit_group, ARGS(argc));
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || set_traps() != 0) {
        perror("calls");
        return 1;
    }
    for (int i = 0; i < LONG_ARGV; i++) {
        snprintf(words[i], sizeof words[i], i % 7 == 3 ? "" : "word-%d", i);
        long_argv[i] = words[i];
    }
    shared->main = (struct task){getpid(), getpid()};

    raw(MARK, ARGS(BEGIN));
    others();
    files();
    wide();
    memory();
    pointers();
    unknown();
    failing_execs((char *[]){"a", "two words", "\xff\xfe", "", NULL}, envp);
    fork_and_wait();
    vfork_and_exec(long_argv, envp);
    start_thread();
    signals();
    raw(MARK, ARGS(END));

    for (unsigned i = 0; i < shared->next; i++)
        print_record(i, &shared->records[i]);
    return 0;
}
