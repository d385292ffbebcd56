#pragma once

/* Does not define _FILE_OFFSET_BITS: Swift's Glibc module has its own idea of struct flock; off_t has 64 bits anyway. */
#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 14)
#include <errno.h>
#include <fuse3/fuse_lowlevel.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <unistd.h>

/* umount2(2): its flags are an enumeration that Swift does not take as an int. */
static inline int mcfs_unmount(const char *path) { return umount2(path, UMOUNT_NOFOLLOW); }
/* mount(2) with MS_REMOUNT. */
static inline int mcfs_remount(const char *path, unsigned long flags) {
    return mount(NULL, path, NULL, flags | MS_REMOUNT, NULL);
}
static inline int mcfs_unmount_force(const char *path) {
    return umount2(path, UMOUNT_NOFOLLOW | MNT_FORCE | MNT_DETACH);
}
