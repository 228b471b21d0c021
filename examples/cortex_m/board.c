/* Semihosting and the SysTick timer of any Cortex-M. */
#include "board.h"

enum { SYS_OPEN = 1, SYS_WRITE0 = 4, SYS_READ = 6, SYS_EXIT_EXTENDED = 0x20 };

static int semihosting(int operation, const void *argument)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

int file_open(const char *path)
{
    uint32_t arguments[3], length = 0;
    while (path[length]) length++;
    arguments[0] = (uint32_t)path;
    arguments[1] = 1; /* "rb" */
    arguments[2] = length;
    return semihosting(SYS_OPEN, arguments);
}

uint32_t file_read(int file, uint8_t *bytes, uint32_t n)
{
    uint32_t arguments[3];
    arguments[0] = (uint32_t)file;
    arguments[1] = (uint32_t)bytes;
    arguments[2] = n;
    return n - (uint32_t)semihosting(SYS_READ, arguments); /* it answers how many bytes are missing */
}

void print(const char *text)
{
    semihosting(SYS_WRITE0, text);
}

void stop(int status)
{
    uint32_t arguments[2] = {0x20026, 0}; /* application exit */
    arguments[1] = (uint32_t)status;
    for (;;) semihosting(SYS_EXIT_EXTENDED, arguments);
}

#define SYSTICK ((volatile uint32_t *)0xe000e010) /* control, reload, current */

void timer_start(void)
{
    SYSTICK[0] = 0;
    SYSTICK[1] = 0xffffffu;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5; /* processor clock, no interrupt */
}

uint32_t timer_ticks(void)
{
    return 0xffffffu - SYSTICK[2];
}

void timer_loop(uint32_t turns)
{
    __asm__ volatile("1: subs %0, #1\n\tbne 1b" : "+l"(turns) : : "cc");
}
