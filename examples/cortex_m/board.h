/* What main.c needs of a board. Here: semihosting, by which a debugger or QEMU lends its files and its terminal. */
#include <stdint.h>

int file_open(const char *path);                               /* for reading; negative if there is none */
uint32_t file_read(int file, uint8_t *bytes, uint32_t n);      /* number of bytes read */
void print(const char *text);
void stop(int status);                                         /* ends the program */

void timer_start(void);
uint32_t timer_ticks(void);                                    /* since timer_start, below 2^24 */
void timer_loop(uint32_t turns);                               /* exactly 2 * turns instructions */
