/* A disk that loses what was not synced: preloaded into a process, for the files of one directory.

   Every change below SHIM_ROOT goes to the real files at once, and is noted until it is synced:
   writes and truncations with what was there before, by file; new, renamed and removed names, by
   directory.  fsync and fdatasync forget the notes of their file, or of the directory; nothing is
   really synced, since the machine stays on.  What is written through a shared mapping is compared
   with the durable image of the file.

   Bytes read from the descriptor SHIM_CONTROL are orders:
     c   power cut: of each file a random part of the unsynced changes survives (whole writes, or
         single sectors of 512 bytes), of the names those up to a random one; then the process ends
     n   the same, when one of the next syncs is asked for
     e   the next sync of a file fails with EIO, and a random part of what it was to save is lost
     f   the disk is full: what would make a file longer fails with ENOSPC
     r   there is room again

   SHIM_SEED decides what "random" is.  A sync takes up to SHIM_SYNC_US microseconds.  The process
   ends with status 99 after a cut, and says on standard error how much it took back.  Orders are carried out under the lock that every change
   takes, so a cut is one moment in time: what was answered before it was synced before it. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SECTOR 512
#define FILES_MAX 4096
#define FDS_MAX 4096
#define CUT_STATUS 99

enum { NEW_NAME, RENAMED, REMOVED };

struct change {                 /* of the content of a file */
    off_t offset, old_size, new_size;
    size_t length, old_length;  /* length 0: a truncation */
    char *now, *old;
};

struct file {
    int used, fd;               /* our own descriptor keeps the inode */
    dev_t device;
    ino_t inode;
    struct change *changes;
    size_t count, room;
    int mapped;
    char *image;                /* durable content of a mapped file */
    size_t image_size;
};

struct name_change {
    int kind;
    char from[NAME_MAX + 1], to[NAME_MAX + 1];
    unsigned kept;              /* number of the link to what was overwritten; 0: nothing was */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length;
static struct file files[FILES_MAX];
static int file_of[FDS_MAX];    /* 0: none; -1: the directory; else number + 1 */
static struct name_change *names;
static size_t name_count, name_room;
static unsigned kept_count;
static int full, fail_sync, control = -1, syncs_left = -1;
static uint64_t sync_us;
static uint64_t chance_state = 88172645463325252u;
static size_t kept_whole, torn, dropped, names_undone;

#define REAL(result, name, ...)                                   \
    static result (*real_##name)(__VA_ARGS__);                    \
    static void find_##name(void) {                               \
        if (!real_##name) real_##name = dlsym(RTLD_NEXT, #name);  \
    }
REAL(int, open64, const char *, int, ...)
REAL(ssize_t, pwrite64, int, const void *, size_t, off_t)
REAL(ssize_t, write, int, const void *, size_t)
REAL(int, ftruncate64, int, off_t)
REAL(int, fsync, int)
REAL(int, fdatasync, int)
REAL(int, rename, const char *, const char *)
REAL(int, unlink, const char *)
REAL(int, close, int)
REAL(void *, mmap64, void *, size_t, int, int, int, off_t)
REAL(int, statvfs64, const char *, struct statvfs64 *)

static void die(const char *what) {
    dprintf(2, "shim: %s: %s\n", what, strerror(errno));
    _exit(98);
}

static void *must(void *memory) {
    if (!memory) die("memory");
    return memory;
}

static uint64_t chance(uint64_t below) {
    chance_state ^= chance_state << 13;
    chance_state ^= chance_state >> 7;
    chance_state ^= chance_state << 17;
    return (chance_state >> 11) % below;
}

/* -- what belongs to us -------------------------------------------------------------------------- */

static const char *name_in_root(const char *path) {
    if (!root_length || !path || strncmp(path, root, root_length) || path[root_length] != '/')
        return NULL;
    const char *name = path + root_length + 1;
    return *name && !strchr(name, '/') ? name : NULL;
}

static struct file *file_at(int fd) {
    if (fd < 0 || fd >= FDS_MAX || file_of[fd] <= 0) return NULL;
    return &files[file_of[fd] - 1];
}

static void path_of(char *path, const char *name) {
    if (snprintf(path, PATH_MAX, "%s/%s", root, name) >= PATH_MAX) die("path");
}

static void kept_path(char *path, unsigned number) {
    if (snprintf(path, PATH_MAX, "%s.kept/%d-%u", root, getpid(), number) >= PATH_MAX) die("path");
}

static off_t size_of(int fd) {
    struct stat64 facts;
    if (fstat64(fd, &facts)) die("fstat");
    return facts.st_size;
}

static void note_fd(int fd) {
    struct stat64 facts;
    char path[64];
    if (fd >= FDS_MAX || fstat64(fd, &facts)) die("descriptor");
    int place = -1;
    for (int i = 0; i < FILES_MAX; i++) {
        if (files[i].used && files[i].inode == facts.st_ino && files[i].device == facts.st_dev) {
            file_of[fd] = i + 1;
            return;
        }
        if (!files[i].used && place < 0) place = i;
    }
    if (place < 0) die("too many files");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    find_open64();
    int own = real_open64(path, O_RDWR | O_CLOEXEC);
    if (own < 0) die("open");
    files[place] = (struct file){.used = 1, .fd = own, .device = facts.st_dev,
                                 .inode = facts.st_ino};
    file_of[fd] = place + 1;
}

static void forget_changes(struct file *file) {
    for (size_t i = 0; i < file->count; i++) {
        free(file->changes[i].now);
        free(file->changes[i].old);
    }
    file->count = 0;
}

static struct change *new_change(struct file *file) {
    if (file->count == file->room) {
        file->room = file->room ? 2 * file->room : 16;
        file->changes = must(realloc(file->changes, file->room * sizeof *file->changes));
    }
    struct change *change = &file->changes[file->count++];
    *change = (struct change){.old_size = size_of(file->fd)};
    return change;
}

static char *content(int fd, off_t offset, size_t length) {
    char *data = must(malloc(length ? length : 1));
    if (length && pread(fd, data, length, offset) != (ssize_t)length) die("pread");
    return data;
}

static void put(int fd, const char *data, size_t length, off_t offset) {
    find_pwrite64();
    while (length) {
        ssize_t done = real_pwrite64(fd, data, length, offset);
        if (done <= 0) die("pwrite");
        data += done, offset += done, length -= done;
    }
}

static void cut_to(int fd, off_t size) {
    find_ftruncate64();
    if (real_ftruncate64(fd, size)) die("ftruncate");
}

static void note_write(struct file *file, const void *data, size_t length, off_t offset) {
    if (file->mapped || !length) return;
    struct change *change = new_change(file);
    off_t overlap = change->old_size - offset;
    change->offset = offset;
    change->length = length;
    change->old_length = overlap <= 0 ? 0 : (size_t)overlap < length ? (size_t)overlap : length;
    change->old = content(file->fd, offset, change->old_length);
    change->now = must(malloc(length));
    memcpy(change->now, data, length);
}

static void note_truncate(struct file *file, off_t size) {
    if (file->mapped) return;
    struct change *change = new_change(file);
    change->offset = change->new_size = size;
    change->old_length = size < change->old_size ? change->old_size - size : 0;
    change->old = content(file->fd, size, change->old_length);
}

static struct name_change *new_name(int kind, const char *from, const char *to) {
    if (name_count == name_room) {
        name_room = name_room ? 2 * name_room : 16;
        names = must(realloc(names, name_room * sizeof *names));
    }
    struct name_change *change = &names[name_count++];
    *change = (struct name_change){.kind = kind};
    snprintf(change->from, sizeof change->from, "%s", from);
    snprintf(change->to, sizeof change->to, "%s", to);
    return change;
}

static unsigned keep(const char *name) {
    char path[PATH_MAX], kept[PATH_MAX];
    path_of(path, name);
    kept_path(kept, ++kept_count);
    if (!link(path, kept)) return kept_count;
    if (errno == ENOENT) return 0;
    die("link");
    return 0;
}

/* -- synced -------------------------------------------------------------------------------------- */

static void synced(struct file *file) {
    forget_changes(file);
    if (file->mapped) {
        free(file->image);
        file->image_size = size_of(file->fd);
        file->image = content(file->fd, 0, file->image_size);
    }
}

static void drop_removed_files(void) {
    struct stat64 facts;
    for (int i = 0; i < FILES_MAX; i++) {
        if (!files[i].used || fstat64(files[i].fd, &facts) || facts.st_nlink) continue;
        forget_changes(&files[i]);
        free(files[i].changes);
        free(files[i].image);
        find_close();
        real_close(files[i].fd);
        files[i].used = 0;
        for (int fd = 0; fd < FDS_MAX; fd++)
            if (file_of[fd] == i + 1) file_of[fd] = 0;
    }
}

static void names_synced(void) {
    char kept[PATH_MAX];
    find_unlink();
    for (size_t i = 0; i < name_count; i++) {
        if (!names[i].kept) continue;
        kept_path(kept, names[i].kept);
        real_unlink(kept);
    }
    name_count = 0;
    drop_removed_files();
}

/* -- lost ---------------------------------------------------------------------------------------- */

static void redo_in_part(int fd, const struct change *change) {
    off_t end = change->offset + change->length;
    for (off_t at = change->offset; at < end;) {
        off_t next = (at / SECTOR + 1) * SECTOR;
        if (next > end) next = end;
        if (chance(2)) put(fd, change->now + (at - change->offset), next - at, at);
        at = next;
    }
}

static void lose_changes(struct file *file) {
    for (size_t i = file->count; i-- > 0;) {
        struct change *change = &file->changes[i];
        put(file->fd, change->old, change->old_length, change->offset);
        cut_to(file->fd, change->old_size);
    }
    for (size_t i = 0; i < file->count; i++) {
        struct change *change = &file->changes[i];
        switch (chance(3)) {
        case 0:
            dropped++;
            break;
        case 1:
            kept_whole++;
            if (change->length) put(file->fd, change->now, change->length, change->offset);
            else cut_to(file->fd, change->new_size);
            break;
        default:
            torn++;
            if (change->length) redo_in_part(file->fd, change);
        }
    }
    forget_changes(file);
}

static void lose_mapped(struct file *file) {
    size_t size = size_of(file->fd);
    char *now = content(file->fd, 0, size);
    for (size_t at = 0; at < size; at += SECTOR) {
        size_t length = size - at < SECTOR ? size - at : SECTOR;
        char before[SECTOR] = {0};
        if (at < file->image_size)
            memcpy(before, file->image + at,
                   file->image_size - at < length ? file->image_size - at : length);
        if (!memcmp(before, now + at, length)) continue;
        if (chance(2)) {
            dropped++;
            put(file->fd, before, length, at);
        } else kept_whole++;
    }
    free(now);
}

static void lose_names(void) {
    char from[PATH_MAX], to[PATH_MAX], kept[PATH_MAX];
    size_t survive = chance(name_count + 1);
    find_rename();
    find_unlink();
    while (name_count > survive) {
        struct name_change *change = &names[--name_count];
        names_undone++;
        path_of(from, change->from);
        path_of(to, change->to);
        if (change->kept) kept_path(kept, change->kept);
        if (change->kind == NEW_NAME && real_unlink(from)) die("unlink");
        if (change->kind == RENAMED && real_rename(to, from)) die("rename");
        if (change->kind == RENAMED && change->kept && real_rename(kept, to)) die("rename");
        if (change->kind == REMOVED && real_rename(kept, from)) die("rename");
    }
}

static void power_cut(void) {
    for (int i = 0; i < FILES_MAX; i++) {
        if (!files[i].used) continue;
        if (files[i].mapped) lose_mapped(&files[i]);
        else lose_changes(&files[i]);
    }
    lose_names();
    dprintf(2, "shim: cut kept=%zu torn=%zu dropped=%zu names=%zu\n", kept_whole, torn, dropped,
            names_undone);
    _exit(CUT_STATUS);
}

static void *obey(void *nothing) {
    char order;
    (void)nothing;
    while (read(control, &order, 1) == 1) {
        pthread_mutex_lock(&lock);
        if (order == 'c') power_cut();
        if (order == 'n') syncs_left = chance(6);
        if (order == 'e') fail_sync = 1;
        if (order == 'f') full = 1;
        if (order == 'r') full = 0;
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

__attribute__((constructor)) static void begin(void) {
    const char *where = getenv("SHIM_ROOT"), *seed = getenv("SHIM_SEED");
    const char *orders = getenv("SHIM_CONTROL");
    pthread_t thread;
    char kept[PATH_MAX + 8];
    if (!where || !orders) return;
    if (!realpath(where, root)) die("SHIM_ROOT");
    root_length = strlen(root);
    snprintf(kept, sizeof kept, "%s.kept", root);
    if (mkdir(kept, 0700) && errno != EEXIST) die("mkdir");
    control = atoi(orders);
    if (seed) chance_state = strtoull(seed, NULL, 10) * 2654435769u + 88172645463325252u;
    for (int i = 0; i < 20; i++) chance(2);
    if (getenv("SHIM_SYNC_US")) sync_us = strtoull(getenv("SHIM_SYNC_US"), NULL, 10);
    if (pthread_create(&thread, NULL, obey, NULL)) die("thread");
}

/* -- calls that are taken over ------------------------------------------------------------------- */

static int opened(const char *path, int flags, mode_t mode) {
    find_open64();
    const char *name = name_in_root(path);
    if (!name) {
        int fd = real_open64(path, flags, mode);
        if (fd >= 0 && fd < FDS_MAX)
            file_of[fd] = root_length && !strcmp(path, root) ? -1 : 0;
        return fd;
    }
    pthread_mutex_lock(&lock);
    struct stat64 facts;
    int there = !lstat64(path, &facts);
    int fd = real_open64(path, flags & ~O_TRUNC, mode);
    if (fd >= 0) {
        note_fd(fd);
        if (!there) new_name(NEW_NAME, name, "");
        if (there && flags & O_TRUNC && size_of(fd)) {
            note_truncate(file_at(fd), 0);
            cut_to(file_at(fd)->fd, 0);
        }
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(path, flags, mode);
}

int close(int fd) {
    find_close();
    pthread_mutex_lock(&lock);
    if (fd >= 0 && fd < FDS_MAX) file_of[fd] = 0;
    int done = real_close(fd);
    pthread_mutex_unlock(&lock);
    return done;
}

static ssize_t written(struct file *file, const void *data, size_t length, off_t offset) {
    if (full && offset + (off_t)length > size_of(file->fd)) {
        errno = ENOSPC;
        return -1;
    }
    note_write(file, data, length, offset);
    find_pwrite64();
    return real_pwrite64(file->fd, data, length, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
    find_pwrite64();
    pthread_mutex_lock(&lock);
    struct file *file = file_at(fd);
    ssize_t done = file ? written(file, data, length, offset) : -2;
    pthread_mutex_unlock(&lock);
    return file ? done : real_pwrite64(fd, data, length, offset);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    return pwrite64(fd, data, length, offset);
}

ssize_t write(int fd, const void *data, size_t length) {
    find_write();
    pthread_mutex_lock(&lock);
    struct file *file = file_at(fd);
    ssize_t done = -1;
    if (file) {
        int append = fcntl(fd, F_GETFL) & O_APPEND;
        off_t offset = append ? size_of(fd) : lseek64(fd, 0, SEEK_CUR);
        done = written(file, data, length, offset);
        if (done > 0) lseek64(fd, offset + done, SEEK_SET);
    }
    pthread_mutex_unlock(&lock);
    return file ? done : real_write(fd, data, length);
}

int ftruncate64(int fd, off_t size) {
    find_ftruncate64();
    pthread_mutex_lock(&lock);
    struct file *file = file_at(fd);
    if (file) note_truncate(file, size);
    int done = real_ftruncate64(fd, size);
    pthread_mutex_unlock(&lock);
    return done;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

/* -2: not ours */
static int sync_ours(int fd) {
    if (fd < 0 || fd >= FDS_MAX || !file_of[fd]) return -2;
    pthread_mutex_lock(&lock);
    uint64_t pause_us = sync_us ? chance(sync_us) : 0;
    if (syncs_left >= 0 && syncs_left-- == 0) power_cut();
    pthread_mutex_unlock(&lock);
    if (pause_us) usleep(pause_us);
    pthread_mutex_lock(&lock);
    int done = -2;
    struct file *file = file_at(fd);
    if (file && fail_sync) {
        fail_sync = 0;
        if (file->mapped) lose_mapped(file);
        else lose_changes(file);
        char link[64], path[PATH_MAX] = {0};
        snprintf(link, sizeof link, "/proc/self/fd/%d", file->fd);
        if (readlink(link, path, sizeof path - 1) < 0) die("readlink");
        dprintf(2, "shim: a sync failed: %s\n", strrchr(path, '/') + 1);
        errno = EIO;
        done = -1;
    } else if (file) {
        synced(file);
        done = 0;
    } else if (fd >= 0 && fd < FDS_MAX && file_of[fd] == -1) {
        names_synced();
        done = 0;
    }
    pthread_mutex_unlock(&lock);
    return done;
}

int fsync(int fd) {
    int done = sync_ours(fd);
    find_fsync();
    return done == -2 ? real_fsync(fd) : done;
}

int fdatasync(int fd) {
    int done = sync_ours(fd);
    find_fdatasync();
    return done == -2 ? real_fdatasync(fd) : done;
}

int rename(const char *from, const char *to) {
    find_rename();
    const char *old = name_in_root(from), *new = name_in_root(to);
    if (!old || !new) return real_rename(from, to);
    pthread_mutex_lock(&lock);
    unsigned kept = keep(new);
    int done = real_rename(from, to);
    if (!done) new_name(RENAMED, old, new)->kept = kept;
    pthread_mutex_unlock(&lock);
    return done;
}

int unlink(const char *path) {
    find_unlink();
    const char *name = name_in_root(path);
    if (!name) return real_unlink(path);
    pthread_mutex_lock(&lock);
    unsigned kept = keep(name);
    int done = real_unlink(path);
    if (!done) new_name(REMOVED, name, "")->kept = kept;
    pthread_mutex_unlock(&lock);
    return done;
}

/* The durable content of a file is what is left when everything noted is undone. */
static void map(struct file *file) {
    off_t size = size_of(file->fd), most = size;
    for (size_t i = 0; i < file->count; i++)
        if (file->changes[i].old_size > most) most = file->changes[i].old_size;
    file->image = must(calloc(1, most + 1));
    if (pread(file->fd, file->image, size, 0) != size) die("pread");
    file->image_size = size;
    for (size_t i = file->count; i-- > 0;) {
        struct change *change = &file->changes[i];
        memcpy(file->image + change->offset, change->old, change->old_length);
        file->image_size = change->old_size;
    }
    forget_changes(file);
    file->mapped = 1;
}

void *mmap64(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
    find_mmap64();
    if (fd >= 0 && flags & MAP_SHARED && protection & PROT_WRITE && file_at(fd)) {
        pthread_mutex_lock(&lock);
        if (!file_at(fd)->mapped) map(file_at(fd));
        pthread_mutex_unlock(&lock);
    }
    return real_mmap64(address, length, protection, flags, fd, offset);
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
    return mmap64(address, length, protection, flags, fd, offset);
}

int msync(void *address, size_t length, int flags) {
    (void)address, (void)length, (void)flags;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < FILES_MAX; i++)
        if (files[i].used && files[i].mapped) synced(&files[i]);
    pthread_mutex_unlock(&lock);
    return 0;
}

int statvfs64(const char *path, struct statvfs64 *facts) {
    find_statvfs64();
    int done = real_statvfs64(path, facts);
    if (!done && full) facts->f_bavail = 0;
    return done;
}

int statvfs(const char *path, struct statvfs *facts) {
    return statvfs64(path, (struct statvfs64 *)facts);
}
