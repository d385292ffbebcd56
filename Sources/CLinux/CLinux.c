#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

const int mcfs_o_noatime = O_NOATIME;
const int mcfs_o_path = O_PATH;
const int mcfs_o_tmpfile = O_TMPFILE;
const int mcfs_at_empty_path = AT_EMPTY_PATH;
const unsigned int mcfs_rename_noreplace = RENAME_NOREPLACE;
const unsigned int mcfs_rename_exchange = RENAME_EXCHANGE;
const int mcfs_seek_data = SEEK_DATA;
const int mcfs_seek_hole = SEEK_HOLE;
const int mcfs_xattr_create = XATTR_CREATE;
const int mcfs_xattr_replace = XATTR_REPLACE;
const long mcfs_utime_now = UTIME_NOW;
const long mcfs_utime_omit = UTIME_OMIT;

int mcfs_openat(int directory, const char *path, int flags, mode_t mode) {
    return openat(directory, path, flags, mode);
}

int mcfs_punch_hole(int fd, off_t offset, off_t length) {
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
}

int mcfs_fallocate(int fd, int mode, off_t offset, off_t length) { return fallocate(fd, mode, offset, length); }

ssize_t mcfs_copy_file_range(int from, off_t *from_offset, int to, off_t *to_offset, size_t count) {
    return copy_file_range(from, from_offset, to, to_offset, count, 0);
}

int mcfs_stat_descriptor(int fd, struct stat *status) { return fstatat(fd, "", status, AT_EMPTY_PATH); }

ssize_t mcfs_getxattr(const char *path, const char *name, void *value, size_t size, int follow) {
    return (follow ? getxattr : lgetxattr)(path, name, value, size);
}

ssize_t mcfs_listxattr(const char *path, char *list, size_t size, int follow) {
    return (follow ? listxattr : llistxattr)(path, list, size);
}

int mcfs_setxattr(const char *path, const char *name, const void *value, size_t size, int flags, int follow) {
    return (follow ? setxattr : lsetxattr)(path, name, value, size, flags);
}

int mcfs_removexattr(const char *path, const char *name, int follow) {
    return (follow ? removexattr : lremovexattr)(path, name);
}

/* The system calls change the calling thread alone; glibc's wrappers of capset do not exist. */
static int raise_permitted(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &header, data) != 0) return -1;
    for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) data[i].effective = data[i].permitted;
    return (int)syscall(SYS_capset, &header, data);
}

int mcfs_leave_umask(void) {
    static _Thread_local int is_done;
    if (is_done) return 0;
    /* umask(2) belongs to all threads that share their working directory. Where a container forbids a thread to leave
       the others, all of them go without: the daemon names the mode of whatever it makes. */
    unshare(CLONE_FS);
    umask(0);
    is_done = 1;
    return 0;
}

int mcfs_assume_owner(uid_t uid, gid_t gid) {
    setfsgid(gid);
    setfsuid(uid);
    /* They say nothing about success but what they are asked next. */
    if ((uid_t)setfsuid(-1) != uid || (gid_t)setfsgid(-1) != gid) {
        mcfs_resume_owner();
        errno = EPERM;
        return -1;
    }
    /* Leaving user 0 took away what overrides permissions (capabilities(7)). */
    if (uid != 0 && raise_permitted() != 0) {
        mcfs_resume_owner();
        return -1;
    }
    return 0;
}

void mcfs_resume_owner(void) {
    setfsuid(0);
    setfsgid(0);
}

int mcfs_renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned int flags) {
    return renameat2(from_directory, from, to_directory, to, flags);
}

int mcfs_syncfs(int fd) { return syncfs(fd); }

void mcfs_raise_open_files(void) {
    const struct rlimit wanted = {.rlim_cur = 1 << 20, .rlim_max = 1 << 20};
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    if (limit.rlim_max < wanted.rlim_max && setrlimit(RLIMIT_NOFILE, &wanted) == 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int mcfs_open_files_max(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT32_MAX) return INT32_MAX;
    return (int)limit.rlim_cur;
}

void mcfs_keep_secrets(void) {
    const struct rlimit none = {0};
    prctl(PR_SET_DUMPABLE, 0);
    setrlimit(RLIMIT_CORE, &none);
    const int fatal[] = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGQUIT, SIGSEGV, SIGTRAP};
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) signal(fatal[i], SIG_DFL);
}

int mcfs_is_on_overlay(int fd) {
    struct statfs status;
    return fstatfs(fd, &status) == 0 && status.f_type == OVERLAYFS_SUPER_MAGIC;
}

int mcfs_ioctl(int fd, unsigned long request, void *argument) { return ioctl(fd, request, argument); }

int mcfs_ioctl_dropping_set_id(int fd, unsigned long request, void *argument) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    const uint32_t keeps_bits = CAP_TO_MASK(CAP_FSETID);
    int is_without = 0;
    if (syscall(SYS_capget, &header, data) == 0 && data[0].effective & keeps_bits) {
        data[0].effective &= ~keeps_bits;
        is_without = syscall(SYS_capset, &header, data) == 0;
    }
    int result = ioctl(fd, request, argument), error = errno;
    if (is_without) {
        data[0].effective |= keeps_bits;
        syscall(SYS_capset, &header, data);
    }
    errno = error;
    return result;
}

ssize_t mcfs_read_request(int fd, void *buffer, size_t size, void *unused) {
    (void)unused;
    ssize_t count = read(fd, buffer, size);
    if (count < 0 && errno != ENODEV && errno != ENOENT && errno != EINTR && errno != EAGAIN)
        /* libfuse writes what it does not know to standard error, past the log, and does not take it for the end. */
        errno = errno == ENOMEM || errno == EIO || errno == EFAULT || errno == EINVAL ? EAGAIN : ENODEV;
    /* struct fuse_in_header of linux/fuse.h: len, opcode. */
    uint32_t *opcode = (uint32_t *)buffer + 1;
    if (count >= 8 && *opcode == 51) *opcode = 35;
    return count;
}

ssize_t mcfs_read_cached(int fd, void *buffer, size_t size, off_t offset) {
    struct iovec piece = {.iov_base = buffer, .iov_len = size};
    return preadv2(fd, &piece, 1, offset, RWF_NOWAIT);
}

int mcfs_clone_with_access_times(int directory, int strict) {
    /* open_tree(OPEN_TREE_CLONE), mount_setattr(MOUNT_ATTR_STRICTATIME or MOUNT_ATTR_NOATIME instead of MOUNT_ATTR__ATIME), which
       older headers lack. */
    struct {
        uint64_t set, clear, propagation, user_namespace;
    } attributes = {.set = strict ? 0x20 : 0x10, .clear = 0x70};
    int mount = (int)syscall(428, directory, "", AT_EMPTY_PATH | O_CLOEXEC | 1);
    if (mount < 0) return -1;
    int fd = -1;
    if (syscall(442, mount, "", AT_EMPTY_PATH, &attributes, sizeof attributes) == 0)
        /* What open_tree gives is for paths alone. */
        fd = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = errno;
    close(mount);
    errno = error;
    return fd;
}

int mcfs_open_in(int tree, int fd, int flags) {
    union {
        struct file_handle handle;
        char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
    } file = {.handle.handle_bytes = MAX_HANDLE_SZ};
    int mount;
    if (name_to_handle_at(fd, "", &file.handle, &mount, AT_EMPTY_PATH) != 0) return -1;
    return open_by_handle_at(tree, &file.handle, flags | O_CLOEXEC);
}

int mcfs_is_held_for_writing(int fd) {
    /* Who opens the file for writing in between waits for the end of the lease, and its holder is told by a signal, which
       would end the process. */
    sigset_t signals, before;
    sigemptyset(&signals);
    sigaddset(&signals, SIGIO);
    pthread_sigmask(SIG_BLOCK, &signals, &before);
    struct f_owner_ex owner = {.type = F_OWNER_TID, .pid = (pid_t)syscall(SYS_gettid)};
    int is_held = fcntl(fd, F_SETOWN_EX, &owner) != 0 || fcntl(fd, F_SETLEASE, F_RDLCK) != 0;
    if (!is_held) {
        const struct timespec none = {0};
        fcntl(fd, F_SETLEASE, F_UNLCK);
        sigtimedwait(&signals, NULL, &none);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return is_held;
}

int mcfs_answer_request(int fd, uint64_t unique, int error, const void *body, size_t size) {
    /* struct fuse_out_header of linux/fuse.h, and what follows it. */
    struct {
        uint32_t length;
        int32_t error;
        uint64_t unique;
        char body[64];
    } answer = {.length = 16 + (uint32_t)size, .error = error, .unique = unique};
    if (size > sizeof answer.body) abort();
    if (size > 0) memcpy(answer.body, body, size);
    return write(fd, &answer, answer.length) < 0 ? -1 : 0;
}

int mcfs_name_thread(const char *name) { return pthread_setname_np(pthread_self(), name); }

void mcfs_begin_thread(const char *name) {
    mcfs_name_thread(name);
    /* Of threads, on Linux: 0 is the calling one, the process's number its first one. */
    errno = 0;
    int nice_value = getpriority(PRIO_PROCESS, (id_t)getpid());
    if (errno == 0 && nice_value != getpriority(PRIO_PROCESS, 0)) setpriority(PRIO_PROCESS, 0, nice_value);
}

void mcfs_trim_heap(void) { malloc_trim(0); }

void mcfs_limit_heaps(int count, int block_size) {
    mallopt(M_ARENA_MAX, count);
    mallopt(M_MMAP_THRESHOLD, block_size);
}

int mcfs_mount_id(int fd, uint64_t *id) {
    /* STATX_MNT_ID_UNIQUE, which the headers of older systems lack. */
    const unsigned int unique = 0x4000;
    struct statx status;
    if (statx(fd, "", AT_EMPTY_PATH, unique, &status) != 0) return -1;
    if ((status.stx_mask & unique) == 0) {
        errno = ENOSYS;
        return -1;
    }
    *id = status.stx_mnt_id;
    return 0;
}

int mcfs_file_identity(int fd, uint64_t *inode, uint64_t *birth) {
    struct statx status;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &status) != 0) return -1;
    *inode = status.stx_ino;
    *birth = (status.stx_mask & STATX_BTIME) == 0
                 ? 0
                 : (uint64_t)status.stx_btime.tv_sec * 1000000000u + status.stx_btime.tv_nsec;
    return 0;
}

int mcfs_begin_writeback(int fd) { return sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE); }
