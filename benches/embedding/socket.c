/* Asks placer's daemon on one connection: socket PATH COUNT REQUEST, where REQUEST is the JSON of a request.
 * Prints the nodes of the last answer, and the lowest and the median time of an answer in nanoseconds. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static char reply[1 << 16];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static long now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    long left = *(const long *)a, right = *(const long *)b;

    return (left > right) - (left < right);
}

/* Sends a call, which ends with a NUL byte as the reply does, and returns the nodes. */
static char *ask(int daemon, const char *call, size_t length)
{
    size_t filled = 0;
    char *nodes;

    if (send(daemon, call, length, 0) != (ssize_t)length)
        fail("send");
    do {
        ssize_t part = recv(daemon, reply + filled, sizeof reply - filled, 0);
        if (part <= 0)
            fail("recv");
        filled += (size_t)part;
    } while (reply[filled - 1] != '\0');
    nodes = strstr(reply, "\"nodes\":\"");
    if (nodes == NULL)
        fail(reply);
    return nodes + strlen("\"nodes\":\"");
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    char call[1024], *nodes = NULL;
    int daemon = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t count, length, i;
    long *times;

    if (argc != 4 || daemon < 0)
        return 2;
    count = strtoul(argv[2], NULL, 10);
    times = calloc(count, sizeof *times);
    strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
    if (times == NULL || connect(daemon, (struct sockaddr *)&address, sizeof address) != 0)
        fail(argv[1]);
    length = 1 + (size_t)snprintf(call, sizeof call, "{\"method\":\"org.placer.Daemon.Advise\","
                                  "\"parameters\":{\"request\":%s}}", argv[3]);
    for (i = 0; i < count; i++) {
        long start = now_ns();
        nodes = ask(daemon, call, length);
        times[i] = now_ns() - start;
    }
    qsort(times, count, sizeof *times, by_size);
    printf("%.*s %ld %ld\n", (int)strcspn(nodes, "\""), nodes, times[0], times[count / 2]);
    return 0;
}
