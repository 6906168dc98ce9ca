/* Stands between the server and its disk (LD_PRELOAD), and writes down what it does there.
 *
 *   server ── open, write, fsync, rename ... ──► here ──► the system
 *                                                 └─────► the record, in order
 *
 * From the record `disk.rs` tells what a disk would hold had the power failed after any of these calls.
 * Only files below DISK_ROOT are looked at. fsync is not passed on: the record says what it means.
 * The faults of DISK_FAULTS, a file that the test writes to, are read at each call.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { OPENED = 1, CREATED, WRITTEN, CUT, SYNCED, SYNC_FAILED, RENAMED, REMOVED, FOLDER_MADE, BEGUN };

struct record {
    uint32_t magic, kind;
    uint64_t time_ns, node, offset, since;
    uint32_t n_first, n_second; /* bytes that follow: two paths, or data */
};

/* What goes wrong, as disk.rs writes it. */
struct faults {
    char path[64];          /* part of the path of what it is about; with '/' at the end a folder */
    uint32_t sync_errno;    /* fsync fails with this */
    uint32_t write_errno;   /* write fails with this, once `n_bytes_left` are written */
    uint64_t n_bytes_left;
    uint64_t n_bytes_max;   /* of one write; 0: no limit */
    uint64_t sync_us;       /* how long fsync takes */
};

#define FDS 4096
static struct { char *path; uint64_t node; } fds[FDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static char root[PATH_MAX];
static size_t n_root;
static int record_fd = -1;
static uint64_t n_records;
static volatile struct faults *faults;
static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_rename)(const char *, const char *);
static int (*real_unlink)(const char *);
static int (*real_mkdir)(const char *, mode_t);
static int (*real_close)(int);

/* The whole path of a file, if it lies below the root. */
static int below(const char *path, char whole[PATH_MAX]) {
    if (record_fd < 0) return 0;
    size_t n = strlen(path);
    if (path[0] == '/') {
        if (n >= PATH_MAX) return 0;
        memcpy(whole, path, n + 1);
    } else {
        if (!getcwd(whole, PATH_MAX)) return 0;
        size_t n_folder = strlen(whole);
        if (n_folder + n + 2 > PATH_MAX) return 0;
        whole[n_folder] = '/';
        memcpy(whole + n_folder + 1, path, n + 1);
    }
    while ((n = strlen(whole)) > 1 && (whole[n - 1] == '/' || whole[n - 1] == '.')) {
        if (whole[n - 1] == '.' && whole[n - 2] != '/') break;
        whole[n - 1] = 0;
    }
    return !strncmp(whole, root, n_root) && (whole[n_root] == '/' || !whole[n_root]);
}

static int watched(int fd) { return fd >= 0 && fd < FDS && fds[fd].path; }

static int is_faulty(const char *path) {
    if (!faults) return 0;
    const char *part = (const char *)faults->path;
    size_t n_part = strlen(part), n = strlen(path);
    if (n_part && part[n_part - 1] == '/')
        return n + 1 >= n_part && !strncmp(path + n + 1 - n_part, part, n_part - 1);
    return strstr(path, part) != 0;
}

/* Under the lock. */
static void note(struct record record, const void *first, size_t n_first, const void *second,
                 size_t n_second) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    record.magic = 0x6b736964;
    record.time_ns = (uint64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    record.n_first = n_first;
    record.n_second = n_second;
    struct iovec parts[] = {{&record, sizeof record}, {(void *)first, n_first}, {(void *)second, n_second}};
    n_records++;
    if (real_writev(record_fd, parts, 3) < 0) abort();
}

#define NOTE(...) note((struct record){__VA_ARGS__}, whole, strlen(whole), 0, 0)

static void begin(void) {
    real_open = dlsym(RTLD_NEXT, "open64");
    real_openat = dlsym(RTLD_NEXT, "openat64");
    real_write = dlsym(RTLD_NEXT, "write");
    real_writev = dlsym(RTLD_NEXT, "writev");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_mkdir = dlsym(RTLD_NEXT, "mkdir");
    real_close = dlsym(RTLD_NEXT, "close");
    const char *told_root = getenv("DISK_ROOT"), *told_record = getenv("DISK_RECORD");
    const char *told_faults = getenv("DISK_FAULTS");
    if (!told_root || !told_record || !realpath(told_root, root)) return;
    n_root = strlen(root);
    if (told_faults) {
        int fd = real_open(told_faults, O_RDWR | O_CLOEXEC);
        void *map = mmap(0, sizeof(struct faults), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map != MAP_FAILED) faults = map;
        real_close(fd);
    }
    record_fd = real_open(told_record, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    note((struct record){.kind = BEGUN}, 0, 0, 0, 0);
    n_records = 0;
}

static void ready(void) { pthread_once(&once, begin); }

static void opened(int fd, const char *whole, int was_there, int flags) {
    struct stat facts;
    if (fd < 0 || fd >= FDS || fstat(fd, &facts)) return;
    if (!S_ISREG(facts.st_mode) && !S_ISDIR(facts.st_mode)) return;
    free(fds[fd].path);
    fds[fd].path = strdup(whole);
    fds[fd].node = facts.st_ino;
    NOTE(.kind = was_there ? OPENED : CREATED, .node = facts.st_ino);
    if (was_there && (flags & O_TRUNC)) NOTE(.kind = CUT, .node = facts.st_ino);
}

static int open_at(int folder, const char *path, int flags, mode_t mode) {
    char whole[PATH_MAX];
    ready();
    if ((folder != AT_FDCWD && path[0] != '/') || !below(path, whole))
        return real_openat(folder, path, flags, mode);
    pthread_mutex_lock(&lock);
    int was_there = !access(whole, F_OK);
    int fd = real_openat(folder, path, flags, mode), error = errno;
    opened(fd, whole, was_there, flags);
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, int); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return open_at(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return open_at(at, path, flags, mode); }

int close(int fd) {
    ready();
    if (!watched(fd)) return real_close(fd);
    pthread_mutex_lock(&lock);
    free(fds[fd].path);
    fds[fd].path = 0;
    int result = real_close(fd), error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

ssize_t write(int fd, const void *bytes, size_t n) {
    ready();
    if (!watched(fd)) return real_write(fd, bytes, n);
    pthread_mutex_lock(&lock);
    ssize_t result = -1;
    int error = 0;
    if (is_faulty(fds[fd].path)) {
        if (faults->n_bytes_max && n > faults->n_bytes_max) n = faults->n_bytes_max;
        if (faults->write_errno) {
            if (n > faults->n_bytes_left) n = faults->n_bytes_left;
            if (!n) error = faults->write_errno;
            faults->n_bytes_left -= n;
        }
    }
    if (!error) {
        result = real_write(fd, bytes, n);
        error = errno;
    }
    if (result > 0) {
        uint64_t end = lseek(fd, 0, SEEK_CUR);
        note((struct record){.kind = WRITTEN, .node = fds[fd].node, .offset = end - result}, 0, 0,
             bytes, result);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

ssize_t writev(int fd, const struct iovec *parts, int n_parts) {
    ready();
    if (!watched(fd)) return real_writev(fd, parts, n_parts);
    for (int i = 0; i < n_parts; i++)
        if (parts[i].iov_len) return write(fd, parts[i].iov_base, parts[i].iov_len);
    return 0;
}

int ftruncate64(int fd, off64_t length) {
    ready();
    if (!watched(fd)) return real_ftruncate(fd, length);
    pthread_mutex_lock(&lock);
    int result = real_ftruncate(fd, length), error = errno;
    if (!result)
        note((struct record){.kind = CUT, .node = fds[fd].node, .offset = length}, 0, 0, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int sync_file(int fd) {
    pthread_mutex_lock(&lock);
    struct record record = {.kind = SYNCED, .node = fds[fd].node, .since = n_records};
    char whole[PATH_MAX];
    strncpy(whole, fds[fd].path, PATH_MAX - 1);
    pthread_mutex_unlock(&lock);
    int error = is_faulty(whole) ? faults->sync_errno : 0;
    uint64_t us = is_faulty(whole) ? faults->sync_us : 0;
    if (us) nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, 0);
    pthread_mutex_lock(&lock);
    if (error) record.kind = SYNC_FAILED;
    note(record, whole, strlen(whole), 0, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return error ? -1 : 0;
}
int fsync(int fd) { ready(); return watched(fd) ? sync_file(fd) : real_fsync(fd); }
int fdatasync(int fd) { ready(); return watched(fd) ? sync_file(fd) : real_fdatasync(fd); }

int rename(const char *from, const char *to) {
    char whole[PATH_MAX], target[PATH_MAX];
    ready();
    if (!below(from, whole) || !below(to, target)) return real_rename(from, to);
    pthread_mutex_lock(&lock);
    int result = real_rename(from, to), error = errno;
    if (!result)
        note((struct record){.kind = RENAMED}, whole, strlen(whole), target, strlen(target));
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int unlink(const char *path) {
    char whole[PATH_MAX];
    ready();
    if (!below(path, whole)) return real_unlink(path);
    pthread_mutex_lock(&lock);
    int result = real_unlink(path), error = errno;
    if (!result) NOTE(.kind = REMOVED);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int mkdir(const char *path, mode_t mode) {
    char whole[PATH_MAX];
    ready();
    if (!below(path, whole)) return real_mkdir(path, mode);
    pthread_mutex_lock(&lock);
    int result = real_mkdir(path, mode), error = errno;
    if (!result) NOTE(.kind = FOLDER_MADE);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}
