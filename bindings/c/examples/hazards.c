/* What programs do to a library that is in them: hazards RECORDED-HOST CLAIMS-DIR
 * They fork, wait for signals, close all descriptors, and ask from several threads. */
#define _GNU_SOURCE
#include <placer.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILES 20
#define THREADS 8

static placer_error *error;
static const char *claims;

static void require(int holds, const char *what, int line)
{
    if (!holds) {
        fprintf(stderr, "hazards.c:%d: %s: %s\n", line, what, placer_error_text(error));
        exit(1);
    }
}
#define HOLDS(condition) require(condition, #condition, __LINE__)

static placer_host *open_host(const char *root, unsigned int flags)
{
    placer_host *host;

    HOLDS(placer_host_open(root, flags, &host, &error) == PLACER_OK);
    HOLDS(placer_host_set(host, "state-dir", claims, &error) == PLACER_OK);
    return host;
}

/* Asks once; returns the code. */
static int ask(placer_host *host)
{
    placer_request *request;
    placer_advice *advice;
    int code;

    HOLDS(placer_request_new(host, "1:16", &request, &error) == PLACER_OK);
    code = placer_advise(host, request, &advice, &error);
    if (code == PLACER_OK)
        HOLDS(placer_advice_fits(advice));
    placer_advice_free(advice);
    placer_request_free(request);
    return code;
}

/* In a forked child a host with a sampler does nothing but fail, whatever the threads of the parent did. */
static void is_refused(placer_host *host)
{
    placer_error *own[3];
    int i;

    HOLDS(ask(host) == PLACER_ERR_FORKED);
    HOLDS(placer_host_age_ms(host) == PLACER_ERR_FORKED);
    HOLDS(placer_host_set(host, "claims", "count", &own[0]) == PLACER_ERR_FORKED);
    HOLDS(placer_adopt(host, "00000001", getpid(), 0, &own[1]) == PLACER_ERR_FORKED);
    HOLDS(placer_release(host, "00000001", &own[2]) == PLACER_ERR_FORKED);
    for (i = 0; i < 3; i++)
        placer_error_free(own[i]);
}

/* A child may ask a host without a sampler. With one it gets an error, and can close the host. */
static void forks(unsigned int flags)
{
    placer_host *host = open_host(NULL, flags);
    int status;
    pid_t child;

    HOLDS(ask(host) == PLACER_OK);
    child = fork();
    if (child == 0) {
        if (flags == 0)
            HOLDS(ask(host) == PLACER_OK);
        else
            is_refused(host);
        placer_error_free(error);
        error = NULL;
        placer_host_close(host);
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    HOLDS(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    HOLDS(ask(host) == PLACER_OK);
    placer_host_close(host);
}

/* A signal that the program waits for is not delivered to the sampler, which would end the program. */
static void waits_for_signals(void)
{
    placer_host *host;
    sigset_t set;
    int i, found;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    HOLDS(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    host = open_host(NULL, PLACER_HOST_SAMPLER);
    for (i = 0; i < 20; i++) {
        HOLDS(kill(getpid(), SIGUSR1) == 0);
        HOLDS(sigwait(&set, &found) == 0 && found == SIGUSR1);
    }
    HOLDS(ask(host) == PLACER_OK);
    placer_host_close(host);
}

/* The program closes all descriptors, opens files of its own, and keeps them. */
static void closes_descriptors(unsigned int flags)
{
    placer_host *host = open_host(NULL, flags);
    struct stat null, now;
    int i, fd, own[FILES];

    HOLDS(ask(host) == PLACER_OK);
    for (fd = 3; fd < 256; fd++)
        close(fd);
    for (i = 0; i < FILES; i++) {
        own[i] = open("/dev/null", O_RDONLY);
        HOLDS(own[i] >= 3);
    }
    HOLDS(fstat(own[0], &null) == 0);
    /* The sampler reads the host meanwhile: it is younger than before, again and again. */
    for (i = 0; i < 3; i++) {
        if (flags != 0) {
            long before = placer_host_age_ms(host);
            while (placer_host_age_ms(host) >= before) {
                before = placer_host_age_ms(host);
                usleep(1000);
            }
        }
        HOLDS(ask(host) == PLACER_OK);
    }
    placer_host_close(host);
    for (i = 0; i < FILES; i++) {
        HOLDS(fstat(own[i], &now) == 0 && now.st_rdev == null.st_rdev && now.st_ino == null.st_ino);
        close(own[i]);
    }
}

static void *ask_often(void *host)
{
    placer_error *own = NULL;
    placer_request *request;
    placer_advice *advice;
    char *first = NULL;
    int i;

    if (placer_request_new(host, "2:100", &request, &own) != PLACER_OK)
        return placer_error_free(own), (void *)1;
    for (i = 0; i < 50; i++) {
        if (placer_advise(host, request, &advice, &own) != PLACER_OK)
            return placer_error_free(own), (void *)1;
        if (first == NULL)
            first = strdup(placer_advice_json(advice));
        if (strcmp(first, placer_advice_json(advice)) != 0)
            return (void *)1;
        placer_advice_free(advice);
    }
    free(first);
    placer_request_free(request);
    return NULL;
}

/* Threads share a host. A recorded one answers them alike. */
static void shares_a_host(const char *root, unsigned int flags)
{
    placer_host *host = open_host(root, flags);
    pthread_t threads[THREADS];
    void *failed;
    int i;

    for (i = 0; i < THREADS; i++)
        HOLDS(pthread_create(&threads[i], NULL, ask_often, host) == 0);
    for (i = 0; i < THREADS; i++)
        HOLDS(pthread_join(threads[i], &failed) == 0 && failed == NULL);
    placer_host_close(host);
}

int main(int argc, char **argv)
{
    unsigned int flags;

    if (argc != 3)
        return 2;
    claims = argv[2];
    alarm(300);
    waits_for_signals();
    for (flags = 0; flags <= PLACER_HOST_SAMPLER; flags++) {
        forks(flags);
        closes_descriptors(flags);
        shares_a_host(argv[1], flags);
    }
    puts("ok");
    return 0;
}
