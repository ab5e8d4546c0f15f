/* librdkafka: the version that the crate names, and a message, compressed by zstd, confirmed by all of its own in-process brokers. */
#include <rdkafka.h>
#include <string.h>

static int delivered, refused;

static void report(rd_kafka_t *handle, const rd_kafka_message_t *message, void *opaque) {
    (void)handle;
    (void)opaque;
    if (message->err) refused++;
    else delivered++;
}

static int set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char why[256];
    return rd_kafka_conf_set(conf, name, value, why, sizeof why) == RD_KAFKA_CONF_OK;
}

int check_rdkafka(void) {
    char why[256];
    if (strcmp(rd_kafka_version_str(), VERSION)) return 1;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (!set(conf, "test.mock.num.brokers", "3") || !set(conf, "enable.idempotence", "true")) return 2;
    if (!set(conf, "compression.codec", "zstd")) return 3;
    rd_kafka_conf_set_dr_msg_cb(conf, report);
    rd_kafka_t *producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (!producer) return 4;
    static char payload[20000];
    memset(payload, 'x', sizeof payload);
    for (int i = 0; i < 100; i++)
        if (rd_kafka_producev(producer, RD_KAFKA_V_TOPIC("proof"), RD_KAFKA_V_VALUE(payload, sizeof payload),
                              RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END))
            return 5;
    if (rd_kafka_flush(producer, 60000)) return 6;
    rd_kafka_destroy(producer);
    return delivered == 100 && !refused ? 0 : 7;
}
