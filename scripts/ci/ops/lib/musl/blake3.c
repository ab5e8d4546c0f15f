/* BLAKE3: its assembly, by the known hash of nothing: one block with the flags start, end and root. */
#include <stdint.h>
#include <string.h>

void blake3_compress_in_place_sse41(uint32_t cv[8], const uint8_t block[64], uint8_t length, uint64_t counter, uint8_t flags);
void blake3_compress_in_place_sse2(uint32_t cv[8], const uint8_t block[64], uint8_t length, uint64_t counter, uint8_t flags);

static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
static const uint8_t nothing[32] = {0xaf, 0x13, 0x49, 0xb9, 0xf5, 0xf9, 0xa1, 0xa6, 0xa0, 0x40, 0x4d, 0xea, 0x36, 0xdc, 0xc9, 0x49,
                                    0x9b, 0xcb, 0x25, 0xc9, 0xad, 0xc1, 0x12, 0xb7, 0xcc, 0x9a, 0x93, 0xca, 0xe4, 0x1f, 0x32, 0x62};

int check_blake3(void) {
    static const uint8_t block[64];
    uint32_t state[8];
    memcpy(state, initial, sizeof state);
    blake3_compress_in_place_sse2(state, block, 0, 0, 1 | 2 | 8);
    if (memcmp(state, nothing, sizeof nothing)) return 1;
    if (!__builtin_cpu_supports("sse4.1")) return 0;
    memcpy(state, initial, sizeof state);
    blake3_compress_in_place_sse41(state, block, 0, 0, 1 | 2 | 8);
    return memcmp(state, nothing, sizeof nothing) ? 2 : 0;
}
