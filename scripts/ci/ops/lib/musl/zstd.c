/* zstd: a round trip, and a frame cut short is refused. */
#include <string.h>
#include <zstd.h>

int check_zstd(void) {
    static unsigned char text[200000], packed[250000], back[200000];
    for (size_t i = 0; i < sizeof text; i++) text[i] = (unsigned char)(i * i % 251);
    size_t size = ZSTD_compress(packed, sizeof packed, text, sizeof text, 3);
    if (ZSTD_isError(size)) return 1;
    if (ZSTD_decompress(back, sizeof back, packed, size) != sizeof text) return 2;
    if (memcmp(text, back, sizeof text)) return 3;
    return ZSTD_isError(ZSTD_decompress(back, sizeof back, packed, size - 1)) ? 0 : 4;
}
