#include "host/heap.h"

#include "base/symbol.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The functions below are those of version 2, to which the name belongs. */
#define MIMALLOC_SONAME "libmimalloc.so.2"

/* AddressSanitizer checks the bounds only of blocks from the C library, whose functions it replaces. A build
 * with -DDBRUN_HEAP_FROM=0 tests the heap under it all the same, without LeakSanitizer, which does not look
 * for pointers there. */
#ifndef DBRUN_HEAP_FROM
#ifdef __SANITIZE_ADDRESS__
#define DBRUN_HEAP_FROM SIZE_MAX
#else
#define DBRUN_HEAP_FROM ((size_t)16 << 20)
#endif
#endif

/* Reserves addresses, not memory: unused parts of the area cost nothing. When it is full, blocks come from
 * the C library. */
#define AREA ((size_t)64 << 30)
/* Alignment of an area that mimalloc manages, and the size of the parts that it takes. */
#define SEGMENT ((size_t)32 << 20)

struct mi_heap;

static struct {
    size_t asked;         /* bytes asked for until the heap was chosen */
    struct mi_heap *heap; /* NULL: none, or not yet */
    uintptr_t area;       /* blocks in this area belong to mimalloc */
    void *(*take)(struct mi_heap *heap, size_t size);
    void *(*resize)(struct mi_heap *heap, void *block, size_t size);
    void (*give)(void *block);
} memory;

/* Makes the whole area writable at once, or reserves none: mimalloc 2.0 makes parts of an area writable when
 * it needs them, but uses them even if this has failed (for example under a memory limit). */
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
    /* Small programs use only the first segment, where a huge page would be mostly unused. */
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

/* Moves the block to wherever there is room. A smaller block must not be refused to Lua. */
static void *move(void *block, size_t old, size_t size)
{
    void *moved = take(size);
    if (moved == NULL)
        return size <= old ? block : NULL;
    memcpy(moved, block, old < size ? old : size);
    give(block);
    return moved;
}

/* ---- the three allocators of a state (lua_Alloc: manual of Lua 5.4, section 4.6) ---- */

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

/* For systems without mimalloc. */
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

/* Uses the C library until DBRUN_HEAP_FROM bytes were asked for, then one of the others. */
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
