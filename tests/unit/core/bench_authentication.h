// Clients that are asked who they are, for the tests of authentication: what their CONNECT and AUTH look like, and how far
// they have come.
#pragma once

#include "bench.h"

#include "core/access.h"
#include "core/admission.h"
#include "core/shard_internal.h"

static const struct answer REFUSE = {.reason = MQTT_NOT_AUTHORIZED};

// A bench whose listeners want credentials.
void bench_init_authentication(struct bench *bench, uint8_t shard_count);

// The same for a test that is listed as WITH_BENCH.
struct bench *bench_make_authentication(void **state, uint8_t shard_count);

// NULL: it shows no user name, no password.
struct mqtt_packet connect_as(enum mqtt_version version, const char *id, const char *user, const char *password);

// A client whom `believe` lets in.
struct client *client_as(struct bench *bench, enum mqtt_version version, const char *id, const char *user);

void assert_user(const struct client *client, const char *user);

// Authentication method and data; `data` NULL: none.
void set_method(struct mqtt_properties *properties, const char *method, const char *data);
struct mqtt_packet auth_packet(enum mqtt_reason reason, const char *method, const char *data);

// AUTH of the method "M", with this and nothing else in it.
void expect_auth(struct client *client, enum mqtt_reason reason, const char *data);

// A client that names the method "M", up to its first question.
struct client *client_asked(struct bench *bench, const char *id, const char *data);

// ... in an exchange: the next AUTH is the client's.
struct client *client_in_exchange(struct bench *bench, const char *id);

// ... and let in.
struct client *client_enhanced(struct bench *bench, const char *id, const char *user, uint64_t expires_ms);
