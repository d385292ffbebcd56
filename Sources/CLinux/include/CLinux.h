#pragma once

/* What Swift's Glibc module lacks: variadic calls and flags behind feature macros. Every function
   returns what the system call returns and leaves errno to the caller. */

#include <stdint.h>
#include <sys/types.h>

/* openat(2) is variadic in Swift's eyes. */
int mcfs_openat(int directory, const char *path, int flags, mode_t mode);
/* fallocate(2) with FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE. */
int mcfs_punch_hole(int fd, off_t offset, off_t length);
/* renameat2(2). */
int mcfs_renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned int flags);
/* syncfs(2) of the file system that fd is on. */
int mcfs_syncfs(int fd);
/* setrlimit(2): as many open files as the process may have at all. */
void mcfs_raise_open_files(void);
/* Whether fd is on an overlay file system; fstatfs(2). */
int mcfs_is_on_overlay(int fd);
/* ioctl(2) with a pointer argument. */
int mcfs_ioctl(int fd, unsigned long request, void *argument);
/* pthread_setname_np(3) of the calling thread: at most 15 bytes. */
int mcfs_name_thread(const char *name);
/* malloc_trim(3): gives free memory back to the system. */
void mcfs_trim_heap(void);
/* mallopt(3) with M_ARENA_MAX: at most so many heaps, whatever the number of threads. */
void mcfs_limit_heaps(int count);
