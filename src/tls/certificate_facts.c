#include "tls/certificate_facts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "base/buffer.h"
#include "base/utf8.h"

enum {
  FACTS_MAX = 64,         // of one certificate: more is somebody's joke
  VALUE_MAX = 1024,       // bytes
  SERIAL_MAX_BYTES = 64,  // RFC 5280 says 20
};

// Values are gathered in a buffer, which moves while it grows: places first, pointers at the end.
struct gathering {
  struct buffer values;
  size_t count;
  bool failed;  // memory is short
  struct {
    const char *name;  // static
    size_t at, size;
  } facts[FACTS_MAX];
};

static bool is_text(struct span value)
{
  if (value.size == 0 || value.size > VALUE_MAX) return false;
  while (value.size) {
    struct utf8_character character = utf8_next(value);
    if (character.size == 0 || utf8_is_control(character.code)) return false;
    value = span_from(value, character.size);
  }
  return true;
}

static void add(struct gathering *gathering, const char *name, struct span value)
{
  if (gathering->count == FACTS_MAX || !is_text(value)) return;
  size_t at = buffer_size(&gathering->values);
  if (buffer_append(&gathering->values, value.at, value.size) != OK || buffer_append(&gathering->values, "", 1) != OK) {
    gathering->failed = true;
    return;
  }
  gathering->facts[gathering->count].name = name;
  gathering->facts[gathering->count].at = at;
  gathering->facts[gathering->count].size = value.size;
  gathering->count++;
}

static void add_string(struct gathering *gathering, const char *name, const ASN1_STRING *string)
{
  unsigned char *text = NULL;
  int size = ASN1_STRING_to_UTF8(&text, string);
  if (size > 0) add(gathering, name, span_of(text, (size_t)size));
  OPENSSL_free(text);
}

static void add_subject(struct gathering *gathering, X509 *certificate)
{
  static const struct {
    int nid;
    const char *name;
  } parts[] = {{NID_commonName, "cert.cn"}, {NID_organizationalUnitName, "cert.ou"}, {NID_organizationName, "cert.o"}};
  X509_NAME *subject = X509_get_subject_name(certificate);
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
    for (int at = -1; (at = X509_NAME_get_index_by_NID(subject, parts[i].nid, at)) >= 0;)
      add_string(gathering, parts[i].name, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
}

static void add_alternative_names(struct gathering *gathering, X509 *certificate)
{
  GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
  for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
    int type;
    const ASN1_STRING *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
    if (type == GEN_DNS) add_string(gathering, "cert.san_dns", value);
    if (type == GEN_URI) add_string(gathering, "cert.san_uri", value);
    if (type == GEN_EMAIL) add_string(gathering, "cert.san_email", value);
  }
  GENERAL_NAMES_free(names);
}

static void add_hexadecimal(struct gathering *gathering, const char *name, const uint8_t *bytes, size_t size)
{
  static const char digits[] = "0123456789abcdef";
  char text[2 * SERIAL_MAX_BYTES];
  if (size > SERIAL_MAX_BYTES) return;
  for (size_t i = 0; i < size; i++) {
    text[2 * i] = digits[bytes[i] >> 4];
    text[2 * i + 1] = digits[bytes[i] & 15];
  }
  add(gathering, name, span_of(text, 2 * size));
}

static void add_numbers(struct gathering *gathering, X509 *certificate)
{
  const ASN1_INTEGER *serial = X509_get0_serialNumber(certificate);
  add_hexadecimal(gathering, "cert.serial", ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial));
  uint8_t digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (X509_digest(certificate, EVP_sha256(), digest, &size)) add_hexadecimal(gathering, "cert.fingerprint", digest, size);
}

struct certificate_facts *certificate_facts(X509 *certificate)
{
  struct gathering gathering = {0};
  add_subject(&gathering, certificate);
  add_alternative_names(&gathering, certificate);
  // A hostile certificate with many names cannot push these out.
  if (gathering.count > FACTS_MAX - 2) gathering.count = FACTS_MAX - 2;
  add_numbers(&gathering, certificate);

  struct span values = buffer_peek(&gathering.values);
  size_t table = sizeof(struct certificate_facts) + gathering.count * sizeof(struct identity_fact);
  struct certificate_facts *facts = gathering.failed ? NULL : malloc(table + values.size);
  if (facts) {
    uint8_t *copy = (uint8_t *)facts + table;
    if (values.size) memcpy(copy, values.at, values.size);
    facts->count = gathering.count;
    for (size_t i = 0; i < gathering.count; i++)
      facts->facts[i] = (struct identity_fact){.name = span_text(gathering.facts[i].name),
                                               .value = span_of(copy + gathering.facts[i].at, gathering.facts[i].size)};
  }
  buffer_deinit(&gathering.values);
  return facts;
}
