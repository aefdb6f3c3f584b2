// Enhanced authentication. See enhanced.h; the exchange itself is auth/scram.h's.
#include "auth/enhanced.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "auth/scram.h"
#include "wire/base64.h"

enum { NONCE_BYTES = 18 };  // 24 characters in base64, without padding

struct enhanced {
  struct scram *scram;
  bool challenged, known;  // `known`: the user is one
};

bool enhanced_knows(struct span method)
{
  return span_equal(method, span_text("SCRAM-SHA-256"));
}

struct enhanced *enhanced_begin(struct span method)
{
  if (!enhanced_knows(method) || sodium_init() < 0) return NULL;
  struct enhanced *exchange = calloc(1, sizeof *exchange);
  if (!exchange) return NULL;
  exchange->scram = scram_create();
  if (exchange->scram) return exchange;
  free(exchange);
  return NULL;
}

void enhanced_free(struct enhanced *exchange)
{
  if (!exchange) return;
  scram_free(exchange->scram);
  free(exchange);
}

struct span enhanced_user(const struct enhanced *exchange)
{
  return scram_user(exchange->scram);
}

static const char *first(struct enhanced *exchange, const struct passwords *passwords, struct span secret, struct wall now,
                         struct span data, struct span *out)
{
  const char *why = scram_take_first(exchange->scram, data);
  if (why) return why;
  struct scram_verifier verifiers[PASSWORDS_PER_USER];
  uint8_t random[NONCE_BYTES];
  char nonce[NONCE_BYTES / 3 * 4];
  size_t count = passwords_scram(passwords, scram_user(exchange->scram), secret, now, verifiers);
  exchange->known = count > 0;
  randombytes_buf(random, sizeof random);
  size_t size = base64_encode(span_of(random, sizeof random), nonce);
  why = scram_challenge(exchange->scram, verifiers, count > 0 ? count : 1, span_of(nonce, size), out);
  sodium_memzero(verifiers, sizeof verifiers);
  return why;
}

enum mqtt_reason enhanced_step(struct enhanced *exchange, const struct passwords *passwords, struct span secret,
                               struct wall now, struct span data, uint8_t **out, size_t *out_size, const char **out_why)
{
  struct span message;
  bool last = exchange->challenged;
  const char *why =
      last ? scram_take_final(exchange->scram, data, &message) : first(exchange, passwords, secret, now, data, &message);
  exchange->challenged = true;
  if (!why && last && !exchange->known) why = "the password is wrong, or there is no such user";
  uint8_t *copy = why ? NULL : malloc(message.size);
  if (!why && !copy) why = "memory is short";
  if (why) {
    *out_why = why;
    return MQTT_NOT_AUTHORIZED;
  }
  memcpy(copy, message.at, message.size);
  *out = copy;
  *out_size = message.size;
  return last ? MQTT_SUCCESS : MQTT_CONTINUE_AUTHENTICATION;
}
