/* Faults at the calls that write below one folder, for tests: put before libc with LD_PRELOAD.
 *
 * Every call of one of the functions below that concerns a file under the armed folder is a point, counted
 * from 1. At the chosen point the fault happens; see enum mode. Not thread-safe but for the count. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { COUNT, KILL, TORN, FULL, FAIL, DEAD };
enum kind { OPEN, WRITE, SYNC, RENAME, UNLINK, MKDIR, RESIZE, LINK, CLOSE, KINDS };
enum act { PASS, HALF, AFTER, ERROR };

#define MOST 1000000
static char root[4096], kinds[MOST], *paths[MOST];
static _Thread_local char seen[8300]; /* the path of the call at hand; of a rename, both, a line each */
static size_t root_length;
static long chosen;
static enum mode mode;
static atomic_long count;
static atomic_int armed;

void fault_arm(const char *folder, long point, int what) {
    root_length = strlen(folder);
    memcpy(root, folder, root_length + 1);
    chosen = point;
    mode = what;
    atomic_store(&count, 0);
    atomic_store(&armed, 1);
}
long fault_disarm(void) { atomic_store(&armed, 0); return atomic_load(&count); }
const char *fault_path(long point) { return point > 0 && point < MOST ? paths[point] : NULL; }
int fault_kind(long point) { return point > 0 && point < MOST ? kinds[point] : -1; }

static int below(const char *path) {
    return strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || !path[root_length]);
}
static ssize_t path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, 4095);
    path[size < 0 ? 0 : size] = 0;
    return size;
}
static int in_fd(int fd) {
    return armed && path_of(fd, seen) > 0 && below(seen);
}
static int in_path(int folder, const char *path) {
    if (!armed || !path) return 0;
    if (path[0] != '/') {
        if (folder == AT_FDCWD || !in_fd(folder)) return 0;
        size_t size = strlen(seen);
        snprintf(seen + size, sizeof seen - size, "/%s", path);
        return 1;
    }
    snprintf(seen, sizeof seen, "%s", path);
    return below(path);
}
static int and_from(const char *from) {
    size_t size = strlen(seen);
    snprintf(seen + size, sizeof seen - size, "\n%s", from);
    return 1;
}

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

/* What happens at this point; errno is set for ERROR. ``grows``: the call needs room on the disk. */
static enum act hit(enum kind kind, int grows) {
    long now = atomic_fetch_add(&count, 1) + 1;
    if (now < MOST) kinds[now] = kind;
    if (now < MOST && mode == COUNT) paths[now] = strdup(seen);
    if (mode == COUNT || now < chosen) return PASS;
    if (mode == FULL) {
        errno = ENOSPC;
        return !grows ? PASS : now == chosen && kind == WRITE ? HALF : ERROR;
    }
    if (mode == DEAD || (mode == FAIL && now == chosen)) { errno = EIO; return ERROR; }
    if (now != chosen) return PASS;
    if (mode == KILL) die();
    return mode != TORN ? PASS : kind == WRITE ? HALF : AFTER;
}
static void after(enum act act) {
    if (act == AFTER || (act == HALF && mode == TORN)) die();
}

#define REAL(result, name, ...)                                   \
    static result (*real)(__VA_ARGS__);                           \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

/* A call without a partial outcome. */
#define SIMPLE(result, name, kind, grows, inside, types, names)   \
    result name types {                                           \
        static result (*real) types;                              \
        if (!real) real = (result (*) types)dlsym(RTLD_NEXT, #name); \
        if (!(inside)) return real names;                         \
        enum act act = hit(kind, grows);                          \
        if (act == ERROR) return -1;                              \
        result done = real names;                                 \
        after(act);                                               \
        return done;                                              \
    }

/* Nothing is synced in truth: a killed process loses nothing that it wrote, and waiting takes long. */
static int sync_nothing(int fd) {
    if (!in_fd(fd)) return 0;
    enum act act = hit(SYNC, 0);
    after(act);
    return act == ERROR ? -1 : 0;
}
int fsync(int fd) { return sync_nothing(fd); }
int fdatasync(int fd) { return sync_nothing(fd); }
int msync(void *start, size_t size, int flags) { /* of what file is not asked: all maps are of ours */
    (void)start, (void)size, (void)flags;
    if (!armed) return 0;
    seen[0] = 0;
    enum act act = hit(SYNC, 0);
    after(act);
    return act == ERROR ? -1 : 0;
}

SIMPLE(int, ftruncate, RESIZE, 1, in_fd(fd), (int fd, off_t size), (fd, size))
SIMPLE(int, ftruncate64, RESIZE, 1, in_fd(fd), (int fd, off64_t size), (fd, size))
SIMPLE(int, rename, RENAME, 0, in_path(AT_FDCWD, to) && and_from(from), (const char *from, const char *to), (from, to))
SIMPLE(int, renameat, RENAME, 0, in_path(b, to) && and_from(from),
       (int a, const char *from, int b, const char *to), (a, from, b, to))
SIMPLE(int, unlink, UNLINK, 0, in_path(AT_FDCWD, path), (const char *path), (path))
SIMPLE(int, unlinkat, UNLINK, 0, in_path(at, path), (int at, const char *path, int flags), (at, path, flags))
SIMPLE(int, rmdir, UNLINK, 0, in_path(AT_FDCWD, path), (const char *path), (path))
SIMPLE(int, mkdir, MKDIR, 1, in_path(AT_FDCWD, path), (const char *path, mode_t bits), (path, bits))
SIMPLE(int, mkdirat, MKDIR, 1, in_path(at, path), (int at, const char *path, mode_t bits), (at, path, bits))
SIMPLE(int, symlink, LINK, 1, in_path(AT_FDCWD, to), (const char *from, const char *to), (from, to))
SIMPLE(int, link, LINK, 1, in_path(AT_FDCWD, to), (const char *from, const char *to), (from, to))
SIMPLE(int, linkat, LINK, 1, in_path(b, to),
       (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags))

#define WRITER(name, size, half, types, names)                    \
    ssize_t name types {                                          \
        static ssize_t (*real) types;                             \
        if (!real) real = (ssize_t (*) types)dlsym(RTLD_NEXT, #name); \
        if (!in_fd(fd)) return real names;                        \
        enum act act = hit(WRITE, 1);                             \
        if (act == ERROR) return -1;                              \
        if (act == HALF && size) { half; if (!(size)) { errno = ENOSPC; after(act); return -1; } } \
        ssize_t done = real names;                                \
        after(act);                                               \
        return done;                                              \
    }

WRITER(write, n, n /= 2, (int fd, const void *data, size_t n), (fd, data, n))
WRITER(pwrite, n, n /= 2, (int fd, const void *data, size_t n, off_t at), (fd, data, n, at))
WRITER(pwrite64, n, n /= 2, (int fd, const void *data, size_t n, off64_t at), (fd, data, n, at))
WRITER(writev, n, n /= 2, (int fd, const struct iovec *data, int n), (fd, data, n))
WRITER(sendfile, n, n /= 2, (int fd, int from, off_t *at, size_t n), (fd, from, at, n))
WRITER(sendfile64, n, n /= 2, (int fd, int from, off64_t *at, size_t n), (fd, from, at, n))

/* Opening counts where it may write; it needs room where it makes the file. */
static enum act open_hit(int at, const char *path, int flags) {
    if (!(flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) || !in_path(at, path)) return PASS;
    struct stat found;
    int saved = errno, makes = (flags & O_CREAT) && fstatat(at, path, &found, 0) != 0;
    errno = saved;
    return hit(OPEN, makes);
}

#define OPENER(name, at, types, names, last)                      \
    int name types {                                              \
        static int (*real) types;                                 \
        mode_t bits = 0;                                          \
        if (!real) real = (int (*) types)dlsym(RTLD_NEXT, #name); \
        if (flags & (O_CREAT | __O_TMPFILE)) {                    \
            va_list rest;                                         \
            va_start(rest, last);                                 \
            bits = va_arg(rest, mode_t);                          \
            va_end(rest);                                         \
        }                                                         \
        enum act act = open_hit(at, path, flags);                 \
        if (act == ERROR) return -1;                              \
        int fd = real names;                                      \
        after(act);                                               \
        return fd;                                                \
    }

OPENER(open, AT_FDCWD, (const char *path, int flags, ...), (path, flags, bits), flags)
OPENER(open64, AT_FDCWD, (const char *path, int flags, ...), (path, flags, bits), flags)
OPENER(openat, folder, (int folder, const char *path, int flags, ...), (folder, path, flags, bits), flags)
OPENER(openat64, folder, (int folder, const char *path, int flags, ...), (folder, path, flags, bits), flags)

/* Streams, as C++ libraries write: their buffers reach the disk at fwrite, fflush or fclose. */
static FILE *open_stream(FILE *(*real)(const char *, const char *), const char *path, const char *how) {
    int flags = how[0] == 'r' ? (strchr(how, '+') ? O_RDWR : O_RDONLY) : O_WRONLY | O_CREAT;
    enum act act = open_hit(AT_FDCWD, path, flags);
    if (act == ERROR) return NULL;
    FILE *file = real(path, how);
    after(act);
    return file;
}
FILE *fopen(const char *path, const char *how) {
    REAL(FILE *, fopen, const char *, const char *);
    return open_stream(real, path, how);
}
FILE *fopen64(const char *path, const char *how) {
    REAL(FILE *, fopen64, const char *, const char *);
    return open_stream(real, path, how);
}
size_t fwrite(const void *data, size_t size, size_t n, FILE *file) {
    REAL(size_t, fwrite, const void *, size_t, size_t, FILE *);
    if (!armed || !in_fd(fileno(file))) return real(data, size, n, file);
    enum act act = hit(WRITE, 1);
    if (act == ERROR) return 0;
    size_t done = real(data, size, act == HALF ? n / 2 : n, file);
    if (act == HALF && mode == TORN) fflush(file);
    after(act);
    return done;
}
int fclose(FILE *file) {
    REAL(int, fclose, FILE *);
    char path[4096];
    int fd = fileno(file);
    if (!armed || (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY || !in_fd(fd)) return real(file);
    path_of(fd, path);
    enum act act = hit(CLOSE, 1);
    int why = errno, done = real(file);
    struct stat found;
    if (act == ERROR && stat(path, &found) == 0 && found.st_size) {
        off_t lost = found.st_size % 4096 ? found.st_size % 4096 : 4096; /* the last buffer never came */
        if (truncate(path, found.st_size - (lost < found.st_size ? lost : found.st_size)) == 0) done = EOF;
    }
    after(act);
    errno = why;
    return act == ERROR ? EOF : done;
}
