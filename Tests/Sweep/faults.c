/* Loaded by LD_PRELOAD: makes calls on files below one directory fail.

   MCFS_FAULT_DIRECTORY  absolute, without links; calls elsewhere pass and do not count
   MCFS_FAULT_EXCEPT     what in it passes and does not count, too: beginnings of names right below it, with commas
   MCFS_FAULT_CALLS      names of calls that count, with commas (see `counts`); unset: all
   MCFS_FAULT_AT         the first that fails, from 1; 0 or unset: none
   MCFS_FAULT_FOREVER    1: all after it that count, too
   MCFS_FAULT_ERRNO      what they fail with; negative: the signal that ends the process instead
   MCFS_FAULT_LOG        a file that gets a line for each that counts: its name, what it was made on, "!" where it failed */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char *directory, *except, *calls;
static long fails_at;
static int is_forever, error_number, log_descriptor = -1;
static atomic_long made;

__attribute__((constructor)) static void begin(void) {
    const char *value;
    except = getenv("MCFS_FAULT_EXCEPT");
    calls = getenv("MCFS_FAULT_CALLS");
    fails_at = (value = getenv("MCFS_FAULT_AT")) ? atol(value) : 0;
    is_forever = (value = getenv("MCFS_FAULT_FOREVER")) && *value == '1';
    error_number = (value = getenv("MCFS_FAULT_ERRNO")) ? atoi(value) : EIO;
    if ((value = getenv("MCFS_FAULT_LOG"))) log_descriptor = open(value, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    /* Last: nothing counts before it is known. */
    directory = getenv("MCFS_FAULT_DIRECTORY");
}

/* What comes after the directory in the path; NULL where it lies elsewhere. */
static const char *below(const char *path) {
    size_t length = directory ? strlen(directory) : 0;
    if (length == 0 || strncmp(path, directory, length) != 0) return NULL;
    return path[length] == '/' ? path + length + 1 : path[length] == 0 ? "." : NULL;
}

static int is_excepted(const char *inside) {
    for (const char *at = except; at && *at; at += strspn(at, ",")) {
        size_t length = strcspn(at, ",");
        if (strncmp(inside, at, length) == 0) return 1;
        at += length;
    }
    return 0;
}

static int is_counted(const char *name) {
    size_t length = strlen(name);
    if (!calls) return 1;
    for (const char *at = calls; (at = strstr(at, name)); at += length)
        if ((at == calls || at[-1] == ',') && (at[length] == 0 || at[length] == ',')) return 1;
    return 0;
}

/* Whether the call is to fail; errno is set then. */
static int fails(const char *name, int at, const char *path) {
    char place[2 * PATH_MAX] = "", link[64], line[2 * PATH_MAX + 64];
    const char *inside;
    int error = errno;
    if (!directory || !is_counted(name)) return 0;
    if (path && strncmp(path, "/proc/self/fd/", 14) == 0) {
        /* What a descriptor leads to, or a name in it. */
        char *rest;
        at = (int)strtol(path + 14, &rest, 10);
        path = *rest == '/' ? rest + 1 : NULL;
    }
    if (!path || *path != '/') {
        snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t count = readlink(link, place, PATH_MAX);
        if (count < 0) count = 0;
        place[count] = 0;
        if (path && *path) snprintf(place + count, sizeof place - count, "/%s", path);
        path = place;
    }
    inside = below(path);
    errno = error;
    if (!inside || is_excepted(inside)) return 0;
    long number = atomic_fetch_add(&made, 1) + 1;
    int is_failing = fails_at > 0 && (is_forever ? number >= fails_at : number == fails_at);
    if (log_descriptor >= 0) {
        int count = snprintf(line, sizeof line, "%s %s%s\n", name, inside, is_failing ? " !" : "");
        if (syscall(SYS_write, log_descriptor, line, (size_t)count) < 0) abort();
    }
    if (is_failing && error_number < 0) {
        kill(getpid(), -error_number);
        for (;;) pause();
    }
    errno = is_failing ? error_number : error;
    return is_failing;
}

#define REAL(name) ((typeof(&name))real(#name))
static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

/* CALL(what it counts as, what it returns, its name, parameters, arguments, descriptor, path) */
#define CALL(kind, result, name, parameters, arguments, at, path) \
    result name parameters { return fails(kind, at, path) ? -1 : REAL(name) arguments; }

CALL("pwrite", ssize_t, pwrite, (int fd, const void *bytes, size_t count, off_t offset), (fd, bytes, count, offset), fd, NULL)
CALL("pwrite", ssize_t, pwrite64, (int fd, const void *bytes, size_t count, off64_t offset), (fd, bytes, count, offset), fd, NULL)
CALL("write", ssize_t, write, (int fd, const void *bytes, size_t count), (fd, bytes, count), fd, NULL)
CALL("write", ssize_t, pwritev, (int fd, const struct iovec *parts, int count, off_t offset), (fd, parts, count, offset), fd, NULL)
CALL("write", ssize_t, pwritev64, (int fd, const struct iovec *parts, int count, off64_t offset), (fd, parts, count, offset), fd, NULL)
CALL("copy", ssize_t, copy_file_range, (int from, off64_t *in, int to, off64_t *out, size_t count, unsigned flags), (from, in, to, out, count, flags), to, NULL)
CALL("pread", ssize_t, pread, (int fd, void *bytes, size_t count, off_t offset), (fd, bytes, count, offset), fd, NULL)
CALL("pread", ssize_t, pread64, (int fd, void *bytes, size_t count, off64_t offset), (fd, bytes, count, offset), fd, NULL)
CALL("sync", int, fsync, (int fd), (fd), fd, NULL)
CALL("sync", int, fdatasync, (int fd), (fd), fd, NULL)
CALL("sync", int, syncfs, (int fd), (fd), fd, NULL)
CALL("sync", int, sync_file_range, (int fd, off64_t offset, off64_t count, unsigned flags), (fd, offset, count, flags), fd, NULL)
CALL("truncate", int, ftruncate, (int fd, off_t size), (fd, size), fd, NULL)
CALL("truncate", int, ftruncate64, (int fd, off64_t size), (fd, size), fd, NULL)
CALL("allocate", int, fallocate, (int fd, int mode, off_t offset, off_t count), (fd, mode, offset, count), fd, NULL)
CALL("allocate", int, fallocate64, (int fd, int mode, off64_t offset, off64_t count), (fd, mode, offset, count), fd, NULL)
CALL("rename", int, renameat, (int from, const char *old, int to, const char *new), (from, old, to, new), to, new)
CALL("rename", int, renameat2, (int from, const char *old, int to, const char *new, unsigned flags), (from, old, to, new, flags), to, new)
CALL("rename", int, rename, (const char *old, const char *new), (old, new), AT_FDCWD, new)
CALL("rename", int, linkat, (int from, const char *old, int to, const char *new, int flags), (from, old, to, new, flags), to, new)
CALL("unlink", int, unlinkat, (int at, const char *path, int flags), (at, path, flags), at, path)
CALL("unlink", int, unlink, (const char *path), (path), AT_FDCWD, path)
CALL("mkdir", int, mkdirat, (int at, const char *path, mode_t mode), (at, path, mode), at, path)
CALL("mkdir", int, mkdir, (const char *path, mode_t mode), (path, mode), AT_FDCWD, path)
CALL("make", int, symlinkat, (const char *text, int at, const char *path), (text, at, path), at, path)
CALL("make", int, mknodat, (int at, const char *path, mode_t mode, dev_t device), (at, path, mode, device), at, path)
CALL("mode", int, chmod, (const char *path, mode_t mode), (path, mode), AT_FDCWD, path)
CALL("mode", int, fchmod, (int fd, mode_t mode), (fd, mode), fd, NULL)
CALL("mode", int, fchmodat, (int at, const char *path, mode_t mode, int flags), (at, path, mode, flags), at, path)
CALL("owner", int, fchown, (int fd, uid_t user, gid_t group), (fd, user, group), fd, NULL)
CALL("owner", int, fchownat, (int at, const char *path, uid_t user, gid_t group, int flags), (at, path, user, group, flags), at, path)
CALL("attribute", int, setxattr, (const char *path, const char *name, const void *value, size_t size, int flags), (path, name, value, size, flags), AT_FDCWD, path)
CALL("attribute", int, lsetxattr, (const char *path, const char *name, const void *value, size_t size, int flags), (path, name, value, size, flags), AT_FDCWD, path)
CALL("attribute", int, removexattr, (const char *path, const char *name), (path, name), AT_FDCWD, path)
CALL("attribute", int, lremovexattr, (const char *path, const char *name), (path, name), AT_FDCWD, path)
CALL("stat", int, fstat, (int fd, struct stat *status), (fd, status), fd, NULL)
CALL("stat", int, fstatat, (int at, const char *path, struct stat *status, int flags), (at, path, status, flags), at, path)
CALL("stat", int, statx, (int at, const char *path, int flags, unsigned mask, struct statx *status), (at, path, flags, mask, status), at, path)
CALL("times", int, futimens, (int fd, const struct timespec times[2]), (fd, times), fd, NULL)
CALL("times", int, utimensat, (int at, const char *path, const struct timespec times[2], int flags), (at, path, times, flags), at, path)

DIR *fdopendir(int fd) { return fails("list", fd, NULL) ? NULL : REAL(fdopendir)(fd); }

/* readdir(3) tells an error from the end by errno alone. */
struct dirent *readdir(DIR *stream) { return fails("list", dirfd(stream), NULL) ? NULL : REAL(readdir)(stream); }
struct dirent64 *readdir64(DIR *stream) { return fails("list", dirfd(stream), NULL) ? NULL : REAL(readdir64)(stream); }

/* Opening what may be made is a call of its own: it can fail for lack of space. */
#define OPEN(name, parameters, arguments, at) \
    int name parameters { \
        mode_t mode = 0; \
        int makes = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE; \
        if (makes) { \
            va_list rest; \
            va_start(rest, flags); \
            mode = va_arg(rest, mode_t); \
            va_end(rest); \
        } \
        return fails(makes ? "create" : "open", at, path) ? -1 : REAL(name) arguments; \
    }
OPEN(openat, (int at, const char *path, int flags, ...), (at, path, flags, mode), at)
OPEN(openat64, (int at, const char *path, int flags, ...), (at, path, flags, mode), at)
OPEN(open, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
