/* A disk that fails when it is told to: LD_PRELOAD it. Calls on files below a folder are counted; those from the
 * first-th to the last-th fail with an error. Stores into mapped files cannot fail; their room is allocated before. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long first, last, counted;
static int error;

void failing_disk_set(const char *below, long from, long to, int with) {
    snprintf(folder, sizeof folder, "%s", below);
    first = from, last = to, error = with;
    __atomic_store_n(&counted, 0, __ATOMIC_SEQ_CST);
}

long failing_disk_count(void) { return __atomic_load_n(&counted, __ATOMIC_SEQ_CST); }

static int fails_at(const char *path) {
    if (!folder[0] || strncmp(path, folder, strlen(folder))) return 0;
    long now = __atomic_add_fetch(&counted, 1, __ATOMIC_SEQ_CST);
    return now >= first && now <= last;
}

static int fails_for(int file) {
    char link[64], path[PATH_MAX];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails_at(path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(value) return errno = error, value

ssize_t write(int file, const void *data, size_t size) {
    if (fails_for(file)) FAIL(-1);
    return REAL(write)(file, data, size);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    if (fails_for(file)) FAIL(-1);
    return REAL(pwrite64)(file, data, size, at);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at) { return pwrite64(file, data, size, at); }

int posix_fallocate64(int file, off64_t at, off64_t size) {
    return fails_for(file) ? error : REAL(posix_fallocate64)(file, at, size);
}

int posix_fallocate(int file, off_t at, off_t size) { return posix_fallocate64(file, at, size); }

int truncate64(const char *path, off64_t size) {
    if (fails_at(path)) FAIL(-1);
    return REAL(truncate64)(path, size);
}

int ftruncate64(int file, off64_t size) {
    if (fails_for(file)) FAIL(-1);
    return REAL(ftruncate64)(file, size);
}

int fsync(int file) {
    if (fails_for(file)) FAIL(-1);
    return REAL(fsync)(file);
}

static int open_at(int base, const char *path, int flags, mode_t mode) {
    if (flags & O_CREAT && fails_at(path)) FAIL(-1);
    return REAL(openat64)(base, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return open_at(AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return open_at(AT_FDCWD, path, flags, mode);
}

int rename(const char *from, const char *to) {
    if (fails_at(from)) FAIL(-1);
    return REAL(rename)(from, to);
}

int renameat2(int base, const char *from, int other, const char *to, unsigned flags) {
    if (fails_at(from)) FAIL(-1);
    return REAL(renameat2)(base, from, other, to, flags);
}

int unlink(const char *path) {
    if (fails_at(path)) FAIL(-1);
    return REAL(unlink)(path);
}
