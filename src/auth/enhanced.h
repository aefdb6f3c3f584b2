// Enhanced authentication (MQTT 5.0 section 4.12): SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side. One exchange:
// client-first → server-first → client-final → server-final. No channel binding. Any thread, one at a time.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth/passwords.h"
#include "base/span.h"
#include "mqtt/reason.h"

struct enhanced;

bool enhanced_knows(struct span method);  // "SCRAM-SHA-256"
struct enhanced *enhanced_begin(struct span method);
void enhanced_free(struct enhanced *exchange);  // NULL is harmless

// The client's data → ours. CONTINUE_AUTHENTICATION: send *out (heap) in AUTH; SUCCESS: *out goes in CONNACK (or AUTH,
// again), enhanced_user is who it is; else refuse. `secret`: the broker's own, for the verifiers of users that do not exist.
enum mqtt_reason enhanced_step(struct enhanced *exchange, const struct passwords *passwords, struct span secret,
                               struct wall now, struct span data, uint8_t **out, size_t *out_size, const char **out_why);
struct span enhanced_user(const struct enhanced *exchange);
