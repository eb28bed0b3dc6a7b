/* A plugin loads the library and unloads it, twenty times: unload LIBRARY RECORDED-HOST
 * Nothing of it stays in the program. */
#include <placer.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void require(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "unload: %s\n", what);
        exit(1);
    }
}
#define HOLDS(condition) require(condition, #condition)

/* POSIX lets the address of a function be read as that of an object. */
#define LOAD(library, name) *(void **)&name = dlsym(library, "placer_" #name); HOLDS(name != NULL)

static int is_mapped(void)
{
    char line[4096];
    FILE *maps = fopen("/proc/self/maps", "r");
    int found = 0;

    HOLDS(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL)
        found |= strstr(line, "libplacer.so") != NULL;
    fclose(maps);
    return found;
}

static void ask(const char *path, const char *root)
{
    int (*host_open)(const char *, unsigned int, placer_host **, placer_error **);
    int (*host_set)(placer_host *, const char *, const char *, placer_error **);
    int (*request_new)(placer_host *, const char *, placer_request **, placer_error **);
    int (*advise)(placer_host *, const placer_request *, placer_advice **, placer_error **);
    void (*advice_free)(placer_advice *);
    void (*request_free)(placer_request *);
    void (*host_close)(placer_host *);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    placer_host *host;
    placer_request *request;
    placer_advice *advice;

    HOLDS(library != NULL);
    LOAD(library, host_open);
    LOAD(library, host_set);
    LOAD(library, request_new);
    LOAD(library, advise);
    LOAD(library, advice_free);
    LOAD(library, request_free);
    LOAD(library, host_close);
    HOLDS(host_open(root, 0, &host, NULL) == PLACER_OK);
    HOLDS(host_set(host, "claims", "ignore", NULL) == PLACER_OK);
    HOLDS(request_new(host, "1:16", &request, NULL) == PLACER_OK);
    HOLDS(advise(host, request, &advice, NULL) == PLACER_OK);
    advice_free(advice);
    request_free(request);
    host_close(host);
    HOLDS(is_mapped());
    HOLDS(dlclose(library) == 0);
    HOLDS(!is_mapped());
}

int main(int argc, char **argv)
{
    int i;

    if (argc != 3)
        return 2;
    for (i = 0; i < 20; i++)
        ask(argv[1], argv[2]);
    puts("ok");
    return 0;
}
