// A board at its UART pins: bytes from standard input reach `receive`, bytes from `transmit` go to standard output.
// Simulated time stands still while nothing is on the line and nothing comes in.
#include <poll.h>
#include <unistd.h>

#include "Vboard.h"
#include "verilated.h"

static const int kCyclesPerBit = CYCLES_PER_BIT;
static const long kQuietCycles = 40L * CYCLES_PER_BIT + 1024;  // enough for the accesses of the largest frame

int main(int argc, char** argv) {
    VerilatedContext context;
    Vboard board{&context};
    auto cycle = [&] {
        board.clk = 0;
        board.eval();
        board.clk = 1;
        board.eval();
    };
    board.receive = 1;
    board.rst = 1;
    cycle();
    cycle();
    board.rst = 0;

    unsigned char input[4096];
    long have = 0, next = 0, quiet = 0;
    int sending = 0, send_timer = 0;    // bits left of the byte on its way in, cycles left of its bit
    unsigned shift = 0;
    int receiving = 0, receive_timer = 0;
    unsigned char byte = 0;
    for (;;) {
        if (sending == 0 && next == have) {
            struct pollfd in = {STDIN_FILENO, POLLIN, 0};
            if (quiet > kQuietCycles || (quiet & 63) == 0) {
                if (poll(&in, 1, quiet > kQuietCycles ? -1 : 0) > 0) {
                    have = read(STDIN_FILENO, input, sizeof input);
                    next = 0;
                    if (have <= 0) return 0;
                }
            }
        }
        if (sending == 0 && next < have) {
            shift = (input[next++] << 1) | 0x200;
            sending = 10;
            send_timer = 0;
        }
        if (sending && send_timer == 0) {
            board.receive = shift & 1;
            shift >>= 1;
            send_timer = kCyclesPerBit;
        }
        cycle();
        ++quiet;
        if (sending) {
            quiet = 0;
            if (--send_timer == 0) --sending;
        }
        if (receiving == 0) {
            if (!board.transmit) {  // a start bit; the middle of the first data bit is 1.5 bits away
                receiving = 9;
                receive_timer = kCyclesPerBit + kCyclesPerBit / 2;
            }
        } else {
            quiet = 0;
            if (--receive_timer == 0) {
                receive_timer = kCyclesPerBit;
                if (--receiving == 0) {
                    if (write(STDOUT_FILENO, &byte, 1) != 1) return 0;
                } else {
                    byte = (byte >> 1) | (board.transmit << 7);
                }
            }
        }
    }
}
