#define _GNU_SOURCE
#include "CLinux.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <unistd.h>

int mcfs_openat(int directory, const char *path, int flags, mode_t mode) {
    return openat(directory, path, flags, mode);
}

int mcfs_punch_hole(int fd, off_t offset, off_t length) {
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
}

int mcfs_renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned int flags) {
    return renameat2(from_directory, from, to_directory, to, flags);
}

int mcfs_syncfs(int fd) { return syncfs(fd); }

void mcfs_raise_open_files(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int mcfs_is_on_overlay(int fd) {
    struct statfs status;
    return fstatfs(fd, &status) == 0 && status.f_type == OVERLAYFS_SUPER_MAGIC;
}

int mcfs_ioctl(int fd, unsigned long request, void *argument) { return ioctl(fd, request, argument); }

int mcfs_name_thread(const char *name) { return pthread_setname_np(pthread_self(), name); }

void mcfs_trim_heap(void) { malloc_trim(0); }

void mcfs_limit_heaps(int count) { mallopt(M_ARENA_MAX, count); }
