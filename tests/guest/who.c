/*
 * Many small processes that do what tracers get wrong: who is who, and which file is behind which descriptor.
 *
 * /who alone runs every scene below, each as a process of its own, "/who NAME" by fork and exec. A scene that does not
 * go as it should says so and ends with status 1. Only calls that every architecture has are used.
 *
 * Each task states who it is, at several moments, by one write to the end of /tmp/names:
 *
 *   who pid=80 tid=80 ppid=71 comm=77686f argv=2f77686f007468726561647300 cwd=2f746d70 ticket=20480 fds=0:2f,1:2f,
 *
 * All names are what /proc has, in hexadecimal. So a trace that keeps what is written holds the truth itself. After it
 * comes an fcntl(FD, F_GETFD, TICKET) for each of the descriptors: the ticket, which the kernel ignores, says that at
 * this call they have the names that the line gives.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/openat2.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NEED(x) need((x) != 0, #x, __LINE__)
#define FAILS(x, error) (errno = 0, need((long)(x) == -1 && errno == (error), #x " fails with " #error, __LINE__))
#define OK(x) ok((x), #x, __LINE__)

extern char **environ;

static void need(int is, const char *what, int line)
{
    if (!is) {
        dprintf(2, "who.c:%d: not so: %s (errno %d)\n", line, what, errno);
        _exit(1);
    }
}

static int ok(long result, const char *what, int line)
{
    need(result >= 0, what, line);
    return result;
}

static size_t hex(char *to, const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        sprintf(to + 2 * i, "%02x", (unsigned char)data[i]);
    return 2 * size;
}

static size_t hex_of_file(char *to, const char *path)
{
    char data[400];
    int fd = OK(open(path, O_RDONLY | O_CLOEXEC)), n = OK(read(fd, data, sizeof data));

    close(fd);
    return hex(to, data, n);
}

/* What /proc calls the file behind a descriptor, or nothing where that is too long for the line. */
static size_t hex_of_link(char *to, const char *path)
{
    char data[400];
    int n = OK(readlink(path, data, sizeof data));

    return n < (int)sizeof data ? hex(to, data, n) : 0;
}

/* State who this task is. */
static void say(void)
{
    static int statements;
    char line[8000], path[40];
    struct pollfd fds[256];
    int ticket = getpid() << 8 | __atomic_fetch_add(&statements, 1, __ATOMIC_SEQ_CST), fd, n, many = 0;

    n = sprintf(line, "who pid=%d tid=%d ppid=%d comm=", getpid(), (int)syscall(SYS_gettid), getppid());
    n += hex_of_file(line + n, "/proc/thread-self/comm") - 2; /* without its newline */
    n += sprintf(line + n, " argv=");
    n += hex_of_file(line + n, "/proc/self/cmdline");
    n += sprintf(line + n, " cwd=");
    n += hex_of_link(line + n, "/proc/thread-self/cwd");
    n += sprintf(line + n, " ticket=%d fds=", ticket);
    for (fd = 0; fd < 256; fd++)
        fds[fd] = (struct pollfd){.fd = fd};
    OK(poll(fds, 256, 0)); /* shows which are open */
    for (fd = 0; fd < 256; fd++)
        if (!(fds[fd].revents & POLLNVAL) && n < 3000) {
            fds[many++].fd = fd;
            sprintf(path, "/proc/thread-self/fd/%d", fd);
            n += sprintf(line + n, "%d:", fd);
            n += hex_of_link(line + n, path);
            n += sprintf(line + n, ",");
        }
    n += sprintf(line + n, "\n");
    fd = OK(open("/tmp/names", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600));
    NEED(write(fd, line, n) == n);
    close(fd);
    for (int i = 0; i < many; i++)
        OK(fcntl(fds[i].fd, F_GETFD, ticket));
}

static int make(const char *path, const char *text)
{
    int fd = OK(open(path, O_RDWR | O_CREAT | O_TRUNC, 0600));

    NEED(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    return fd;
}

static void reap(pid_t pid, int wanted)
{
    int status;

    NEED(waitpid(pid, &status, 0) == pid);
    NEED(WIFEXITED(status) ? WEXITSTATUS(status) == wanted : WTERMSIG(status) == -wanted);
}

static void *stack(void)
{
    static char memory[4][65536] __attribute__((aligned(64)));
    static int used;

    NEED(used < 4);
    return memory[used++] + sizeof memory[0];
}

/* ---- threads ---- */

static int shared_fd;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER; /* what one states must not change under it */

static void *by_prctl(void *none)
{
    pthread_mutex_lock(&turn);
    say();
    OK(prctl(PR_SET_NAME, "by-prctl"));
    say();
    shared_fd = make("thread-a", "opened by one thread");
    pthread_mutex_unlock(&turn);
    return none;
}

static void *by_proc(void *none)
{
    int fd;

    pthread_mutex_lock(&turn);
    fd = OK(open("/proc/thread-self/comm", O_WRONLY));
    OK(write(fd, "by-proc", 7));
    close(fd);
    say();
    OK(pwrite(shared_fd, "used by another", 15, 3));
    OK(close(shared_fd));
    FAILS(write(shared_fd, "x", 1), EBADF);
    pthread_mutex_unlock(&turn);
    return none;
}

static void *in_a_while(void *none)
{
    usleep(20000);
    pthread_mutex_lock(&turn);
    say();
    pthread_mutex_unlock(&turn);
    return none;
}

static void threads(void)
{
    pthread_t a, b, c;

    NEED(pthread_create(&c, NULL, in_a_while, NULL) == 0);
    NEED(pthread_create(&a, NULL, by_prctl, NULL) == 0);
    pthread_join(a, NULL);
    NEED(pthread_create(&b, NULL, by_proc, NULL) == 0);
    pthread_join(b, NULL);
    pthread_join(c, NULL);
    OK(prctl(PR_SET_NAME, "all \"joined\"\n\001"));
    say();
}

/* ---- a thread that executes a program takes the process over ---- */

static void *executes(void *none)
{
    char *const words[] = {"taken over", "states", NULL};

    say();
    execve("/who", words, environ);
    return none;
}

static void thread_exec(void)
{
    pthread_t a;

    make("kept-over-thread-exec", "open");
    NEED(pthread_create(&a, NULL, executes, NULL) == 0);
    pthread_join(a, NULL);
    NEED(0);
}

/* What is started by others: it uses the descriptors that it finds. */
static void states(void)
{
    char byte;

    say();
    for (int fd = 3; fd < 12; fd++)
        if (pread(fd, &byte, 1, 0) >= 0)
            fsync(fd);
}

/* ---- pipes and dups ---- */

static void pipes(void)
{
    int first[2], second[2];
    char text[64];
    pid_t pid;

    OK(pipe(first));
    OK(pipe2(second, O_CLOEXEC));
    if ((pid = OK(fork())) == 0) {
        say();
        OK(dup2(first[0], 0));
        OK(dup2(second[1], 1));
        close(first[0]);
        close(first[1]);
        close(second[0]);
        execl("/bin/busybox", "cat", "-", NULL);
        _exit(9);
    }
    close(first[0]);
    close(second[1]);
    NEED(write(first[1], "through a cat\n", 14) == 14);
    close(first[1]);
    NEED(read(second[0], text, sizeof text) == 14);
    NEED(read(second[0], text, sizeof text) == 0);
    reap(pid, 0);
    close(second[0]);
}

static void dups(void)
{
    char *const words[] = {"after dups", "inherits", NULL};
    int a = make("dup-a", "a"), b = make("dup-b", "b"), c, d, e;

    c = OK(dup(a));
    d = OK(dup2(a, b)); /* closes dup-b */
    NEED(d == b && dup2(a, a) == a);
    NEED(write(b, "into dup-a", 10) == 10);
    e = OK(dup3(c, 50, O_CLOEXEC));
    NEED(fcntl(e, F_DUPFD, 100) == 100 && fcntl(100, F_DUPFD_CLOEXEC, 100) == 101 && fcntl(e, F_DUPFD, 100) == 102);
    FAILS(dup3(a, a, 0), EINVAL);
    FAILS(dup2(99, 98), EBADF);
    FAILS(dup2(a, -1), EBADF);
    OK(fcntl(102, F_SETFD, FD_CLOEXEC));
    NEED(fcntl(102, F_GETFD) == FD_CLOEXEC && fcntl(e, F_GETFD) == FD_CLOEXEC && fcntl(100, F_GETFD) == 0);
    OK(dup2(make("dup-kept", "kept"), 60));
    for (int fd = 200; fd < 210; fd++)
        OK(dup2(c, fd));
    OK(close_range(202, 204, 0));
    FAILS(lseek(203, 0, SEEK_CUR), EBADF);
    OK(lseek(205, 0, SEEK_CUR));
    OK(close_range(206, ~0U, CLOSE_RANGE_CLOEXEC));
    OK(lseek(207, 0, SEEK_CUR));
    OK(ioctl(205, FIOCLEX));
    OK(ioctl(206, FIONCLEX));
    FAILS(close_range(9, 8, 0), EINVAL);
    FAILS(close(203), EBADF);
    say();
    FAILS(execve("/who-is-not-there", words, environ), ENOENT);
    OK(lseek(e, 0, SEEK_CUR)); /* a failed execve closes nothing */
    execve("/who", words, environ);
}

/* The program that dups() becomes. */
static void inherits(void)
{
    static const int open_fds[] = {3, 4, 5, 60, 100, 200, 201, 206}, closed_fds[] = {50, 101, 102, 202, 205, 207, 209};

    say();
    for (size_t i = 0; i < sizeof open_fds / sizeof *open_fds; i++)
        OK(lseek(open_fds[i], 0, SEEK_SET));
    for (size_t i = 0; i < sizeof closed_fds / sizeof *closed_fds; i++)
        FAILS(lseek(closed_fds[i], 0, SEEK_SET), EBADF);
    OK(open("/etc/passwd", O_RDONLY));
    say();
}

/* ---- sockets ---- */

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void tcp(void)
{
    struct sockaddr_in at = loopback(7000), peer;
    socklen_t size = sizeof peer;
    int listener = OK(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), on = 1, fd;
    char text[16];
    pid_t pid;

    OK(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    OK(bind(listener, (struct sockaddr *)&at, sizeof at));
    OK(listen(listener, 4));
    if ((pid = OK(fork())) == 0) {
        say();
        close(listener);
        fd = OK(socket(AF_INET, SOCK_STREAM, 0));
        OK(connect(fd, (struct sockaddr *)&at, sizeof at));
        OK(getsockname(fd, (struct sockaddr *)&peer, &size));
        OK(send(fd, "over tcp", 8, 0));
        NEED(recv(fd, text, sizeof text, MSG_WAITALL) == 4);
        _exit(0);
    }
    fd = OK(accept4(listener, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK));
    OK(getpeername(fd, (struct sockaddr *)&peer, &size));
    OK(poll(&(struct pollfd){fd, POLLIN, 0}, 1, -1));
    NEED(read(fd, text, sizeof text) == 8);
    FAILS(read(fd, text, sizeof text), EAGAIN);
    OK(write(fd, "back", 4));
    say();
    OK(shutdown(fd, SHUT_RDWR));
    reap(pid, 0);
    close(fd);
    close(listener);
    at = loopback(7001);
    fd = OK(socket(AF_INET, SOCK_STREAM, 0));
    FAILS(connect(fd, (struct sockaddr *)&at, sizeof at), ECONNREFUSED);
}

static void udp(void)
{
    struct sockaddr_in at = loopback(7002), from;
    socklen_t size = sizeof from;
    int server = OK(socket(AF_INET, SOCK_DGRAM, 0)), client = OK(socket(AF_INET, SOCK_DGRAM, 0));
    char text[64];

    OK(bind(server, (struct sockaddr *)&at, sizeof at));
    NEED(sendto(client, "a datagram", 10, 0, (struct sockaddr *)&at, sizeof at) == 10);
    NEED(recvfrom(server, text, sizeof text, 0, (struct sockaddr *)&from, &size) == 10);
    OK(connect(client, (struct sockaddr *)&at, sizeof at));
    NEED(write(client, "connected", 9) == 9);
    NEED(read(server, text, sizeof text) == 9);
    FAILS(socket(AF_INET, 77, 0), EINVAL);
    close(client);
    close(server);
}

static void unix_sockets(void)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = "unix-socket"};
    int listener = OK(socket(AF_UNIX, SOCK_STREAM, 0)), fd, file = make("passed", "over a socket"), pair[2];
    char text[64], control[CMSG_SPACE(sizeof(int))];
    struct iovec vector = {text, 4};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    pid_t pid;

    OK(bind(listener, (struct sockaddr *)&at, sizeof at));
    OK(listen(listener, 1));
    fd = OK(socket(AF_UNIX, SOCK_STREAM, 0));
    OK(connect(fd, (struct sockaddr *)&at, sizeof at));
    close(OK(accept(listener, NULL, NULL)));
    OK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair));
    if ((pid = OK(fork())) == 0) {
        say();
        close(file);
        close(pair[0]);
        NEED(recvmsg(pair[1], &message, 0) == 4);
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
        NEED(pread(fd, text, sizeof text, 0) == 13); /* the other's file, by a number of our own */
        fsync(fd);
        close(fd);
        _exit(0);
    }
    *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof file), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), &file, sizeof file);
    memcpy(text, "take", 4);
    NEED(sendmsg(pair[0], &message, 0) == 4);
    reap(pid, 0);
    OK(unlink("unix-socket"));
}

/* ---- paths ---- */

static void paths(void)
{
    char name[256], path[4096] = "long", cwd[4096];
    struct open_how how = {.flags = O_RDONLY, .resolve = RESOLVE_BENEATH};
    int folder, fd;

    OK(mkdir("a", 0700));
    OK(mkdirat(AT_FDCWD, "a/b", 0700));
    OK(symlinkat("a/b", AT_FDCWD, "to-b"));
    folder = OK(open("a", O_RDONLY | O_DIRECTORY));
    close(make("a/b/../b/./file", "reached by a relative path"));
    OK(chdir("a/b"));
    close(OK(open("file", O_RDONLY)));
    close(OK(open("../../to-b/file", O_RDONLY)));
    close(OK(openat(folder, "b/file", O_RDWR)));
    fd = OK(syscall(SYS_openat2, folder, "b/file", &how, sizeof how));
    OK(fsync(fd));
    FAILS(syscall(SYS_openat2, folder, "../a/b/file", &how, sizeof how), EXDEV);
    OK(fchdir(folder));
    NEED(getcwd(cwd, sizeof cwd));
    close(OK(open("b/file", O_RDONLY)));
    OK(chdir("../to-b")); /* a symbolic link: the kernel's name for where we are is another */
    OK(lseek(OK(open("file", O_RDONLY)), 0, SEEK_CUR));
    say();
    OK(chdir(".."));
    close(make("beside-b", "in a, not beside to-b"));
    OK(fstatat(folder, "beside-b", &(struct stat){0}, 0));
    OK(faccessat(folder, "b", F_OK, 0));
    OK(chdir(".."));
    OK(renameat(folder, "beside-b", AT_FDCWD, "moved-out"));
    OK(unlinkat(AT_FDCWD, "moved-out", 0));

    fd = make("line\nfeed \\ \"quoted\" <angled> \t\033[31m \377\376", "odd");
    OK(fsync(fd));
    close(fd);
    OK(fsync(make("caf\303\251 \346\227\245\346\234\254 \360\237\220\247", "UTF-8")));
    OK(fsync(make("ends in (deleted)", "but is not")));
    memset(name, 'n', 255);
    name[255] = 0;
    fd = make(name, "as long as a name can be");
    OK(fsync(fd));
    close(fd);
    name[200] = 0;
    OK(mkdir(path, 0700));
    for (int i = 0; i < 12; i++) {
        strcat(strcat(path, "/"), name);
        OK(mkdir(path, 0700));
    }
    OK(chdir(path));
    OK(fsync(make("deep", "some 2500 bytes down")));
    OK(chdir("/"));
    close(OK(open("etc/passwd", O_RDONLY)));
    close(OK(open("//etc//./../etc/group", O_RDONLY)));
    say();
}

static void changed_names(void)
{
    int fd = make("before", "renamed while open"), gone = make("gone", "deleted while open"), folder, temporary;
    pid_t pid;

    OK(renameat(AT_FDCWD, "before", AT_FDCWD, "after"));
    OK(fsync(fd));
    OK(unlink("gone"));
    OK(fsync(gone));
    close(make("gone", "another of that name"));
    OK(fsync(gone));
    temporary = open(".", O_TMPFILE | O_RDWR, 0600);
    if (temporary >= 0)
        OK(fsync(temporary));
    OK(mkdir("house", 0700));
    OK(chdir("house"));
    OK(renameat(AT_FDCWD, "../house", AT_FDCWD, "../home"));
    OK(fsync(make("chair", "in a folder that was renamed around us")));
    if ((pid = OK(fork())) == 0) {
        OK(close(OK(open("chair", O_RDONLY))));
        _exit(0);
    }
    reap(pid, 0);
    OK(chdir(".."));
    folder = OK(open("home", O_PATH));
    OK(unlink("home/chair"));
    OK(rmdir("home"));
    FAILS(openat(folder, "chair", O_RDONLY), ENOENT);
    OK(fstat(folder, &(struct stat){0}));
}

static void jail(void)
{
    OK(mkdir("jail", 0700));
    OK(mkdir("jail/etc", 0700));
    close(make("jail/etc/passwd", "not the real one"));
    OK(chroot("jail"));
    OK(chdir("/"));
    OK(fsync(OK(open("/etc/passwd", O_RDONLY))));
    OK(fsync(OK(open("etc/passwd", O_RDONLY))));
    OK(fsync(OK(open("../../etc/passwd", O_RDONLY))));
}

static void again(void)
{
    char path[64], target[256];
    int fd = make("again", "opened once more by way of /proc"), other;

    sprintf(path, "/proc/self/fd/%d", fd);
    OK(readlink(path, target, sizeof target));
    other = OK(open(path, O_RDONLY));
    OK(fsync(other));
    close(fd);
    OK(fsync(other));
    sprintf(path, "/dev/fd/%d", other);
    OK(fsync(OK(open(path, O_RDONLY))));
}

/* ---- descriptors that are no files ---- */

static void anonymous(void)
{
    static char memory[64];
    unsigned long long one = 1;
    sigset_t set;
    int epoll = OK(epoll_create1(EPOLL_CLOEXEC)), event = OK(eventfd(0, EFD_NONBLOCK)), timer, signals, notify;
    int pidfd, mem = OK(memfd_create("a memfd", MFD_CLOEXEC));
    struct epoll_event ready = {.events = EPOLLIN, .data.fd = event};

    OK(epoll_ctl(epoll, EPOLL_CTL_ADD, event, &ready));
    NEED(write(event, &one, 8) == 8);
    NEED(epoll_wait(epoll, &ready, 1, -1) == 1);
    NEED(read(event, &one, 8) == 8);
    FAILS(read(event, &one, 8), EAGAIN);
    timer = OK(timerfd_create(CLOCK_MONOTONIC, 0));
    OK(timerfd_settime(timer, 0, &(struct itimerspec){.it_value.tv_nsec = 1000000}, NULL));
    NEED(read(timer, &one, 8) == 8);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    OK(sigprocmask(SIG_BLOCK, &set, NULL));
    signals = OK(signalfd(-1, &set, SFD_CLOEXEC));
    OK(kill(getpid(), SIGUSR1));
    NEED(read(signals, &(struct signalfd_siginfo){0}, sizeof(struct signalfd_siginfo)) > 0);
    NEED(signalfd(signals, &set, 0) == signals);
    notify = OK(inotify_init1(IN_NONBLOCK));
    OK(inotify_add_watch(notify, ".", IN_CREATE));
    close(make("noticed", "by inotify"));
    pidfd = OK(syscall(SYS_pidfd_open, getpid(), 0));
    OK(syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0));
    NEED(ftruncate(mem, 4096) == 0 && pwrite(mem, memory, 64, 0) == 64);
    NEED(mmap(NULL, 4096, PROT_READ, MAP_SHARED, mem, 0) != MAP_FAILED);
    close(OK(open("/dev/null", O_RDWR)));
    say();
    NEED(read(OK(open("/dev/zero", O_RDONLY)), memory, 8) == 8);
    for (int fd = epoll; fd <= pidfd; fd++)
        close(fd);
    OK(fcntl(mem > pidfd ? mem : 0, F_GETFD));
}

/* ---- tables that are shared ---- */

static int opens_here(void *none)
{
    (void)none;
    say();
    OK(dup2(make("shared", "opened by the process that shares the table"), shared_fd));
    OK(chdir("/etc")); /* its own: no CLONE_FS */
    OK(unshare(CLONE_FILES));
    OK(dup2(OK(open("passwd", O_RDONLY)), shared_fd)); /* in its own table from now on */
    say();
    return 0;
}

static int moves_both(void *none)
{
    (void)none;
    OK(mkdir("both", 0700));
    OK(chdir("both"));
    return 0;
}

static void *alone(void *none)
{
    int fd = shared_fd;

    OK(unshare(CLONE_FILES));
    OK(close(fd));
    NEED(dup2(OK(open("/etc/group", O_RDONLY)), fd) == fd);
    say();
    return none;
}

static void tables(void)
{
    pthread_t thread;
    pid_t pid;

    shared_fd = 40;
    pid = OK(clone(opens_here, stack(), CLONE_FILES | SIGCHLD, NULL));
    reap(pid, 0);
    OK(lseek(shared_fd, 0, SEEK_SET)); /* still "shared" */
    pid = OK(clone(moves_both, stack(), CLONE_FS | SIGCHLD, NULL));
    reap(pid, 0);
    OK(fsync(make("in-both", "the child moved us")));
    say();
    NEED(pthread_create(&thread, NULL, alone, NULL) == 0);
    pthread_join(thread, NULL);
    OK(lseek(shared_fd, 0, SEEK_SET)); /* still "shared" */
    OK(close_range(shared_fd, shared_fd, CLOSE_RANGE_UNSHARE));
    FAILS(lseek(shared_fd, 0, SEEK_SET), EBADF);
}

/* ---- children of all kinds ---- */

static void children(void)
{
    char *const words[] = {"by vfork", "states", NULL}, *const spawned[] = {"by posix_spawn", "states", NULL};
    char *const fd_words[] = {"by execveat", "states", NULL};
    posix_spawn_file_actions_t actions;
    int fd = make("inherited", "over exec"), program = OK(open("/who", O_RDONLY | O_CLOEXEC));
    pid_t pid;

    OK(fcntl(make("not-inherited", "closed by exec"), F_SETFD, FD_CLOEXEC));
    if ((pid = OK(vfork())) == 0) {
        execve("/nowhere/who", words, environ);
        execve("/who", words, environ);
        _exit(9);
    }
    reap(pid, 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 7, "/etc/passwd", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, fd, 8);
    posix_spawn_file_actions_addclose(&actions, fd);
    NEED(posix_spawn(&pid, "/who", &actions, NULL, spawned, environ) == 0);
    reap(pid, 0);
    if ((pid = OK(fork())) == 0) {
        syscall(SYS_execveat, program, "", fd_words, environ, AT_EMPTY_PATH);
        _exit(9);
    }
    reap(pid, 0);
    if ((pid = OK(fork())) == 0) {
        if (OK(fork()) == 0) {
            usleep(30000); /* its parent is gone by then */
            say();
            OK(fsync(fd));
            _exit(0);
        }
        _exit(4);
    }
    reap(pid, 4);
    usleep(80000);
    if ((pid = OK(fork())) == 0) { /* ends in a call that never comes back */
        int never[2];

        OK(pipe(never));
        NEED(read(never[0], &fd, 1) && 0);
        _exit(9);
    }
    usleep(20000);
    OK(kill(pid, SIGKILL));
    reap(pid, -SIGKILL);
}

/* A number that comes around: another process, another program, other files. */
static void reuse(void)
{
    int last = open("/proc/sys/kernel/ns_last_pid", O_WRONLY), turns = 0;
    pid_t first = 0, pid = 0;
    char text[16];

    for (int i = 0; i < 4; i++) {
        if (first && last >= 0) {
            int n = sprintf(text, "%d", first - 1);

            OK(pwrite(last, text, n, 0));
        }
        if ((pid = OK(fork())) == 0) {
            char name[16], *const words[] = {name, "states", NULL};

            sprintf(name, "turn %d", i);
            close(last);
            say();
            OK(prctl(PR_SET_NAME, name));
            say();
            OK(fsync(make(i % 2 ? "odd-turn" : "even-turn", name)));
            OK(fsync(OK(open("/etc/passwd", O_RDONLY | (i & 1 ? O_CLOEXEC : 0)))));
            if (i != 3)
                execve("/who", words, environ);
            _exit(0);
        }
        if (!first)
            first = pid;
        turns += pid == first;
        reap(pid, 0);
    }
    dprintf(1, "who: %d processes had the number %d\n", turns, first);
}

/* ---- calls that fail, calls that are cut short ---- */

static void failures(void)
{
    struct rlimit few, before;
    char byte, *volatile nowhere = (char *)8, name[300];
    int fd = make("a-file", "x"), ends[2], fds[20], n = 0;

    memset(name, 'x', 299);
    name[299] = 0;
    OK(symlink("loop", "loop"));
    OK(mkdir("full", 0700));
    close(make("full/x", ""));
    FAILS(open("missing", O_RDONLY), ENOENT);
    FAILS(open("a-file/below", O_RDONLY), ENOTDIR);
    FAILS(open("full", O_WRONLY), EISDIR);
    FAILS(open("a-file", O_CREAT | O_EXCL, 0600), EEXIST);
    FAILS(open("loop", O_RDONLY), ELOOP);
    FAILS(open(name, O_RDONLY), ENAMETOOLONG);
    FAILS(open(nowhere, O_RDONLY), EFAULT);
    FAILS(open("", O_RDONLY), ENOENT);
    FAILS(openat(77, "a-file", O_RDONLY), EBADF);
    FAILS(openat(fd, "a-file", O_RDONLY), ENOTDIR);
    FAILS(chdir("a-file"), ENOTDIR);
    FAILS(fchdir(fd), ENOTDIR);
    FAILS(mkdir("full", 0700), EEXIST);
    FAILS(rmdir("full"), ENOTEMPTY);
    FAILS(rename("missing", "other"), ENOENT);
    FAILS(link("a-file", "/elsewhere"), EXDEV);
    FAILS(unlink("full"), EISDIR);
    FAILS(readlink("a-file", name, 10), EINVAL);
    FAILS(read(77, &byte, 1), EBADF);
    FAILS(read(-1, &byte, 1), EBADF);
    FAILS(write(fd, nowhere, 1), EFAULT);
    FAILS(lseek(fd, -1, SEEK_SET), EINVAL);
    FAILS(ioctl(fd, TIOCGWINSZ, name), ENOTTY);
    FAILS(kill(999999, 0), ESRCH);
    FAILS(waitpid(-1, NULL, 0), ECHILD);
    FAILS(execl("a-file", "a-file", NULL), EACCES);
    FAILS(syscall(SYS_execveat, fd, "", (char *[]){"x", NULL}, environ, AT_EMPTY_PATH), EACCES);
    FAILS(chmod("missing", 0600), ENOENT);
    OK(chmod("a-file", 0700));
    close(fd);
    FAILS(execl("a-file", "a-file", NULL), ENOEXEC);
    OK(pipe(ends));
    FAILS(lseek(ends[0], 0, SEEK_CUR), ESPIPE);
    close(ends[0]);
    signal(SIGPIPE, SIG_IGN);
    FAILS(write(ends[1], "x", 1), EPIPE);
    OK(getrlimit(RLIMIT_NOFILE, &before));
    few = (struct rlimit){16, before.rlim_max};
    OK(setrlimit(RLIMIT_NOFILE, &few));
    while (n < 20 && (fds[n] = open("/dev/null", O_RDONLY)) >= 0)
        n++;
    NEED(errno == EMFILE && n < 20);
    FAILS(dup(0), EMFILE);
    FAILS(pipe(ends), EMFILE);
    FAILS(fcntl(0, F_DUPFD, 3), EMFILE);
    while (n > 0)
        close(fds[--n]);
    OK(setrlimit(RLIMIT_NOFILE, &before));
    say();
}

static void handler(int number)
{
    OK(fcntl(0, F_GETFD));
    (void)number;
}

static void on_alarm(int flags, int first)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    struct itimerval timer = {.it_value.tv_usec = first};

    OK(sigaction(SIGALRM, &action, NULL));
    OK(setitimer(ITIMER_REAL, &timer, NULL));
}

static void interruptions(void)
{
    struct timespec long_time = {2, 0};
    char byte;
    int ends[2];
    pid_t pid;

    OK(pipe(ends));
    on_alarm(0, 20000);
    FAILS(read(ends[0], &byte, 1), EINTR);
    on_alarm(0, 20000);
    FAILS(nanosleep(&long_time, &long_time), EINTR);
    on_alarm(SA_RESTART, 20000);
    FAILS(pause(), EINTR);
    on_alarm(SA_RESTART, 20000);
    FAILS(poll(NULL, 0, 2000), EINTR);
    if ((pid = OK(fork())) == 0) {
        usleep(150000);
        OK(write(ends[1], "x", 1));
        _exit(0);
    }
    on_alarm(SA_RESTART, 20000);
    NEED(read(ends[0], &byte, 1) == 1); /* begun anew after the handler */
    reap(pid, 0);
    if ((pid = OK(fork())) == 0) {
        long_time = (struct timespec){0, 300000000};
        OK(nanosleep(&long_time, NULL)); /* stopped and continued: goes on by restart_syscall */
        _exit(0);
    }
    usleep(50000);
    OK(kill(pid, SIGSTOP));
    usleep(50000);
    OK(kill(pid, SIGCONT));
    reap(pid, 0);
    say();
}

/* ---- data by other ways ---- */

static void transfers(void)
{
    int from = make("from", "some data to carry about"), to = make("to", ""), ends[2], folder;
    char text[2][8], listing[1024];
    struct iovec vector[2] = {{text[0], 8}, {text[1], 8}};

    OK(lseek(from, 0, SEEK_SET));
    NEED(sendfile(to, from, NULL, 10) == 10);
    NEED(pread(to, text[0], 8, 1) == 8);
    OK(pipe(ends));
    NEED(splice(from, NULL, ends[1], NULL, 5, 0) == 5);
    NEED(tee(ends[0], ends[1], 0, 0) == 0);
    OK(lseek(from, 0, SEEK_SET));
    NEED(readv(from, vector, 2) == 16);
    NEED(writev(to, vector, 2) == 16);
    OK(syscall(SYS_copy_file_range, from, NULL, to, NULL, 4, 0));
    OK(ftruncate(to, 100));
    OK(fdatasync(to));
    OK(fchmod(to, 0640));
    OK(fstat(to, &(struct stat){0}));
    OK(statx(to, "", AT_EMPTY_PATH, STATX_SIZE, &(struct statx){0}));
    NEED(mmap(NULL, 100, PROT_READ, MAP_PRIVATE, to, 0) != MAP_FAILED);
    folder = OK(open(".", O_RDONLY | O_DIRECTORY));
    OK(syscall(SYS_getdents64, folder, listing, sizeof listing));
    OK(truncate("to", 1));
    OK(link("to", "hard"));
    NEED(read(OK(open("hard", O_RDONLY)), text[0], 8) == 1);
}

static const struct scene {
    const char *name;
    void (*run)(void);
    int alone; /* run by /who itself; the others are what a scene executes */
} scenes[] = {
    {"threads", threads, 1},   {"thread_exec", thread_exec, 1}, {"states", states, 0},
    {"pipes", pipes, 1},       {"dups", dups, 1},               {"inherits", inherits, 0},
    {"tcp", tcp, 1},           {"udp", udp, 1},                 {"unix_sockets", unix_sockets, 1},
    {"paths", paths, 1},       {"changed_names", changed_names, 1},
    {"jail", jail, 1},         {"again", again, 1},             {"anonymous", anonymous, 1},
    {"tables", tables, 1},     {"children", children, 1},       {"reuse", reuse, 1},
    {"failures", failures, 1}, {"interruptions", interruptions, 1},
    {"transfers", transfers, 1},
};

int main(int argc, char **argv)
{
    int failed = 0, status;
    pid_t pid;

    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        if (argc > 1 && strcmp(argv[1], scenes[i].name) == 0) {
            scenes[i].run();
            return 0;
        }
        if (argc > 1 || !scenes[i].alone)
            continue;
        if ((pid = OK(fork())) == 0) {
            say();
            OK(mkdir(scenes[i].name, 0700));
            OK(chdir(scenes[i].name));
            execl("/who", "/who", scenes[i].name, NULL);
            _exit(9);
        }
        OK(waitpid(pid, &status, 0));
        if (status != 0) {
            dprintf(2, "who: %s ended with wait status %d\n", scenes[i].name, status);
            failed = 1;
        }
    }
    say();
    return failed;
}
