/* Runs the network on every image of images.bin and prints, image by image, its logits and a checksum of all spikes;
   then how many instructions one inference took. */
#include "board.h"
#include "net.h"

static uint8_t sample[net_INPUT_SIZE];
static int32_t logits[net_CLASSES];
static uint32_t checksum;
static int tracing;

static void print_number(int32_t value)
{
    char text[12], *p = text + 11;
    uint32_t v = value < 0 ? 0u - (uint32_t)value : (uint32_t)value;
    *p = 0;
    do *--p = (char)('0' + v % 10);
    while (v /= 10);
    if (value < 0) *--p = '-';
    print(p);
}

/* The network calls this with all spikes of one layer: the CRC-32C of all layers in turn. */
void net_spikes(uint32_t layer, const uint8_t *spikes)
{
    static const uint32_t bytes[] = net_SPIKE_BYTES;
    uint32_t i, bit;
    if (!tracing) return;
    for (i = 0; i < bytes[layer]; i++) {
        checksum ^= spikes[i];
        for (bit = 0; bit < 8; bit++) checksum = checksum >> 1 ^ (checksum & 1u ? 0x82f63b78u : 0);
    }
}

/* Emulators count time, not instructions: how many instructions there are to a tick is read off a loop of known length.
   On a real board the result is in clock cycles of that loop, so it is left out there. */
static uint32_t ticks_of_a_million(void)
{
    timer_start();
    timer_loop(500000);
    return timer_ticks();
}

int main(void)
{
    const uint32_t million = ticks_of_a_million();
    uint32_t images = 0, ticks, least = 0xffffffffu, most = 0, i;
    uint32_t sum = 0;
    const int file = file_open("images.bin");
    if (file < 0) {
        print("images.bin cannot be opened\n");
        return 1;
    }
    if (net_self_test()) {
        print("self-test failed\n");
        return 1;
    }
    while (file_read(file, sample, net_INPUT_SIZE) == net_INPUT_SIZE) {
        tracing = 0;
        timer_start();
        net_run(sample, logits);
        ticks = timer_ticks();
        sum += ticks;
        least = ticks < least ? ticks : least;
        most = ticks > most ? ticks : most;
        tracing = 1;
        checksum = 0xffffffffu;
        net_run(sample, logits);
        print("image ");
        print_number((int32_t)images++);
        for (i = 0; i < net_CLASSES; i++) {
            print(" ");
            print_number(logits[i]);
        }
        print(" spikes ");
        print_number((int32_t)~checksum);
        print("\n");
    }
    print("ticks of 1000000 instructions: ");
    print_number((int32_t)million);
    print("\nticks of one inference: mean ");
    print_number((int32_t)(sum / (images ? images : 1)));
    print(", least ");
    print_number((int32_t)least);
    print(", most ");
    print_number((int32_t)most);
    print("\n");
    return 0;
}
