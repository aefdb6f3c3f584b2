// Both messages of a SCRAM client, a line end between them; "@" in the second is the nonce, and "!" at its end the proof of
// "pencil". Nobody comes in without a proof, with one only the user, and what the server says begins with what it was told.
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "auth/enhanced.h"
#include "auth/saslprep.h"
#include "base/buffer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char file[] = "user:$scram-sha-256$4096$W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
                           "$wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n";

// HMAC(Hi("pencil", salt, 4096), "Client Key"): the file has its hash.
static const uint8_t client_key[32] = {0xa6, 0x0f, 0xc9, 0x23, 0xd6, 0x7e, 0x86, 0x44, 0xa9, 0x2d, 0x16,
                                       0xb9, 0x6e, 0xda, 0x5e, 0xf4, 0x65, 0x6b, 0x0c, 0x72, 0x5c, 0x48,
                                       0x43, 0x74, 0xbe, 0x25, 0x53, 0x55, 0x76, 0x99, 0x6e, 0x8b};

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

// What HMAC signs: client-first without its header, server-first, and client-final without its proof.
static bool append_proof(struct span first, struct span challenge, struct buffer *message)
{
  struct span final = buffer_peek(message);
  bool wants = final.size >= 4 && memcmp(final.at + final.size - 4, ",p=!", 4) == 0;
  const uint8_t *bare = memmem(first.at, first.size, ",n=", 3);
  if (!wants || !bare) return false;
  struct buffer text = {0};
  check(buffer_append(&text, bare + 1, (size_t)(first.at + first.size - bare) - 1) == OK);
  check(buffer_append(&text, ",", 1) == OK && buffer_append(&text, challenge.at, challenge.size) == OK);
  check(buffer_append(&text, ",", 1) == OK && buffer_append(&text, final.at, final.size - 4) == OK);
  uint8_t stored[32], proof[32];
  unsigned size = sizeof proof;
  check(EVP_Digest(client_key, sizeof client_key, stored, NULL, EVP_sha256(), NULL) == 1);
  check(HMAC(EVP_sha256(), stored, sizeof stored, buffer_peek(&text).at, buffer_size(&text), proof, &size) != NULL);
  for (size_t i = 0; i < sizeof proof; i++) proof[i] ^= client_key[i];
  unsigned char encoded[45];
  check(EVP_EncodeBlock(encoded, proof, sizeof proof) == 44);
  message->end--;  // the mark
  check(buffer_append(message, encoded, 44) == OK);
  buffer_deinit(&text);
  return true;
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
    bool proves = append_proof(first, buffer_peek(&challenge), &message);
    if (step(exchange, passwords, buffer_peek(&message), &answer) == MQTT_SUCCESS) {
      check(proves);  // 32 bytes that depend on our nonce
      check(span_equal(enhanced_user(exchange), span_text("user")));
      check(buffer_size(&answer) == 46 && memcmp(buffer_peek(&answer).at, "v=", 2) == 0);
    }
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
