/* Stands between a program and the files of its registry: see faulty_disk.rs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define MOST 4096

static char names[MOST][64]; /* by descriptor; empty: not a file of the registry */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long made;

static int is_watched(int fd) { return fd >= 0 && fd < MOST && names[fd][0]; }

static int opened(int fd, const char *path) {
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    size_t length = strlen(name);
    if (fd < 0 || fd >= MOST) return fd;
    names[fd][0] = 0;
    if (strncmp(name, "registry.db", 11) == 0 && length < sizeof names[fd] && strcmp(name + length - 4, "-shm") != 0)
        strcpy(names[fd], name);
    return fd;
}

static int is_to_fail(const char *call) {
    char path[4096];
    const char *dir = getenv("LC_FAULTY_DISK");
    return dir && snprintf(path, sizeof path, "%s/fail-%s", dir, call) > 0 && access(path, F_OK) == 0;
}

static void note(char kind, const char *name, long offset, const void *bytes, size_t length) {
    char path[4096], line[128];
    const char *dir = getenv("LC_FAULTY_DISK");
    if (!dir || snprintf(path, sizeof path, "%s/trace", dir) < 0) return;
    int trace = REAL(open)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int head = snprintf(line, sizeof line, "%c %s %ld %zu\n", kind, name, offset, length);
    if (REAL(write)(trace, line, (size_t)head) != head ||
        (length && REAL(write)(trace, bytes, length) != (ssize_t)length))
        abort();
    REAL(close)(trace);
}

/* What changes something is about to be done: whether it is to fail instead. */
static int fails(char kind, const char *call, const char *name, long offset, const void *bytes, size_t length) {
    const char *last = getenv("LC_FAULTY_DISK_KILL_AT");
    pthread_mutex_lock(&lock);
    if (last && ++made == atol(last)) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    int fail = is_to_fail(call);
    if (!fail) note(kind, name, offset, bytes, length);
    else if (kind == 'S') note('F', name, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    if (fail) errno = EIO;
    return fail;
}

#define OPEN(open)                                                   \
    int open(const char *path, int flags, ...) {                     \
        va_list more;                                                \
        va_start(more, flags);                                       \
        int mode = va_arg(more, int);                                \
        va_end(more);                                                \
        return opened(REAL(open)(path, flags, mode), path);          \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    if (is_watched(fd)) names[fd][0] = 0;
    return REAL(close)(fd);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    if (is_watched(fd) && fails('W', "write", names[fd], lseek(fd, 0, SEEK_CUR), bytes, length)) return -1;
    return REAL(write)(fd, bytes, length);
}

#define PWRITE(pwrite, off_t)                                                              \
    ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {               \
        if (is_watched(fd) && fails('W', "write", names[fd], offset, bytes, length)) return -1; \
        return REAL(pwrite)(fd, bytes, length, offset);                                    \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define TRUNCATE(ftruncate, off_t)                                                  \
    int ftruncate(int fd, off_t length) {                                           \
        if (is_watched(fd) && fails('T', "write", names[fd], length, NULL, 0)) return -1; \
        return REAL(ftruncate)(fd, length);                                         \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(sync)                                                              \
    int sync(int fd) {                                                          \
        if (is_watched(fd) && fails('S', "sync", names[fd], 0, NULL, 0)) return -1; \
        return REAL(sync)(fd);                                                  \
    }
SYNC(fsync)
SYNC(fdatasync)

static int is_unreadable(int fd) {
    if (!is_watched(fd) || !is_to_fail("read")) return 0;
    errno = EIO;
    return 1;
}

ssize_t read(int fd, void *bytes, size_t length) {
    return is_unreadable(fd) ? -1 : REAL(read)(fd, bytes, length);
}

#define PREAD(pread, off_t)                                                   \
    ssize_t pread(int fd, void *bytes, size_t length, off_t offset) {         \
        return is_unreadable(fd) ? -1 : REAL(pread)(fd, bytes, length, offset); \
    }
PREAD(pread, off_t)
PREAD(pread64, off64_t)

/* Not written down: only where a kill may come between. */
int rename(const char *from, const char *to) {
    return fails('R', "rename", "name", 0, NULL, 0) ? -1 : REAL(rename)(from, to);
}
