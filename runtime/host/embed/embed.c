/*
 * Build tool: compiles Lua files and writes them as C arrays.
 *   embed OUT.c ROOT FILE...
 * A file below ROOT becomes the module its path says (lua/dbrun/init.lua -> dbrun); any other one is
 * named after its file (argparse.lua -> argparse). A syntax error stops the build.
 */
#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct module {
    const char *path;
    char name[256];  /* dbrun.config */
    char chunk[300]; /* @dbrun/config.lua */
    size_t size;
};

struct output {
    FILE *file;
    size_t count;
};

static void name_module(struct module *m, const char *root)
{
    size_t root_len = strlen(root);
    const char *rel = m->path;
    if (strncmp(rel, root, root_len) == 0 && rel[root_len] == '/')
        rel += root_len + 1;
    else if (strrchr(rel, '/') != NULL)
        rel = strrchr(rel, '/') + 1;
    snprintf(m->chunk, sizeof m->chunk, "@%s", rel);
    snprintf(m->name, sizeof m->name, "%s", rel);
    char *dot = strrchr(m->name, '.');
    if (dot != NULL)
        *dot = '\0';
    for (char *p = m->name; *p != '\0'; p++)
        if (*p == '/')
            *p = '.';
    size_t len = strlen(m->name);
    if (len > 5 && strcmp(m->name + len - 5, ".init") == 0)
        m->name[len - 5] = '\0';
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct module *)a)->name, ((const struct module *)b)->name);
}

static char *read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    char *text = NULL;
    if (f == NULL)
        goto fail;
    if (fseek(f, 0, SEEK_END) != 0)
        goto fail;
    long len = ftell(f);
    if (len < 0 || fseek(f, 0, SEEK_SET) != 0)
        goto fail;
    text = malloc((size_t)len + 1);
    if (text == NULL || fread(text, 1, (size_t)len, f) != (size_t)len)
        goto fail;
    fclose(f);
    *size = (size_t)len;
    return text;
fail:
    fprintf(stderr, "embed: %s: %s\n", path, strerror(errno));
    exit(1);
}

static int write_bytes(lua_State *L, const void *data, size_t size, void *ud)
{
    (void)L;
    struct output *out = ud;
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++)
        fprintf(out->file, (out->count + i) % 20 == 19 ? "%u,\n" : "%u,", bytes[i]);
    out->count += size;
    return ferror(out->file);
}

static void write_module(lua_State *L, FILE *file, struct module *m, size_t index)
{
    size_t len;
    char *text = read_file(m->path, &len);
    if (luaL_loadbufferx(L, text, len, m->chunk, "t") != LUA_OK) {
        fprintf(stderr, "embed: %s: %s\n", m->path, lua_tostring(L, -1));
        exit(1);
    }
    struct output out = {.file = file};
    fprintf(file, "static const unsigned char module_%zu[] = {\n", index);
    lua_dump(L, write_bytes, &out, false);
    fprintf(file, "};\n");
    m->size = out.count;
    lua_settop(L, 0);
    free(text);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: embed OUT.c ROOT FILE...\n");
        return 2;
    }
    size_t count = (size_t)(argc - 3);
    struct module *modules = calloc(count, sizeof *modules);
    lua_State *L = luaL_newstate();
    FILE *file = fopen(argv[1], "w");
    if (modules == NULL || L == NULL || file == NULL) {
        fprintf(stderr, "embed: %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    for (size_t i = 0; i < count; i++) {
        modules[i].path = argv[i + 3];
        name_module(&modules[i], argv[2]);
    }
    qsort(modules, count, sizeof *modules, by_name);
    fprintf(file, "#include \"host/embedded.h\"\n");
    for (size_t i = 0; i < count; i++)
        write_module(L, file, &modules[i], i);
    fprintf(file, "const struct embedded_module embedded_modules[] = {\n");
    for (size_t i = 0; i < count; i++)
        fprintf(file, "{\"%s\", module_%zu, %zu},\n", modules[i].name, i, modules[i].size);
    fprintf(file, "};\nconst size_t embedded_count = %zu;\n", count);
    lua_close(L);
    free(modules);
    if (fclose(file) != 0) {
        fprintf(stderr, "embed: %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    return 0;
}
