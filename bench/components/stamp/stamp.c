/* Says when it began: the first thing that a program can do. */
#include <stdio.h>
#include <time.h>

int main(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    printf("{\"began\": %lld.%09ld}\n", (long long)now.tv_sec, now.tv_nsec);
    return 0;
}
