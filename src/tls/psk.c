#include "tls/psk.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "base/hash.h"
#include "base/map.h"
#include "base/utf8.h"
#include "base/wipe.h"
#include "tls/file.h"

enum { FILE_LIMIT = 64 << 20 };

struct psk {
  uint8_t key[PSK_KEY_MAX];
  uint8_t key_size;
  uint8_t identity_size;
  uint32_t line;
  uint8_t identity[];
};

struct psk_list {
  uint64_t seed;
  struct map keys;
};

static bool has_identity(const void *item, const void *key)
{
  const struct psk *psk = item;
  const struct span *identity = key;
  return span_equal(span_of(psk->identity, psk->identity_size), *identity);
}

static struct psk *find(const struct psk_list *list, struct span identity)
{
  return map_find(&list->keys, hash_span(list->seed, identity), has_identity, &identity);
}

static bool is_identity(struct span text)
{
  while (text.size) {
    struct utf8_character character = utf8_next(text);
    if (character.size == 0 || utf8_is_control(character.code)) return false;
    text = span_from(text, character.size);
  }
  return true;
}

static int digit(uint8_t character)
{
  if (character >= '0' && character <= '9') return character - '0';
  if (character >= 'a' && character <= 'f') return character - 'a' + 10;
  if (character >= 'A' && character <= 'F') return character - 'A' + 10;
  return -1;
}

static bool parse_hexadecimal(struct span text, uint8_t *out)
{
  for (size_t i = 0; i < text.size; i += 2) {
    int high = digit(text.at[i]), low = digit(text.at[i + 1]);
    if (high < 0 || low < 0) return false;
    out[i / 2] = (uint8_t)(high << 4 | low);
  }
  return true;
}

// NULL: fine. The identity ends at the last colon: it may hold others.
static const char *look_at_line(struct span line, struct span *identity, struct span *key)
{
  const uint8_t *colon = memrchr(line.at, ':', line.size);
  if (!colon) return "expected identity:key";
  *identity = span_of(line.at, (size_t)(colon - line.at));
  *key = span_from(line, identity->size + 1);
  if (identity->size == 0) return "the identity is empty: expected identity:key";
  if (identity->size > PSK_IDENTITY_MAX) return "the identity is longer than 128 bytes";
  if (!is_identity(*identity)) return "the identity is not UTF-8, or holds control characters";
  if (key->size % 2 != 0) return "the key has an odd number of hexadecimal digits";
  if (key->size < 2 * PSK_KEY_MIN)
    return "the key is too short: expected at least 32 hexadecimal digits (openssl rand -hex 32)";
  if (key->size > 2 * PSK_KEY_MAX) return "the key is too long: expected at most 128 hexadecimal digits";
  return NULL;
}

static enum status add_line(struct psk_list *list, struct span line, const char *name, uint32_t number, struct error *error)
{
  struct span identity, key;
  const char *wrong = look_at_line(line, &identity, &key);
  if (wrong) return error_set(error, ERR_INVALID, "%s:%u: %s", name, number, wrong);
  const struct psk *same = find(list, identity);
  if (same)
    return error_set(error, ERR_INVALID, "%s:%u: identity \"%.*s\" is in line %u already: expected one key for each", name,
                     number, (int)identity.size, (const char *)identity.at, same->line);
  struct psk *psk = calloc(1, sizeof *psk + identity.size);
  if (!psk) return error_set(error, ERR_NO_MEMORY, "%s:%u: not enough memory", name, number);
  psk->line = number;
  psk->key_size = (uint8_t)(key.size / 2);
  psk->identity_size = (uint8_t)identity.size;
  memcpy(psk->identity, identity.at, identity.size);
  enum status status = OK;
  if (!parse_hexadecimal(key, psk->key))
    status = error_set(error, ERR_INVALID, "%s:%u: the key is not hexadecimal (0-9, a-f)", name, number);
  else if (map_insert(&list->keys, hash_span(list->seed, identity), psk) != OK)
    status = error_set(error, ERR_NO_MEMORY, "%s:%u: not enough memory", name, number);
  if (status != OK) {
    OPENSSL_cleanse(psk, sizeof *psk);
    free(psk);
  }
  return status;
}

static struct span trim(struct span line)
{
  while (line.size && (line.at[0] == ' ' || line.at[0] == '\t')) line = span_from(line, 1);
  while (line.size && strchr(" \t\r", line.at[line.size - 1]) && line.at[line.size - 1]) line.size--;
  return line;
}

enum status psk_parse(struct span text, const char *name, struct psk_list **out, struct error *error)
{
  static const uint8_t byte_order_mark[] = {0xef, 0xbb, 0xbf};  // as some editors write in front of UTF-8
  if (text.size >= sizeof byte_order_mark && memcmp(text.at, byte_order_mark, sizeof byte_order_mark) == 0)
    text = span_from(text, sizeof byte_order_mark);
  struct psk_list *list = calloc(1, sizeof *list);
  if (!list || RAND_bytes((unsigned char *)&list->seed, sizeof list->seed) != 1) {
    free(list);
    return error_set(error, ERR_NO_MEMORY, "%s: not enough memory", name);
  }
  enum status status = OK;
  for (uint32_t number = 1; text.size && status == OK; number++) {
    const uint8_t *newline = memchr(text.at, '\n', text.size);
    struct span line = span_of(text.at, newline ? (size_t)(newline - text.at) : text.size);
    text = span_from(text, newline ? line.size + 1 : line.size);
    line = trim(line);
    if (line.size && line.at[0] != '#') status = add_line(list, line, name, number, error);
  }
  if (status == OK && list->keys.count == 0)
    status = error_set(error, ERR_INVALID, "%s: holds no keys: expected lines identity:key", name);
  if (status == OK)
    *out = list;
  else
    psk_free(list);
  return status;
}

enum status psk_load(const char *path, struct psk_list **out, struct error *error)
{
  uint8_t *bytes;
  size_t size;
  enum status status = file_read(path, "lines identity:key", FILE_LIMIT, &bytes, &size, error);
  if (status != OK) return status;
  status = psk_parse(span_of(bytes, size), path, out, error);
  wipe_and_free(bytes, size);
  return status;
}

void psk_free(struct psk_list *list)
{
  if (!list) return;
  size_t cursor = 0;
  struct psk *psk;
  while ((psk = map_next(&list->keys, &cursor))) {
    OPENSSL_cleanse(psk, sizeof *psk);
    free(psk);
  }
  map_deinit(&list->keys);
  free(list);
}

struct span psk_find(const struct psk_list *list, struct span identity)
{
  const struct psk *psk = find(list, identity);
  return psk ? span_of(psk->key, psk->key_size) : (struct span){0};
}

struct span psk_only(const struct psk_list *list)
{
  size_t cursor = 0;
  const struct psk *psk = list->keys.count == 1 ? map_next(&list->keys, &cursor) : NULL;
  return psk ? span_of(psk->identity, psk->identity_size) : (struct span){0};
}
