/* mimalloc: memory from several threads, freed by others. */
#include <mimalloc.h>
#include <pthread.h>
#include <string.h>

enum { THREADS = 8, BLOCKS = 2000 };
static void *blocks[THREADS][BLOCKS];

static void *fill(void *argument) {
    size_t thread = (size_t)argument;
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t size = 16 + (i * 37) % 4000;
        if (!(blocks[thread][i] = mi_malloc(size))) return (void *)1;
        memset(blocks[thread][i], (int)thread + 1, size);
    }
    return NULL;
}

int check_mimalloc(void) {
    pthread_t threads[THREADS];
    void *failed;
    for (size_t t = 0; t < THREADS; t++)
        if (pthread_create(&threads[t], NULL, fill, (void *)t)) return 1;
    for (size_t t = 0; t < THREADS; t++)
        if (pthread_join(threads[t], &failed) || failed) return 2;
    for (size_t t = 0; t < THREADS; t++)
        for (size_t i = 0; i < BLOCKS; i++) {
            if (*(unsigned char *)blocks[t][i] != t + 1 || mi_usable_size(blocks[t][i]) < 16) return 3;
            mi_free(blocks[t][i]);
        }
    return 0;
}
