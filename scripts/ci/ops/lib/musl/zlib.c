/* zlib: a round trip, and the checksum of the standard's example. */
#include <string.h>
#include <zlib.h>

int check_zlib(void) {
    static unsigned char text[200000], packed[250000], back[200000];
    for (size_t i = 0; i < sizeof text; i++) text[i] = (unsigned char)(i * i % 251);
    uLongf size = sizeof packed, length = sizeof back;
    if (crc32(0, (const Bytef *)"123456789", 9) != 0xcbf43926u) return 1;
    if (compress2(packed, &size, text, sizeof text, 6) != Z_OK) return 2;
    if (uncompress(back, &length, packed, size) != Z_OK || length != sizeof text) return 3;
    return memcmp(text, back, sizeof text) ? 4 : 0;
}
