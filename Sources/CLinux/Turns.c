#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* Requests that are answered from memory or by one look at a directory; linux/fuse.h numbers them. */
static int is_short(uint32_t opcode) {
    switch (opcode) {
    case 1:  /* LOOKUP */
    case 2:  /* FORGET */
    case 3:  /* GETATTR */
    case 4:  /* SETATTR */
    case 5:  /* READLINK */
    case 6:  /* SYMLINK */
    case 8:  /* MKNOD */
    case 9:  /* MKDIR */
    case 10: /* UNLINK */
    case 11: /* RMDIR */
    case 12: /* RENAME */
    case 13: /* LINK */
    case 14: /* OPEN */
    case 17: /* STATFS */
    case 18: /* RELEASE */
    case 21: /* SETXATTR */
    case 22: /* GETXATTR */
    case 23: /* LISTXATTR */
    case 24: /* REMOVEXATTR */
    case 25: /* FLUSH */
    case 27: /* OPENDIR */
    case 29: /* RELEASEDIR */
    case 34: /* ACCESS */
    case 35: /* CREATE */
    case 36: /* INTERRUPT */
    case 42: /* BATCH_FORGET */
    case 45: /* RENAME2 */
        return 1;
    default:
        return 0;
    }
}

/* How long a thread that has the turn may be away with a short request before another one gets it. */
static const long patience_nanoseconds = 2000000;

/* So many short requests in a row that were not the only ones show that there is work for several threads. */
static const int crowd = 4;

enum { READING, AWAY, TAKEN };

struct mcfs_turns {
    /* 1 while nobody has the turn. */
    sem_t turn;
    /* Wakes the watch. */
    sem_t activity;
    /* Of the thread that has the turn. */
    atomic_int state;
    /* Counts its short requests. */
    atomic_uint requests;
    atomic_int is_watching;
    atomic_int is_ending;
    pthread_t watch;
    /* Of whom they are. */
    const void *owner;
    struct mcfs_turns *next;
};

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mcfs_turns *list;

/* A thread reads for one mount all its life. */
static _Thread_local struct mcfs_turns *own;
static _Thread_local int has_turn;
static _Thread_local int crowded;

static struct mcfs_turns *find(const void *owner) {
    pthread_mutex_lock(&list_lock);
    struct mcfs_turns *turns = list;
    while (turns != NULL && turns->owner != owner) turns = turns->next;
    pthread_mutex_unlock(&list_lock);
    return turns;
}

static void *watch(void *argument) {
    struct mcfs_turns *turns = argument;
    pthread_setname_np(pthread_self(), "mcfs-turns");
    while (!atomic_load(&turns->is_ending)) {
        unsigned before = atomic_load(&turns->requests);
        struct timespec time = {.tv_nsec = patience_nanoseconds};
        nanosleep(&time, NULL);
        if (atomic_load(&turns->requests) == before) {
            int away = AWAY;
            if (atomic_compare_exchange_strong(&turns->state, &away, TAKEN)) {
                sem_post(&turns->turn);
            } else {
                /* Nothing happens: sleep until something does. A request that comes in between is seen by the second look. */
                atomic_store(&turns->is_watching, 0);
                if (atomic_load(&turns->requests) == before && !atomic_load(&turns->is_ending)) {
                    while (sem_wait(&turns->activity) != 0 && errno == EINTR) {}
                }
                atomic_store(&turns->is_watching, 1);
            }
        }
    }
    return NULL;
}

void mcfs_turns_begin(const void *owner) {
    struct mcfs_turns *turns = calloc(1, sizeof *turns);
    if (turns == NULL) return;
    turns->owner = owner;
    sem_init(&turns->turn, 0, 1);
    sem_init(&turns->activity, 0, 0);
    atomic_store(&turns->is_watching, 1);
    if (pthread_create(&turns->watch, NULL, watch, turns) != 0) {
        free(turns);
        return;
    }
    pthread_mutex_lock(&list_lock);
    turns->next = list;
    list = turns;
    pthread_mutex_unlock(&list_lock);
}

void mcfs_turns_end(const void *owner) {
    pthread_mutex_lock(&list_lock);
    struct mcfs_turns **place = &list;
    while (*place != NULL && (*place)->owner != owner) place = &(*place)->next;
    struct mcfs_turns *turns = *place;
    if (turns != NULL) *place = turns->next;
    pthread_mutex_unlock(&list_lock);
    if (turns == NULL) return;
    atomic_store(&turns->is_ending, 1);
    sem_post(&turns->activity);
    pthread_join(turns->watch, NULL);
    sem_destroy(&turns->turn);
    sem_destroy(&turns->activity);
    free(turns);
}

/* libfuse 3.14 does not know TMPFILE; it is a CREATE whose name is "/", which no other request has. */
static void translate(void *buffer, ssize_t count) {
    uint32_t *opcode = (uint32_t *)buffer + 1;
    if (count >= 8 && *opcode == 51) *opcode = 35;
}

ssize_t mcfs_turns_read(int fd, void *buffer, size_t size, void *owner) {
    if (own == NULL) own = find(owner);
    struct mcfs_turns *turns = own;
    if (turns == NULL) {
        ssize_t count = read(fd, buffer, size);
        translate(buffer, count);
        return count;
    }
    if (has_turn) {
        int away = AWAY;
        /* Else the watch gave the turn to another thread meanwhile. */
        has_turn = atomic_compare_exchange_strong(&turns->state, &away, READING);
    }
    if (!has_turn) {
        while (sem_wait(&turns->turn) != 0) {
            if (errno != EINTR) return -1;
        }
        has_turn = 1;
        atomic_store(&turns->state, READING);
    }
    ssize_t count = read(fd, buffer, size);
    translate(buffer, count);
    struct pollfd more = {.fd = fd, .events = POLLIN};
    crowded = poll(&more, 1, 0) == 0 ? 0 : crowded + 1;
    if (count >= 8 && is_short(((uint32_t *)buffer)[1]) && crowded < crowd) {
        atomic_fetch_add(&turns->requests, 1);
        atomic_store(&turns->state, AWAY);
        if (!atomic_load(&turns->is_watching)) {
            int watching = 0;
            if (atomic_compare_exchange_strong(&turns->is_watching, &watching, 1)) sem_post(&turns->activity);
        }
    } else {
        int error = errno;
        has_turn = 0;
        sem_post(&turns->turn);
        errno = error;
    }
    return count;
}
