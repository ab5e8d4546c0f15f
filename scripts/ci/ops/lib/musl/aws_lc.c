/* AWS-LC: SHA-256 of the standard's example, AES-256-GCM sealed, opened and refused when changed, Ed25519, random bytes. */
#include <openssl/aead.h>
#include <openssl/curve25519.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <string.h>

static const uint8_t abc[32] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
                                0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
/* AES-256-GCM, key and nonce zero, one block of zeros: test case 14 of the GCM specification, ciphertext and tag. */
static const uint8_t case14[32] = {0xce, 0xa7, 0x40, 0x3d, 0x4d, 0x60, 0x6b, 0x6e, 0x07, 0x4e, 0xc5, 0xd3, 0xba, 0xf3, 0x9d, 0x18,
                                   0xd0, 0xd1, 0xc8, 0xa7, 0x99, 0x99, 0x6b, 0xf0, 0x26, 0x5b, 0x98, 0xb5, 0xd4, 0x8a, 0xb9, 0x19};

int check_aws_lc(void) {
    uint8_t digest[32], sealed[32], opened[16], first[32], second[32];
    static const uint8_t key[32], nonce[12], plain[16];
    SHA256((const uint8_t *)"abc", 3, digest);
    if (memcmp(digest, abc, sizeof abc)) return 1;

    EVP_AEAD_CTX *context = EVP_AEAD_CTX_new(EVP_aead_aes_256_gcm(), key, sizeof key, 16);
    size_t length;
    if (!context) return 2;
    if (!EVP_AEAD_CTX_seal(context, sealed, &length, sizeof sealed, nonce, sizeof nonce, plain, sizeof plain, NULL, 0)) return 3;
    if (length != sizeof case14 || memcmp(sealed, case14, sizeof case14)) return 4;
    if (!EVP_AEAD_CTX_open(context, opened, &length, sizeof opened, nonce, sizeof nonce, sealed, sizeof sealed, NULL, 0)) return 5;
    if (length != sizeof plain || memcmp(opened, plain, sizeof plain)) return 6;
    sealed[3] ^= 1;
    if (EVP_AEAD_CTX_open(context, opened, &length, sizeof opened, nonce, sizeof nonce, sealed, sizeof sealed, NULL, 0)) return 7;
    EVP_AEAD_CTX_free(context);

    uint8_t public[32], private[64], signature[64];
    ED25519_keypair(public, private);
    if (!ED25519_sign(signature, abc, sizeof abc, private) || !ED25519_verify(abc, sizeof abc, signature, public)) return 8;
    signature[0] ^= 1;
    if (ED25519_verify(abc, sizeof abc, signature, public)) return 9;
    if (!RAND_bytes(first, sizeof first) || !RAND_bytes(second, sizeof second)) return 10;
    return memcmp(first, second, sizeof first) ? 0 : 11;
}
