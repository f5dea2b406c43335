/*
 * A known series of a 32-bit program's system calls (i386 or arm EABI), and afterwards what they were: ground truth for
 * a tracer of a 64-bit kernel. Its lines are those of calls.c, with two keys more and one other sense:
 *
 *   {"index": 3, "gate": "int80", "name": "pread64", "nr": 180, "args": ["0x3", "0x80e5b80", "0x5", "0x123456789"],
 *    "words": ["0x3", "0x80e5b80", "0x5", "0x23456789", "0x1"], "strings": {}, "out": {"1": "68656c6c6f"}, "ret": 5,
 *    "errno": null, "pid": 80, "tid": 80}
 *
 *   gate   how the kernel was entered: "int80" and "vdso" (what the kernel's vDSO does: sysenter or syscall) on i386,
 *          "arm" and "thumb" on arm
 *   args   the call's own arguments: a 64-bit one is one, the arguments of socketcall are those in memory
 *   words  the registers, as many as the call takes
 *
 * `args` is absent where it is the same as `words`. The series lies between two calls that do not exist: nr 9998 with
 * the words of BEGIN and of END below, of which each gate makes one.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/param.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MARK = 9998, PAGE = 4096, MOST = 128 };
#define BEGIN 0x5359534c, 0xbe617, ~0U, 1U << 31, 0x89abcdef, 6
#define END 0x5359534c, 0xe17d, ~0U, 1U << 31, 0xfedcba98, 6

struct record {
    const char *gate, *name;
    const int *pid; /* filled in when known */
    long nr, ret;
    int count, own, returned;
    uint32_t words[6];
    unsigned marks; /* IN, LIST and OUT bits, by position in args */
    uint64_t args[6];
};

static struct shared {
    unsigned next;
    int main, children[2];
    struct record records[MOST];
} *shared;
static const int *me;

#define IN(i) (1u << (i))
#define LIST(i) (1u << ((i) + 8))
#define OUT(i) (1u << ((i) + 16))
#define P(pointer) ((uint32_t)(uintptr_t)(pointer))
#define COUNT(...) ((int)(sizeof((uint64_t[]){0, ##__VA_ARGS__}) / 8) - 1)
#define WORDS(...) ((uint32_t[6]){__VA_ARGS__})
#define ARGS(...) COUNT(__VA_ARGS__), ((uint64_t[6]){__VA_ARGS__})
#define LOW(value) ((uint32_t)(value))
#define HIGH(value) ((uint32_t)((uint64_t)(value) >> 32))
/* Arguments that are the words themselves. */
#define CALL(name, marks, ...) \
    call(claim(#name, SYS_##name, marks, COUNT(__VA_ARGS__), WORDS(__VA_ARGS__), 0, (uint64_t[6]){0}))
/* Words first, in parentheses; then the arguments that they stand for. */
#define AS(name, marks, words, ...) \
    call(claim(#name, SYS_##name, marks, COUNT words, WORDS words, ARGS(__VA_ARGS__)))

/* ---- gates ---- */

typedef long gate(long nr, const uint32_t *words);
gate gate_1, gate_2;
uint32_t vsyscall; /* the vDSO's entry, as the kernel told us (AT_SYSINFO) */

#ifdef __i386__
static const char *const gates[] = {"int80", "vdso"};
#define GATE(name, enter)                                         \
    asm(".globl " name "\n" name ":\n\t"                          \
        "push %ebx\n\tpush %esi\n\tpush %edi\n\tpush %ebp\n\t"    \
        "mov 20(%esp), %eax\n\tmov 24(%esp), %ebp\n\t"            \
        "mov (%ebp), %ebx\n\tmov 4(%ebp), %ecx\n\t"               \
        "mov 8(%ebp), %edx\n\tmov 12(%ebp), %esi\n\t"             \
        "mov 16(%ebp), %edi\n\tmov 20(%ebp), %ebp\n\t" enter "\n" \
        "\tpop %ebp\n\tpop %edi\n\tpop %esi\n\tpop %ebx\n\tret\n")
GATE("gate_1", "int $0x80");
GATE("gate_2", "call *vsyscall");
#else
static const char *const gates[] = {"arm", "thumb"};
#define GATE(name, set)                                                            \
    asm(".pushsection .text\n\t" set "\n\t.globl " name "\n\t.type " name ", %function\n" name ":\n\t" \
        "push {r4-r7, lr}\n\tmov r7, r0\n\tmov r12, r1\n\tldm r12, {r0-r5}\n\t"    \
        "svc 0\n\tpop {r4-r7, pc}\n\t.popsection\n")
GATE("gate_1", ".balign 4\n\t.arm");
GATE("gate_2", ".balign 4\n\t.thumb\n\t.thumb_func");
#endif

static gate *enter;
static const char *entered;

static void use(int index)
{
    enter = index ? gate_2 : gate_1;
    entered = gates[index];
}

static struct record *claim(const char *name, long nr, unsigned marks, int count, const uint32_t *words, int own,
                            const uint64_t *args)
{
    struct record *r = &shared->records[__atomic_fetch_add(&shared->next, 1, __ATOMIC_SEQ_CST)];

    *r = (struct record){entered, name, me, nr, .marks = marks, .count = count, .own = own};
    memcpy(r->words, words, sizeof r->words);
    memcpy(r->args, args, sizeof r->args);
    return r;
}

static long returned(struct record *r, long ret)
{
    r->ret = ret;
    r->returned = 1;
    return ret;
}

static long call(struct record *r)
{
    return returned(r, enter(r->nr, r->words));
}

/* ---- the series ---- */

#ifdef __i386__
#define PAIR(value) LOW(value), HIGH(value)
#define HOLE
#else
#define PAIR(value) LOW(value), HIGH(value) /* an even register and the next, in the order of memory */
#define HOLE 0xdeadbeef, /* the odd register before such a pair: the kernel does not look at it */
#endif

static void files(void)
{
    static char buffer[3][64];
    static uint64_t far;
    const uint64_t at = 0x123456789, end = 0x280000010;
    long fd;

    CALL(open, IN(0), P("/no/such/file"), O_RDONLY, 0);
    CALL(openat, IN(1), AT_FDCWD, P("/no/such/file"), O_RDONLY, 0);
    fd = CALL(open, IN(0), P("/etc/passwd"), O_RDONLY, 0);
    CALL(read, OUT(1), fd, P(buffer[0]), 32);
    CALL(close, 0, fd);
    CALL(close, 0, -1);
    fd = CALL(openat, IN(1), AT_FDCWD, P("big file"), O_CREAT | O_RDWR | O_TRUNC | O_LARGEFILE, 0640);
    CALL(write, IN(1), fd, P("hello from 32 bits\n"), 19);
    AS(pwrite64, IN(1), (fd, P("far away"), 8, HOLE PAIR(at)), fd, P("far away"), 8, at);
    AS(pread64, OUT(1), (fd, P(buffer[1]), 8, HOLE PAIR(at)), fd, P(buffer[1]), 8, at);
    AS(pread64, OUT(1), (fd, P(buffer[1]), 8, HOLE PAIR(-1LL)), fd, P(buffer[1]), 8, -1ULL);
    AS(ftruncate64, 0, (fd, HOLE PAIR(end)), fd, end);
    AS(truncate64, IN(0), (P("big file"), HOLE PAIR(at)), P("big file"), at);
    AS(fallocate, 0, (fd, 1, PAIR(at), PAIR(5)), fd, 1, at, 5);
    AS(readahead, 0, (fd, HOLE PAIR(at), 4096), fd, at, 4096);
#ifdef __i386__
    AS(fadvise64_64, 0, (fd, PAIR(at), PAIR(end), 2), fd, at, end, 2);
    AS(sync_file_range, 0, (fd, PAIR(at), PAIR(end), 2), fd, at, end, 2);
#else
    AS(arm_fadvise64_64, 0, (fd, 2, PAIR(at), PAIR(end)), fd, 2, at, end);
    AS(arm_sync_file_range, 0, (fd, 2, PAIR(at), PAIR(end)), fd, 2, at, end);
#endif
    CALL(_llseek, 0, fd, HIGH(end), LOW(end), P(&far), SEEK_SET);
    CALL(lseek, 0, fd, 0, SEEK_CUR); /* a 64-bit kernel gives the low half of the offset, a 32-bit one EOVERFLOW */
    CALL(lseek, 0, fd, 0x7ffffff0, SEEK_SET);
    CALL(close, 0, fd);
    CALL(unlink, IN(0), P("big file"));
}

static void memory(void)
{
    uint32_t at = CALL(mmap2, 0, 0, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); /* above 2 GiB */

    CALL(munmap, 0, at, 2 * PAGE);
    CALL(mmap2, 0, 0xc0000000, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0x89abcdef);
    CALL(munmap, 0, 0xc0000000, PAGE);
    CALL(mmap2, 0, 0, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CALL(brk, 0, 0);
}

static void others(void)
{
    static const struct sockaddr_un nobody = {AF_UNIX, "/tmp/nobody.sock"};
    long fd;

    CALL(getpid, 0);
    CALL(getppid, 0);
    CALL(getuid32, 0);
#ifdef __i386__
    static uint32_t make[3] = {AF_UNIX, SOCK_STREAM, 0}, to[3], map[6] = {0, PAGE, PROT_READ, 0x22, -1, 0};

    fd = AS(socketcall, 0, (1, P(make)), AF_UNIX, SOCK_STREAM, 0);
    memcpy(to, (uint32_t[3]){fd, P(&nobody), sizeof nobody}, sizeof to);
    AS(socketcall, 0, (3, P(to)), fd, P(&nobody), sizeof nobody);
    CALL(socketcall, 0, 99, P(to)); /* EINVAL: no such thing */
    AS(mmap, 0, (P(map)), 0, PAGE, PROT_READ, 0x22, 0xffffffff, 0);
#else
    fd = CALL(socket, 0, AF_UNIX, SOCK_STREAM, 0);
    CALL(connect, 0, fd, P(&nobody), sizeof nobody);
    call(claim("cacheflush", 0xf0002, 0, 3, WORDS(P(others) & -PAGE, (P(others) & -PAGE) + PAGE, 0), 0,
               (uint64_t[6]){0}));
#endif
    CALL(close, 0, fd);
    call(claim(NULL, 9999, 0, 6, WORDS(1U << 31, ~0U, (1U << 31) + 1, ~0U - 4094, 0, 0x80008000), 0,
               (uint64_t[6]){0}));
    CALL(execve, IN(0), P("/no/such/program"), 0, 0);
}

/* A child that becomes a 64-bit program. */
static void fork_and_exec(int *child)
{
    /* On the stack, whose pages the child has from the start: those of the file would not be mapped yet. */
    char path[] = "/bin/busybox", name[] = "busybox", applet[] = "true", variable[] = "FROM=compat";
    char *argv[] = {name, applet, NULL}, *envp[] = {variable, NULL};
    struct record *r = claim("fork", SYS_fork, 0, 0, WORDS(0), 0, (uint64_t[6]){0});
    int status;
    long pid = enter(SYS_fork, r->words);

    if (pid == 0) {
        me = child;
        r = claim("execve", SYS_execve, IN(0) | LIST(1) | LIST(2), 3,
                  WORDS(P(path), P(argv), P(envp)), 0, (uint64_t[6]){0});
        returned(r, 0);
        enter(r->nr, r->words);
        _exit(127);
    }
    *child = pid;
    returned(r, pid);
    CALL(wait4, 0, pid, P(&status), 0, 0);
    CALL(wait4, 0, pid, P(&status), 0, 0);
}

/* ---- lines ---- */

static void print_hex(const char *bytes, size_t size)
{
    putchar('"');
    for (size_t i = 0; i < size; i++)
        printf("%02x", (unsigned char)bytes[i]);
    putchar('"');
}

static uint64_t argument(const struct record *r, int i)
{
    return r->own ? r->args[i] : r->words[i];
}

static void print_marked(const char *key, const struct record *r, unsigned mark)
{
    const char *comma = "";

    printf(", \"%s\": {", key);
    for (int i = 0; i < 6; i++) {
        const char *at = (const char *)(uintptr_t)argument(r, i);

        if (!(r->marks & mark << i))
            continue;
        printf("%s\"%d\": ", comma, i);
        comma = ", ";
        if (mark == LIST(0)) {
            putchar('[');
            for (char *const *item = (char *const *)at; *item; item++) {
                printf(item == (char *const *)at ? "" : ", ");
                print_hex(*item, strlen(*item));
            }
            putchar(']');
        } else if (mark == IN(0)) {
            print_hex(at, strlen(at));
        } else {
            print_hex(at, MAX(0, MIN(r->ret, 64)));
        }
    }
    putchar('}');
}

static void print_record(int index, const struct record *r)
{
    printf("{\"index\": %d, \"gate\": \"%s\", \"name\": ", index, r->gate);
    printf(r->name ? "\"%s\"" : "null", r->name);
    printf(", \"nr\": %ld, \"words\": [", r->nr);
    for (int i = 0; i < r->count; i++)
        printf("%s\"0x%x\"", i ? ", " : "", r->words[i]);
    putchar(']');
    if (r->own) {
        printf(", \"args\": [");
        for (int i = 0; i < r->own; i++)
            printf("%s\"0x%llx\"", i ? ", " : "", (unsigned long long)r->args[i]);
        putchar(']');
    }
    print_marked("strings", r, IN(0));
    print_marked("lists", r, LIST(0));
    print_marked("out", r, OUT(0));
    printf(r->returned ? ", \"ret\": %ld" : ", \"ret\": null", r->ret);
    printf(r->returned && (unsigned long)r->ret >= -4095UL ? ", \"errno\": \"%s\"" : ", \"errno\": null",
           strerrorname_np(-r->ret));
    printf(", \"pid\": %d, \"tid\": %d}\n", *r->pid, *r->pid);
}

int main(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("compat");
        return 1;
    }
#ifdef __i386__
    vsyscall = getauxval(AT_SYSINFO);
#endif
    shared->main = getpid();
    me = &shared->main;
    use(0);
    enter(MARK, WORDS(BEGIN));
    for (int i = 0; i < 2; i++) {
        use(i);
        others();
        files();
        memory();
        fork_and_exec(&shared->children[i]);
    }
    enter(MARK, WORDS(END));
    for (unsigned i = 0; i < shared->next; i++)
        print_record(i, &shared->records[i]);
    return 0;
}
