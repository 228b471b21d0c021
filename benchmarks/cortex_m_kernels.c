/* Three ways to compute a 3x3 convolution of 64 spiking channels to 32 channels at one pixel, in instructions of an
   emulated Cortex-M: counting listed weight rows (as the emitted code does), dense AND and population count, and adding
   listed byte rows. Prints "kernel bits permille ticks" lines; see cortex_m.py --kernels. */
#include "board.h"
#include "net.c"

#define K 576
#define WORDS (K / 32)

static uint32_t rows_of[8][K + 1], columns[32][8][WORDS], spikes_of[WORDS];
static int8_t bytes_of[K][32];
static int32_t sums[3][32];
static int16_t unpacked[40];
static uint32_t state = 1;

static uint32_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static void prepare(uint32_t bits, uint32_t permille)
{
    uint32_t k, m, j;
    for (k = 0; k < WORDS; k++) spikes_of[k] = 0;
    for (j = 0; j < 8; j++)
        for (k = 0; k <= K; k++) rows_of[j][k] = 0;
    for (m = 0; m < 32; m++)
        for (j = 0; j < 8; j++)
            for (k = 0; k < WORDS; k++) columns[m][j][k] = 0;
    for (k = 0; k < K; k++) {
        if (draw() % 1000 < permille) spikes_of[k / 32] |= (uint32_t)1 << k % 32;
        for (m = 0; m < 32; m++) {
            const uint32_t stored = bits == 1 ? draw() & 1u : draw() % ((1u << bits) - 1);
            bytes_of[k][m] = (int8_t)(bits == 1 ? 2 * (int)stored - 1 : (int)stored - (1 << (bits - 1)) + 1);
            for (j = 0; j < bits; j++) {
                rows_of[j][k] |= (stored >> j & 1u) << m;
                columns[m][j][k / 32] |= (stored >> j & 1u) << k % 32;
            }
        }
    }
}

static SEPARATE void count_rows(uint32_t bits)
{
    uint32_t n = 0, tap, j, c;
    const uint32_t offset = bits == 1 ? 1 : (1u << (bits - 1)) - 1;
    static uint32_t counters[24];
    static uint8_t pixel[9][8];
    uint32_t word[8], high[8];
    for (j = 0; j < 18; j++)
        for (c = 0; c < 4; c++) pixel[j / 2][4 * (j % 2) + c] = (uint8_t)(spikes_of[j] >> 8 * c & 0xffu);
    timer_start();
    clear(counters, 24);
    for (tap = 0; tap < 9; tap++) n = scan(pixel[tap], 8, tap * 64, n);
    for (j = 0; j < bits; j++) count32(rows_of[j], n, K, counters + j);
    merge(counters, word);
    merge(counters + 8, high);
    for (j = 0; j < 8; j++)
        for (c = 0; c < 4; c++) {
            const uint32_t v = (word[j] >> 8 * c & 0xffu) | (high[j] >> 8 * c & 0xffu) << 8;
            unpacked[8 * c + j] = (int16_t)((bits == 1 ? 2 * v : v) - offset * n);
        }
    for (c = 0; c < 32; c++) sums[0][c] = unpacked[c];
}

static uint32_t ones(uint32_t v)
{
    v -= v >> 1 & 0x55555555u;
    v = (v & 0x33333333u) + (v >> 2 & 0x33333333u);
    return ((v + (v >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24;
}

static SEPARATE void population_count(uint32_t bits)
{
    uint32_t m, j, k, n = 0;
    for (k = 0; k < WORDS; k++) n += ones(spikes_of[k]);
    for (m = 0; m < 32; m++) {
        uint32_t sum = 0;
        for (j = 0; j < bits; j++) {
            const uint32_t *w = columns[m][j];
            uint32_t plane = 0;
            for (k = 0; k < WORDS; k++) plane += ones(w[k] & spikes_of[k]);
            sum += plane << j;
        }
        sums[1][m] = bits == 1 ? 2 * (int32_t)sum - (int32_t)n : (int32_t)(sum - n * ((1u << (bits - 1)) - 1));
    }
}

/* Four listed rows at a time, so that a sum is read and written once for four weights. */
static SEPARATE void add_bytes(void)
{
    uint32_t k, m, n = 0, i;
    static uint16_t listed[K + 4];
    static const int8_t zeros[32];
    for (k = 0; k < WORDS; k++) {
        uint32_t v = spikes_of[k];
        while (v) {
            const uint32_t bit = highest_bit(v);
            listed[n++] = (uint16_t)(32 * k + bit);
            v &= ~((uint32_t)1 << bit);
        }
    }
    for (m = 0; m < 32; m++) sums[2][m] = 0;
    for (i = 0; i < n; i += 4) {
        const int8_t *a = bytes_of[listed[i]], *b = i + 1 < n ? bytes_of[listed[i + 1]] : zeros;
        const int8_t *c = i + 2 < n ? bytes_of[listed[i + 2]] : zeros, *d = i + 3 < n ? bytes_of[listed[i + 3]] : zeros;
        for (m = 0; m < 32; m++) sums[2][m] += a[m] + b[m] + c[m] + d[m];
    }
}

static void print_number(uint32_t v)
{
    char text[12], *p = text + 11;
    *p = 0;
    do *--p = (char)('0' + v % 10);
    while (v /= 10);
    print(p);
    print(" ");
}

int main(void)
{
    static const uint32_t widths[] = {1, 2, 4, 8}, rates[] = {50, 100, 200, 400};
    uint32_t w, r, i, m, ticks[3];
    for (w = 0; w < 4; w++)
        for (r = 0; r < 4; r++) {
            uint32_t total[3] = {0, 0, 0};
            for (i = 0; i < 50; i++) {
                prepare(widths[w], rates[r]);
                count_rows(widths[w]); /* starts the timer itself, after it has laid out its bytes */
                ticks[0] = timer_ticks();
                timer_start();
                population_count(widths[w]);
                ticks[1] = timer_ticks();
                timer_start();
                add_bytes();
                ticks[2] = timer_ticks();
                for (m = 0; m < 32; m++)
                    if (sums[0][m] != sums[1][m] || sums[0][m] != sums[2][m]) {
                        print("kernels differ\n");
                        return 1;
                    }
                for (m = 0; m < 3; m++) total[m] += ticks[m];
            }
            print_number(widths[w]);
            print_number(rates[r]);
            for (m = 0; m < 3; m++) print_number(total[m] * 40 / 50);
            print("\n");
        }
    return 0;
}
