#include "host/heap.h"

#include "base/symbol.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The functions below are those of its version 2, which the name stands for. */
#define MIMALLOC_SONAME "libmimalloc.so.2"

/* AddressSanitizer sees the ends of a block only if it is the C library's, whose functions it replaces. A
 * build with -DDBRUN_HEAP_FROM=0 tests the heap with it all the same, without LeakSanitizer, which does not
 * look there for pointers. */
#ifndef DBRUN_HEAP_FROM
#ifdef __SANITIZE_ADDRESS__
#define DBRUN_HEAP_FROM SIZE_MAX
#else
#define DBRUN_HEAP_FROM ((size_t)16 << 20)
#endif
#endif

/* Addresses, not memory: what was never used of the area costs nothing. When it is full the C library goes
 * on. */
#define AREA ((size_t)64 << 30)
/* Of an area that mimalloc manages, and of what it takes of it at a time. */
#define SEGMENT ((size_t)32 << 20)

struct mi_heap;

static struct {
    size_t asked;         /* bytes, until it was decided */
    struct mi_heap *heap; /* NULL: there is none, or not yet */
    uintptr_t area;       /* a block in it is mimalloc's */
    void *(*take)(struct mi_heap *heap, size_t size);
    void *(*resize)(struct mi_heap *heap, void *block, size_t size);
    void (*give)(void *block);
} memory;

/* All of it can be written from the start, or there is none: version 2.0 of mimalloc makes parts of an area
 * writable when it needs them, and uses them also when that has failed (under a limit of memory, for
 * example). */
static char *reserve_area(void)
{
    char *p = mmap(NULL, AREA + SEGMENT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    size_t before = -(uintptr_t)p & (SEGMENT - 1);
    if (before > 0)
        munmap(p, before);
    munmap(p + before + AREA, SEGMENT - before);
    return p + before;
}

static void open_heap(void)
{
    bool (*manage)(void *area, size_t size, bool committed, bool large, bool zero, int node, bool exclusive,
                   int *arena);
    struct mi_heap *(*make)(int arena);
    int arena;
    void *library = dlopen(MIMALLOC_SONAME, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL || !symbol_find(library, "mi_heap_malloc", &memory.take) ||
        !symbol_find(library, "mi_heap_realloc", &memory.resize) ||
        !symbol_find(library, "mi_free", &memory.give) ||
        !symbol_find(library, "mi_manage_os_memory_ex", &manage) ||
        !symbol_find(library, "mi_heap_new_in_arena", &make))
        return;
    char *area = reserve_area();
    if (area == NULL || !manage(area, AREA, true, false, true, -1, true, &arena))
        return;
    /* The first segment is a small program's: there a huge page would be mostly unused. */
    (void)madvise(area + SEGMENT, AREA - SEGMENT, MADV_HUGEPAGE);
    memory.area = (uintptr_t)area;
    memory.heap = make(arena);
}

static bool in_area(const void *block)
{
    return (uintptr_t)block - memory.area < AREA;
}

static void *take(size_t size)
{
    void *block = memory.take(memory.heap, size);
    return block != NULL ? block : malloc(size);
}

static void give(void *block)
{
    if (in_area(block))
        memory.give(block);
    else
        free(block);
}

/* Into a block from wherever there is room. Lua may not be refused a smaller one. */
static void *move(void *block, size_t old, size_t size)
{
    void *moved = take(size);
    if (moved == NULL)
        return size <= old ? block : NULL;
    memcpy(moved, block, old < size ? old : size);
    give(block);
    return moved;
}

/* ---- the three of a state's life (lua_Alloc: manual of Lua 5.4, section 4.6) ---- */

static void *from_heap(void *data, void *block, size_t old, size_t size)
{
    (void)data;
    if (size == 0) {
        give(block);
        return NULL;
    }
    if (block == NULL)
        return take(size);
    void *resized = in_area(block) ? memory.resize(memory.heap, block, size) : NULL;
    return resized != NULL ? resized : move(block, old, size);
}

/* Where there is no mimalloc. */
static void *from_libc(void *data, void *block, size_t old, size_t size)
{
    (void)data;
    (void)old;
    if (size == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, size);
}

/* From the C library until DBRUN_HEAP_FROM bytes were asked for; one of the others from then on. */
static void *counted(void *data, void *block, size_t old, size_t size)
{
    lua_State *L = data;
    if (size <= DBRUN_HEAP_FROM - memory.asked) {
        memory.asked += size;
        return from_libc(data, block, old, size);
    }
    open_heap();
    lua_Alloc next = memory.heap != NULL ? from_heap : from_libc;
    lua_setallocf(L, next, NULL);
    return next(NULL, block, old, size);
}

void heap_serve(lua_State *L)
{
    lua_setallocf(L, counted, L);
}
