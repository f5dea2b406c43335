/*
 * Makes descriptors in every way that a program can, and prints what /proc says they are: JSON lines on stdout.
 *
 * {"pid": N, "fd": N, "link": HEX, "cloexec": 0|1}   a call has made this descriptor
 * {"pid": N, "cwd": HEX}                             a call has changed the current folder
 * {"pid": N, "table": [[FD, HEX, CLOEXEC], ...], "cwd": HEX}   all that a new process, or an unshared table, has
 *
 * Lines are kept in shared memory until the end, so that making them makes no descriptor. What the kernel does not
 * have makes no line.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROOM (1 << 20)

/* What an architecture does not have fails like any number that does not exist. */
#ifndef SYS_open
#define SYS_open -1
#define SYS_creat -1
#define SYS_dup2 -1
#define SYS_pipe -1
#define SYS_eventfd -1
#define SYS_epoll_create -1
#endif

static struct {
    size_t used;
    char text[ROOM];
} *log;

static void say(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log->used += vsnprintf(log->text + log->used, ROOM - log->used, format, args);
    va_end(args);
}

/* What a link in /proc/self says, in hex; 0 if there is none. */
static int say_link(const char *name)
{
    char path[64], text[4096];
    long length;

    snprintf(path, sizeof path, "/proc/self/%s", name);
    length = readlink(path, text, sizeof text);
    for (long i = 0; i < length; i++)
        say("%02x", (unsigned char)text[i]);
    return length > 0;
}

static long made(long fd)
{
    char name[32];

    if (fd < 0)
        return fd;
    snprintf(name, sizeof name, "fd/%ld", fd);
    say("{\"pid\": %d, \"fd\": %ld, \"link\": \"", getpid(), fd);
    say_link(name);
    say("\", \"cloexec\": %d}\n", fcntl(fd, F_GETFD) & FD_CLOEXEC);
    return fd;
}

static void moved(long result)
{
    if (result)
        return;
    say("{\"pid\": %d, \"cwd\": \"", getpid());
    say_link("cwd");
    say("\"}\n");
}

static void whole_table(void)
{
    const char *comma = "";

    say("{\"pid\": %d, \"table\": [", getpid());
    for (int fd = 0; fd < 1200; fd++) {
        int flags = fcntl(fd, F_GETFD);
        char name[32];

        if (flags < 0)
            continue;
        snprintf(name, sizeof name, "fd/%d", fd);
        say("%s[%d, \"", comma, fd);
        say_link(name);
        say("\", %d]", flags & FD_CLOEXEC);
        comma = ", ";
    }
    say("], \"cwd\": \"");
    say_link("cwd");
    say("\"}\n");
}

static void paths(void)
{
    char long_name[300] = "/tmp/", deep[600] = "/tmp/deep";
    int fd, folder;

    made(open("/etc/passwd", O_RDONLY));
    made(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
    made(open("/", O_RDONLY | O_DIRECTORY));
    made(open("/bin/sh", O_PATH));
    made(open("/bin/sh", O_PATH | O_NOFOLLOW));
    made(syscall(SYS_creat, "/tmp/made", 0644));
    made(syscall(SYS_open, "/tmp/caf\303\251 \"\n\\ \001", O_CREAT | O_RDWR, 0644));
    memset(long_name + 5, 'n', 250);
    made(open(long_name, O_CREAT | O_RDWR, 0644));
    long_name[5 + 31] = 0;
    made(open(long_name, O_CREAT | O_RDWR, 0644));
    long_name[5 + 32] = 0;
    made(open(long_name, O_CREAT | O_RDWR, 0644));
    mkdir(deep, 0755);
    for (int i = 0; i < 40; i++) {
        strcat(deep, "/step");
        mkdir(deep, 0755);
    }
    folder = made(open(deep, O_RDONLY | O_DIRECTORY));
    made(openat(folder, "../file", O_CREAT | O_RDWR, 0644));
    mkdir("/tmp/mounted", 0755);
    mount("tmpfs", "/tmp/mounted", "tmpfs", 0, "");
    made(open("/tmp/mounted", O_RDONLY));
    made(open("/tmp/mounted/file", O_CREAT | O_RDWR, 0644));
    mkdir("/tmp/bound", 0755);
    mount("/tmp/deep/step", "/tmp/bound", NULL, MS_BIND, NULL);
    made(open("/tmp/bound/step", O_RDONLY));
    made(open("/proc/self/ns/net", O_RDONLY));
    made(open("/proc/self/status", O_RDONLY));
    made(open("/dev/null", O_RDWR));
    /* Gone when it is made again, from what is still open. */
    fd = open("/tmp/gone", O_CREAT | O_RDWR, 0644);
    unlink("/tmp/gone");
    dup(fd);
    made(syscall(SYS_dup3, fd, 100, 0));
    made(syscall(SYS_openat, AT_FDCWD, "/tmp", O_TMPFILE | O_RDWR, 0600));
    /* Its folder is renamed while it is open. */
    mkdir("/tmp/before", 0755);
    fd = open("/tmp/before/file", O_CREAT | O_RDWR, 0644);
    rename("/tmp/before", "/tmp/after");
    made(dup(fd));
    moved(chdir("/tmp/after"));
    made(open("file", O_RDONLY));
    moved(fchdir(folder));
    mkdir("/tmp/short", 0755);
    moved(chdir("/tmp/short"));
    rmdir("/tmp/short");
    moved(fchdir(folder));
    rmdir("/tmp/bound");
    moved(chdir("/tmp"));
}

static void other_kinds(void)
{
    struct perf_event_attr counted = {.type = PERF_TYPE_SOFTWARE, .size = sizeof counted, .disabled = 1};
    union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    char parameters[120] = {0}; /* struct io_uring_params */
    char queue[] = "queue";
    sigset_t none;
    int pair[2];
    long fd;

    made(syscall(SYS_dup, 0));
    made(syscall(SYS_dup2, 0, 200));
    made(syscall(SYS_dup3, 0, 201, O_CLOEXEC));
    made(fcntl(0, F_DUPFD, 300));
    made(fcntl(0, F_DUPFD_CLOEXEC, 300));
    made(fcntl(0, F_DUPFD, 1000)); /* the table grows */
    if (!syscall(SYS_pipe, pair)) {
        made(pair[0]);
        made(pair[1]);
    }
    if (!syscall(SYS_pipe2, pair, O_CLOEXEC)) {
        made(pair[0]);
        made(pair[1]);
    }
    if (!socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) {
        made(pair[0]);
        made(pair[1]);
    }
    made(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    made(syscall(SYS_eventfd, 1));
    made(syscall(SYS_eventfd2, 1, O_CLOEXEC));
    made(syscall(SYS_epoll_create, 1));
    made(syscall(SYS_epoll_create1, O_CLOEXEC));
    made(syscall(SYS_timerfd_create, CLOCK_MONOTONIC, 0));
    sigemptyset(&none);
    made(syscall(SYS_signalfd4, -1, &none, 8, O_CLOEXEC));
    made(syscall(SYS_inotify_init1, 0));
    made(syscall(SYS_memfd_create, "a name", 0));
    made(syscall(SYS_memfd_create, "", MFD_CLOEXEC));
    made(syscall(SYS_memfd_secret, 0));
    made(syscall(SYS_pidfd_open, getpid(), 0));
    made(syscall(SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */));
    made(syscall(SYS_fanotify_init, 0, O_RDONLY));
    made(syscall(SYS_perf_event_open, &counted, 0, -1, -1, 0));
    made(syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map));
    made(syscall(SYS_io_uring_setup, 2, parameters));
    made(syscall(SYS_landlock_create_ruleset, &(unsigned long[]){1}, 8, 0));
    fd = made(syscall(SYS_fsopen, "tmpfs", 0));
    if (fd >= 0) {
        syscall(SYS_fsconfig, fd, 6 /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0);
        made(syscall(SYS_fsmount, fd, 0, 0));
    }
    made(syscall(SYS_open_tree, AT_FDCWD, "/tmp", 1 /* OPEN_TREE_CLONE */));
    made(syscall(SYS_mq_open, queue, O_CREAT | O_RDWR, 0600, NULL));
}

static void sockets(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "/tmp/listening"};
    char control[CMSG_SPACE(2 * sizeof(int))] = {0}, byte = 'x';
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    int fds[2], pair[2], listening = made(socket(AF_UNIX, SOCK_STREAM, 0)), client;

    bind(listening, (struct sockaddr *)&name, sizeof name);
    listen(listening, 5);
    client = made(socket(AF_UNIX, SOCK_STREAM, 0));
    connect(client, (struct sockaddr *)&name, sizeof name);
    made(syscall(SYS_accept, listening, NULL, NULL));
    client = made(socket(AF_UNIX, SOCK_STREAM, 0));
    connect(client, (struct sockaddr *)&name, sizeof name);
    made(syscall(SYS_accept4, listening, NULL, NULL, SOCK_CLOEXEC));
    syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, pair);
    made(pair[0]);
    made(pair[1]);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(2 * sizeof(int));
    fds[0] = made(open("/etc/group", O_RDONLY));
    fds[1] = listening;
    memcpy(CMSG_DATA(header), fds, sizeof fds);
    sendmsg(pair[0], &message, 0);
    message.msg_controllen = sizeof control;
    if (recvmsg(pair[1], &message, 0) == 1) {
        memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fds);
        made(fds[0]);
        made(fds[1]);
    }
}

static int thread(void *unused)
{
    (void)unused;
    made(open("/etc/hosts-of-a-thread", O_CREAT | O_RDWR, 0644));
    moved(chdir("/etc"));
    return 0;
}

static void wait_for(pid_t child)
{
    waitpid(child, NULL, __WALL);
}

static void processes(void)
{
    char *stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pid_t child = fork();

    if (child == 0) {
        getppid();
        whole_table();
        made(open("/etc/passwd", O_RDONLY));
        moved(chdir("/bin"));
        _exit(0);
    }
    wait_for(child);
    /* A child that has its parent's table and folder: what it does, it does to both. */
    child = clone(thread, stack + 65536, CLONE_FILES | CLONE_FS | SIGCHLD, NULL);
    wait_for(child);
    made(openat(AT_FDCWD, "passwd", O_RDONLY));
    child = fork();
    if (child == 0) {
        unshare(CLONE_FILES);
        getppid();
        whole_table();
        syscall(SYS_close_range, 100, 2000, 2 /* CLOSE_RANGE_UNSHARE */);
        getppid();
        whole_table();
        _exit(0);
    }
    wait_for(child);
    child = vfork();
    if (child == 0) {
        execl("/files", "files", "table", NULL);
        _exit(127);
    }
    wait_for(child);
}

int main(int argc, char **argv)
{
    if (argc > 1) { /* the program that was executed: what is not closed on exec is there */
        log = mmap(NULL, sizeof *log, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        whole_table();
        return write(open("/tmp/executed", O_CREAT | O_WRONLY, 0644), log->text, log->used) < 0;
    }
    log = mmap(NULL, sizeof *log, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    (void)argv;
    paths();
    other_kinds();
    sockets();
    processes();
    write(1, log->text, log->used);
    return 0;
}
