/* Reset code for a Cortex-M: vector table, RAM set-up, main. */
#include <stdint.h>

extern uint32_t stack_top, data_start, data_end, data_load, bss_start, bss_end;
int main(void);
void stop(int status);

void reset(void)
{
    uint32_t *to;
    const uint32_t *from = &data_load;
    for (to = &data_start; to < &data_end;) *to++ = *from++;
    for (to = &bss_start; to < &bss_end;) *to++ = 0;
    stop(main());
}

static void fault(void)
{
    stop(100);
}

typedef void (*handler)(void);

/* Initial stack pointer, then reset and the system exceptions; of those only faults can happen here. */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    handler handlers[15];
} vectors = {&stack_top, {reset, fault, fault, fault, fault, fault}};
