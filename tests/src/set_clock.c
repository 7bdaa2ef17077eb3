/* Sets the wall clock of a program, and no other clock: see set_clock.rs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int clock_gettime(clockid_t clock, struct timespec *now) {
    int done = REAL(clock_gettime)(clock, now), before = errno;
    const char *file = clock == CLOCK_REALTIME ? getenv("LC_SET_CLOCK") : NULL;
    if (done == 0 && file) {
        char seconds[32] = {0};
        int fd = open(file, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            if (read(fd, seconds, sizeof seconds - 1) > 0) now->tv_sec += atol(seconds);
            close(fd);
        }
    }
    errno = before;
    return done;
}
