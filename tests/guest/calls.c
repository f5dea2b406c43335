/*
 * A known series of x86_64 system calls, and afterwards what they were: ground truth for a tracer.
 *
 * Every call of the series is a `syscall` instruction of our own, so that no C library hides one in between. What went
 * in and came out is kept in memory and printed when the series is over, one JSON line per call, in the order in which
 * they began:
 *
 *   {"index": 7, "name": "openat", "nr": 257, "args": ["0xffffff9c", "0x4a1000"...], "strings": {"1": "2f65..."},
 *    "lists": {}, "out": {}, "ret": -2, "errno": "ENOENT", "pid": 80, "tid": 80}
 *
 *   name     the kernel's; null where no such system call exists
 *   nr       as the kernel takes it: the low 32 bits of rax, signed
 *   args     the registers, as many as the call takes
 *   strings  NUL-terminated strings that go in, by argument, as hex bytes; absent when the kernel cannot read them
 *   lists    argv and envp, by argument, as lists of hex strings
 *   out      the first `ret` bytes, 64 at most, that the call wrote, by argument
 *   ret      null when the call does not come back (exit, exit_group, rt_sigreturn)
 *
 * In the stream of calls the series lies between two that do not exist: nr 9998 with the arguments of BEGIN and of END
 * below. They are not among the lines. What a child does before its first line or after its execve is not either: the
 * program started by vfork and execve is this one again, whose C library starts up before main.
 *
 * Two lines need a word. `pause` is cut short by a signal: the user sees -4 (EINTR), but at the kernel's common exit
 * path the register still holds -514 (ERESTARTNOHAND), which signal delivery turns into -4. The last
 * call of unknown() puts getpid's number into rax with bit 32 set: Linux 6.1 looks at the low half alone.
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
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
#define BEGIN 0x5359535245454cUL, 0xbe617, ~0UL, 1UL << 63, 0x0123456789abcdefUL, 6
#define END 0x5359535245454cUL, 0xe17d, ~0UL, 1UL << 63, 0xfedcba9876543210UL, 6

struct task {
    int pid, tid; /* filled in when known; lines are printed afterwards */
};

struct record {
    const char *name;
    const struct task *task;
    long nr, ret;
    unsigned long args[6];
    unsigned marks; /* IN, LIST and OUT bits */
    int count, returned;
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
#define ARGS(...) ((unsigned long[6]){__VA_ARGS__})
#define COUNT(...) ((int)(sizeof((unsigned long[]){0, ##__VA_ARGS__}) / sizeof(long)) - 1)
#define CALL_AS(task, name, marks, ...) \
    call(claim(task, #name, SYS_##name, marks, COUNT(__VA_ARGS__), ARGS(__VA_ARGS__)))
#define CALL(name, marks, ...) CALL_AS(&shared->main, name, marks, ##__VA_ARGS__)
#define CALL_NR(name, nr, ...) call(claim(&shared->main, name, nr, 0, COUNT(__VA_ARGS__), ARGS(__VA_ARGS__)))

static long raw(long nr, const unsigned long *a)
{
    register unsigned long r10 asm("r10") = a[3], r8 asm("r8") = a[4], r9 asm("r9") = a[5];
    long ret;

    asm volatile("syscall"
                 : "=a"(ret)
                 : "a"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                 : "rcx", "r11", "memory");
    return ret;
}

static struct record *claim(const struct task *task, const char *name, long nr, unsigned marks, int count,
                            const unsigned long *args)
{
    struct record *record = &shared->records[__atomic_fetch_add(&shared->next, 1, __ATOMIC_SEQ_CST)];

    *record = (struct record){.name = name, .task = task, .nr = nr, .marks = marks, .count = count};
    for (int i = 0; i < 6; i++)
        record->args[i] = args[i];
    return record;
}

static void returned(struct record *record, long ret)
{
    record->ret = ret;
    record->returned = 1;
}

static long call(struct record *record)
{
    long ret = raw(record->nr, record->args);

    returned(record, ret);
    return ret;
}

/* ---- tasks ---- */

static void fork_and_wait(void)
{
    struct record *record = claim(&shared->main, "fork", SYS_fork, 0, 0, ARGS(0));
    int status;
    long pid = raw(SYS_fork, ARGS(0));

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
    struct record *record = claim(&shared->main, "vfork", SYS_vfork, 0, 0, ARGS(0));
    struct record *exec = claim(&shared->vfork, "execve", SYS_execve, IN(0) | LIST(1) | LIST(2), 3,
                                ARGS(P("/proc/self/exe"), P(argv), P(envp)));
    int status;
    long pid;

    /* The child runs on our stack and must not touch it: vfork leaves the registers that execve wants alone. */
    asm volatile("syscall\n\t"
                 "test %%rax, %%rax\n\t"
                 "jnz 1f\n\t"
                 "mov %[execve], %%eax\n\t"
                 "syscall\n\t"
                 "mov $127, %%edi\n\t"
                 "mov %[exit_group], %%eax\n\t"
                 "syscall\n"
                 "1:"
                 : "=a"(pid)
                 : "a"(SYS_vfork), "D"(exec->args[0]), "S"(argv), "d"(envp), [execve] "i"(SYS_execve),
                   [exit_group] "i"(SYS_exit_group)
                 : "rcx", "r11", "memory");
    shared->vfork = (struct task){pid, pid};
    returned(record, pid);
    returned(exec, 0);
    claim(&shared->vfork, "exit_group", SYS_exit_group, 0, 1, ARGS(LONG_ARGV));
    CALL(wait4, 0, pid, P(&status), 0, 0);
}

static void thread_body(void)
{
    const struct task *me = &shared->thread;

    CALL_AS(me, mkdir, IN(0), P("/missing/by-thread"), 0700);
    CALL_AS(me, getpid, 0);
    CALL_AS(me, exit, 0, 0);
}

static void start_thread(void)
{
    static char stack[4 * PAGE] __attribute__((aligned(16)));
    static int alive; /* the kernel stores the thread's id here, and 0 when it has ended */
    unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                          CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    struct record *record = claim(&shared->main, "clone", SYS_clone, 0, 5,
                                  ARGS(flags, P(stack + sizeof stack), P(&alive), P(&alive), 0));
    register unsigned long r10 asm("r10") = P(&alive), r8 asm("r8") = 0, r9 asm("r9") = P(thread_body);
    long tid;

    asm volatile("syscall\n\t"
                 "test %%rax, %%rax\n\t"
                 "jnz 1f\n\t"
                 "xor %%ebp, %%ebp\n\t"
                 "call *%%r9\n" /* on the stack of its own; does not return */
                 "1:"
                 : "=a"(tid)
                 : "a"(SYS_clone), "D"(flags), "S"(stack + sizeof stack), "d"(&alive), "r"(r10), "r"(r8), "r"(r9)
                 : "rcx", "r11", "memory");
    shared->thread = (struct task){shared->main.pid, tid};
    returned(record, tid);
    for (int seen; (seen = __atomic_load_n(&alive, __ATOMIC_SEQ_CST)) != 0;)
        CALL(futex, 0, P(&alive), FUTEX_WAIT, seen, 0, 0, 0);
}

static void on_signal(int number)
{
    (void)number;
    /* Returning from here is a system call that the restorer below makes. */
    claim(&shared->main, "rt_sigreturn", SYS_rt_sigreturn, 0, 0, ARGS(0));
}

asm("restorer:\n\tmov $15, %eax\n\tsyscall\n"); /* 15: rt_sigreturn */
void restorer(void);

static void signals(void)
{
    /* The kernel's struct sigaction, not the C library's. */
    struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        unsigned long mask;
    } action = {on_signal, 0x04000000 /* SA_RESTORER */, restorer, 0};
    struct itimerval soon = {{0, 50000}, {0, 50000}}, never = {{0, 0}, {0, 0}};

    CALL(rt_sigaction, 0, SIGUSR1, P(&action), 0, 8);
    CALL(rt_sigaction, 0, SIGALRM, P(&action), 0, 8);
    CALL(kill, 0, shared->main.pid, SIGUSR1);
    /* Again and again, so that a signal before pause does not leave us there. */
    CALL(setitimer, 0, ITIMER_REAL, P(&soon), 0);
    CALL(pause, 0);
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

    fd = CALL(open, IN(0), P("/etc/passwd"), O_RDONLY, 0);
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
    CALL(pread64, OUT(1), fd, P(buffers[3]), 5, 7);
    CALL(pwrite64, IN(1), fd, P("HELLO"), 5, 0);
    CALL(lseek, 0, fd, -1UL, SEEK_SET);
    CALL(lseek, 0, fd, ~0UL >> 1, SEEK_SET); /* returns 2^63 - 1 */
    CALL(fcntl, 0, fd, F_GETFL, 0);
    CALL(fcntl, 0, fd, F_DUPFD, 40);
    CALL(ioctl, 0, fd, 0x5401 /* TCGETS */, P(buffers[4]));
    CALL(dup, 0, fd);
    CALL(dup2, 0, fd, 50);
    CALL(dup3, 0, fd, 51, O_CLOEXEC);
    CALL(dup3, 0, fd, fd, 0);
    CALL(close, 0, 50);
    CALL(newfstatat, IN(1), AT_FDCWD, P("/no/such/file"), P(buffers[4]), 0);
    CALL(stat, IN(0), P("/no/such/file"), P(buffers[4]));
    CALL(mkdir, IN(0), P("folder"), 0755);
    CALL(mkdir, IN(0), P("folder"), 0755);
    CALL(chdir, IN(0), P("folder"));
    CALL(getcwd, OUT(0), P(buffers[5]), 1024);
    CALL(chdir, IN(0), P(".."));
    CALL(rename, IN(0) | IN(1), P("file"), P("folder/renamed"));
    CALL(rename, IN(0) | IN(1), P("file"), P("folder/renamed"));
    CALL(symlink, IN(0) | IN(1), P("folder/renamed"), P("link"));
    CALL(readlink, IN(0) | OUT(1), P("link"), P(buffers[6]), 1024);
    CALL(unlink, IN(0), P("link"));
    CALL(unlink, IN(0), P("link"));
    folder = CALL(openat, IN(1), AT_FDCWD, P("folder"), O_DIRECTORY | O_RDONLY, 0);
    CALL(openat, IN(1), folder, P("renamed"), O_RDONLY, 0);
    CALL(getdents64, OUT(1), folder, P(buffers[7]), 1024);
    CALL(rmdir, IN(0), P("folder"));
    /* A successful return that is negative: offsets of /proc/self/mem are addresses. */
    mem = CALL(openat, IN(1), AT_FDCWD, P("/proc/self/mem"), O_RDONLY, 0);
    CALL(lseek, 0, mem, 0xffffffff81000000UL, SEEK_SET);
    CALL(pipe, 0, P(pair));
    CALL(write, IN(1), pair[1], P("through the pipe"), 16);
    CALL(read, OUT(1), pair[0], P(buffers[2] + 512), 64);
    CALL(pipe2, 0, P(pair), -1UL);
}

static void memory(void)
{
    static char random[16];
    unsigned long at = CALL(mmap, 0, 0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1UL, 0);

    CALL(mprotect, 0, at, PAGE, PROT_READ);
    CALL(mprotect, 0, at + 1, PAGE, PROT_READ);
    CALL(munmap, 0, at, 2 * PAGE);
    CALL(mmap, 0, 0, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1UL, 0);
    CALL(mmap, 0, 0, PAGE, PROT_READ, MAP_PRIVATE, -1UL, 0);
    CALL(mmap, 0, 0, 1UL << 62, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1UL, 0);
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
    CALL(arch_prctl, 0, 0xdead, 0);
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

    if (pages == MAP_FAILED || fd < 0 || write(fd, page, sizeof page) != sizeof page)
        return -1;
    at_edge = memcpy(pages + PAGE - sizeof name, name, sizeof name);
    mprotect(pages + PAGE, PAGE, PROT_NONE); /* not munmap: the next mmap would fill the hole */
    over_edge = memset(pages + 3 * PAGE - 20, 'x', 20);
    mprotect(pages + 3 * PAGE, PAGE, PROT_NONE);
    across = memcpy(pages + 5 * PAGE - 5, "/tmp/across-two-pages", 22);
    /* Nobody has touched this page when the kernel is first asked to read it: no page table maps it yet. */
    lazy = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
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
        0, 0xdead0000, P(over_edge), 1UL << 63, 0xffffffff81000000UL /* kernel text, when not moved */, ~0UL,
    };

    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CALL(openat, IN(1), AT_FDCWD, P(good[i]), O_RDONLY, 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CALL(openat, 0, AT_FDCWD, bad[i], O_RDONLY, 0);
    CALL(rename, IN(1), 0, P("/tmp/to"));
}

static void unknown(void)
{
    CALL_NR(NULL, 9999, 1UL << 63, ~0UL, (1UL << 63) + 1, ~0UL - 4094, 0, 0x8000000080000000UL);
    CALL_NR(NULL, -1L, 0, 0, 0, 0, 0, 0);
    CALL_NR(NULL, 0x40000000L | SYS_getpid, 0, 0, 0, 0, 0, 0); /* the x32 ABI, which Debian turns off */
    CALL_NR("getpid", (1L << 32) | SYS_getpid);
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
    for (int i = 0; i < r->count; i++) {
        const char *at = (const char *)r->args[i];

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
    printf(", \"nr\": %d, \"args\": [", (int)r->nr);
    for (int i = 0; i < r->count; i++)
        printf("%s\"0x%lx\"", i ? ", " : "", r->args[i]);
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
