#pragma once

/* What Swift's Glibc module lacks: variadic calls and flags behind feature macros. Every function
   returns what the system call returns and leaves errno to the caller. */

#include <stdint.h>
#include <sys/types.h>

/* Flags behind feature macros; fcntl.h, stdio.h and linux/stat.h have their meaning. */
extern const int mcfs_o_noatime;
extern const int mcfs_o_path;
extern const int mcfs_o_tmpfile;
extern const int mcfs_at_empty_path;
extern const unsigned int mcfs_rename_noreplace;
extern const unsigned int mcfs_rename_exchange;
extern const int mcfs_seek_data;
extern const int mcfs_seek_hole;
extern const int mcfs_xattr_create;
extern const int mcfs_xattr_replace;
extern const long mcfs_utime_now;
extern const long mcfs_utime_omit;

/* openat(2) is variadic in Swift's eyes. */
int mcfs_openat(int directory, const char *path, int flags, mode_t mode);
/* fallocate(2) with FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE. */
int mcfs_punch_hole(int fd, off_t offset, off_t length);
/* fallocate(2) with any mode. */
int mcfs_fallocate(int fd, int mode, off_t offset, off_t length);
/* copy_file_range(2): the disk shares the blocks where it can. */
ssize_t mcfs_copy_file_range(int from, off_t *from_offset, int to, off_t *to_offset, size_t count);
/* fstatat(2) of what fd itself is, also opened with O_PATH. */
struct stat;
int mcfs_stat_descriptor(int fd, struct stat *status);
/* getxattr(2) and its relatives; `follow`: a symbolic link at the end of the path, such as one of /proc/self/fd. */
ssize_t mcfs_getxattr(const char *path, const char *name, void *value, size_t size, int follow);
ssize_t mcfs_listxattr(const char *path, char *list, size_t size, int follow);
int mcfs_setxattr(const char *path, const char *name, const void *value, size_t size, int flags, int follow);
int mcfs_removexattr(const char *path, const char *name, int follow);
/* From now on the calling thread makes files with the mode that it asks for: its umask is its own, and 0. */
int mcfs_leave_umask(void);
/* Lets the calling thread make files as another user: they get its owner and group, as the set-group-ID bit of their
   directory wants it, while the thread keeps what it may do. Only for root; 0 or -1. */
int mcfs_assume_owner(uid_t uid, gid_t gid);
/* Takes it back. */
void mcfs_resume_owner(void);
/* renameat2(2). */
int mcfs_renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned int flags);
/* syncfs(2) of the file system that fd is on. */
int mcfs_syncfs(int fd);
/* setrlimit(2): as many open files as the process may have at all; a million where it may raise that, too. */
void mcfs_raise_open_files(void);
/* getrlimit(2): the number below which all descriptors of the process lie. */
int mcfs_open_files_max(void);
/* What the process has in memory is for nobody else: no other process of its user looks into it (PR_SET_DUMPABLE), no core is
   written, and nothing of it is printed where it ends by a fault, which ends it at once: Swift's printer of stacks goes. */
void mcfs_keep_secrets(void);
/* Whether fd is on an overlay file system; fstatfs(2). */
int mcfs_is_on_overlay(int fd);
/* ioctl(2) with a pointer argument. */
int mcfs_ioctl(int fd, unsigned long request, void *argument);
/* As mcfs_ioctl, by a thread that may not keep set-id bits meanwhile (CAP_FSETID): what the kernel writes for what it is
   given by this call takes them away, as the write of an ordinary user does. */
int mcfs_ioctl_dropping_set_id(int fd, unsigned long request, void *argument);
/* read(2) of a request from /dev/fuse; libfuse's `fuse_custom_io.read`. What ends a connection is ENODEV, and what may pass, such
   as a lack of memory, is EAGAIN. TMPFILE, which libfuse 3.14 does not know, comes as a CREATE whose name is "/", which no other request has. */
ssize_t mcfs_read_request(int fd, void *buffer, size_t size, void *unused);
/* preadv2(2) of what is in the page cache: fewer bytes where not all is, -1 where none is or the file system cannot tell. */
ssize_t mcfs_read_cached(int fd, void *buffer, size_t size, off_t offset);
/* The tree of a directory by a mount of its own, by which all that is read changes access times (`strict`), or nothing that is
   read does: a descriptor or -1. */
int mcfs_clone_with_access_times(int directory, int strict);
/* The file that `fd` is of, opened by the mount that `tree` is of: a descriptor or -1. */
int mcfs_open_in(int tree, int fd, int flags);
/* Whether anybody can write to a file by a descriptor or a map, or the file system cannot tell: 0 or 1. `fd` is for reading
   alone. */
int mcfs_is_held_for_writing(int fd);
/* Answers a request on /dev/fuse with `error`, 0 or a negative errno, and a body of at most 64 bytes; 0 or -1. One piece: the
   kernel looks up the pages of each piece. */
int mcfs_answer_request(int fd, uint64_t unique, int error, const void *body, size_t size);
/* pthread_setname_np(3) of the calling thread: at most 15 bytes. */
int mcfs_name_thread(const char *name);
/* Names the calling thread, which is new, and gives it the nice value of the process. libdispatch raises the priority of its
   workers where it may, and new threads inherit it: threads that serve would take the processor from those they serve. */
void mcfs_begin_thread(const char *name);
/* malloc_trim(3): gives free memory back to the system. */
void mcfs_trim_heap(void);
/* mallopt(3): at most so many heaps, whatever the number of threads, and blocks of that size and more in none of them: the
   system has them back when they are freed. */
void mcfs_limit_heaps(int count, int block_size);
/* The number of the mount that fd is on, which no other mount of this boot ever has; statx(2), Linux 6.8. 0 or -1. */
int mcfs_mount_id(int fd, uint64_t *id);
/* What tells a file from all others that its file system had, as far as that can tell: its number, and when it was made, in
   nanoseconds since 1970, 0 where that is not known; statx(2). 0 or -1. */
int mcfs_file_identity(int fd, uint64_t *inode, uint64_t *birth);
/* sync_file_range(2): begins to write what is dirty of a file, and waits for nothing. */
int mcfs_begin_writeback(int fd);
