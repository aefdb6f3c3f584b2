// Both messages of a SCRAM client, a line end between them; "@" in the second is the nonce. Nobody comes in without a proof,
// and what the server says begins with what it was told.
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "auth/enhanced.h"
#include "auth/saslprep.h"
#include "base/buffer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char file[] = "user:$scram-sha-256$4096$W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
                           "$wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n";

static void check(bool condition)
{
  if (!condition) abort();
}

static enum mqtt_reason step(struct enhanced *exchange, const struct passwords *passwords, struct span data,
                             struct buffer *out)
{
  uint8_t *bytes = NULL;
  size_t size = 0;
  const char *why = NULL;
  enum mqtt_reason reason =
      enhanced_step(exchange, passwords, span_text("secret"), (struct wall){0}, data, &bytes, &size, &why);
  check((reason == MQTT_NOT_AUTHORIZED) == (why != NULL));
  check((reason == MQTT_NOT_AUTHORIZED) == (bytes == NULL));
  if (bytes) check(buffer_append(out, bytes, size) == OK);
  free(bytes);
  return reason;
}

// The second message with the nonce of the challenge in it.
static void insert_nonce(struct span message, struct span challenge, struct buffer *out)
{
  const uint8_t *end = memchr(challenge.at, ',', challenge.size);
  check(challenge.size > 2 && memcmp(challenge.at, "r=", 2) == 0 && end != NULL);
  for (size_t i = 0; i < message.size; i++) {
    bool here = message.at[i] == '@' && buffer_size(out) < 4096;
    struct span part = here ? span_of(challenge.at + 2, (size_t)(end - challenge.at) - 2) : span_of(message.at + i, 1);
    check(buffer_append(out, part.at, part.size) == OK);
  }
}

static void exchange_messages(const struct passwords *passwords, struct span first, struct span second)
{
  struct enhanced *exchange = enhanced_begin(span_text("SCRAM-SHA-256"));
  struct buffer challenge = {0}, message = {0}, answer = {0};
  check(exchange != NULL);
  enum mqtt_reason reason = step(exchange, passwords, first, &challenge);
  if (reason == MQTT_CONTINUE_AUTHENTICATION) {
    check(enhanced_user(exchange).size > 0);
    insert_nonce(second, buffer_peek(&challenge), &message);
    // The proof is 32 bytes that depend on our nonce.
    check(step(exchange, passwords, buffer_peek(&message), &answer) == MQTT_NOT_AUTHORIZED);
  }
  check(step(exchange, passwords, first, &answer) == MQTT_NOT_AUTHORIZED);
  enhanced_free(exchange);
  buffer_deinit(&challenge);
  buffer_deinit(&message);
  buffer_deinit(&answer);
}

// What is prepared needs no more preparing.
static void check_saslprep(struct span text)
{
  uint8_t *once = malloc(text.size + 1), *twice = malloc(text.size + 1);
  size_t size = 0, again = 0;
  check(once != NULL && twice != NULL);
  if (saslprep(text, once, &size)) {
    check(size <= text.size);
    check(saslprep(span_of(once, size), twice, &again));
    check(span_equal(span_of(once, size), span_of(twice, again)));
  }
  free(once);
  free(twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct passwords *passwords = NULL;
  check(passwords_parse(span_text(file), "fuzz", &passwords, NULL) == OK);
  const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
  size_t first = end ? (size_t)(end - data) : size;
  struct span second = end ? span_of(end + 1, size - first - 1) : (struct span){0};
  exchange_messages(passwords, span_of(data, first), second);
  check_saslprep(span_of(data, size));
  passwords_unref(passwords);
  return 0;
}
