/* The smallest native program: says that it has started, then sleeps until it is killed. */
#include <unistd.h>

int main(void) {
    if (write(1, "started\n", 8) != 8)
        return 1;
    for (;;)
        pause();
}
