#include "certificates.h"

#include <assert.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

// Test programs run alone, one directory each.
static char directory[] = "/tmp/skerry-tls-XXXXXX";
static char paths[256][96];
static size_t path_count;

void scratch_create(void **state)
{
  (void)state;
  char *made = mkdtemp(directory);
  assert(made);
}

void scratch_remove(void **state)
{
  (void)state;
  for (size_t i = 0; i < path_count; i++) unlink(paths[i]);
  rmdir(directory);
}

const char *scratch_path(const char *name)
{
  char path[sizeof *paths];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  for (size_t i = 0; i < path_count; i++)
    if (strcmp(paths[i], path) == 0) return paths[i];
  assert(path_count < sizeof paths / sizeof *paths);
  memcpy(paths[path_count], path, sizeof path);
  return paths[path_count++];
}

const char *scratch_file(const char *name, const void *bytes, size_t size)
{
  const char *path = scratch_path(name);
  FILE *file = fopen(path, "w");
  assert(file);
  size_t written = fwrite(bytes, 1, size, file);
  assert(written == size);
  fclose(file);
  return path;
}

static EVP_PKEY *make_key(enum test_key kind)
{
  switch (kind) {
    case TEST_P256: return EVP_EC_gen("P-256");
    case TEST_P384: return EVP_EC_gen("P-384");
    case TEST_P192: return EVP_EC_gen("P-192");
    case TEST_RSA2048: return EVP_RSA_gen(2048);
    case TEST_RSA1024: return EVP_RSA_gen(1024);
    case TEST_ED25519: return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
  }
  return NULL;
}

static void extend(X509 *certificate, X509 *issuer, int nid, const char *value)
{
  if (!value) return;
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
  X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
  assert(extension);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

static void name_it(X509 *certificate, const struct wanted *wanted)
{
  X509_NAME *name = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)wanted->name, -1, -1, 0);
  X509_NAME_add_entry_by_txt(name, "OU", MBSTRING_UTF8, (const unsigned char *)"Line 7", -1, -1, 0);
}

struct identified certify(const struct wanted *wanted)
{
  struct identified made = {.certificate = X509_new(), .key = make_key(wanted->key)};
  assert(made.key);
  const struct identified *issuer = wanted->issuer ? wanted->issuer : &made;
  bool usual = wanted->from_s == 0 && wanted->until_s == 0;
  X509_set_version(made.certificate, X509_VERSION_3);
  BIGNUM *serial = BN_new();
  if (wanted->serial)
    BN_set_word(serial, (BN_ULONG)wanted->serial);
  else
    BN_rand(serial, 120, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY);
  BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(made.certificate));
  BN_free(serial);
  X509_gmtime_adj(X509_getm_notBefore(made.certificate), usual ? -3600 : wanted->from_s);
  X509_gmtime_adj(X509_getm_notAfter(made.certificate), usual ? 86400 : wanted->until_s);
  name_it(made.certificate, wanted);
  X509_set_issuer_name(made.certificate, X509_get_subject_name(issuer->certificate));
  X509_set_pubkey(made.certificate, made.key);
  extend(made.certificate, issuer->certificate, NID_basic_constraints, wanted->authority ? "critical,CA:TRUE" : "CA:FALSE");
  extend(made.certificate, issuer->certificate, NID_subject_alt_name, wanted->alternative);
  extend(made.certificate, issuer->certificate, NID_ext_key_usage, wanted->usage);
  extend(made.certificate, issuer->certificate, NID_key_usage, wanted->key_usage);
  extend(made.certificate, issuer->certificate, NID_name_constraints, wanted->constraint);
  const EVP_MD *digest = wanted->digest ? wanted->digest : EVP_sha256();
  if (EVP_PKEY_get_base_id(issuer->key) == EVP_PKEY_ED25519) digest = NULL;
  int size = X509_sign(made.certificate, issuer->key, digest);
  assert(size > 0);
  return made;
}

void identified_free(struct identified *identified)
{
  X509_free(identified->certificate);
  EVP_PKEY_free(identified->key);
}

static FILE *open_file(const char *path)
{
  FILE *file = fopen(path, "w");
  assert(file);
  return file;
}

const char *write_certificates(const char *name, X509 *const *certificates, size_t count)
{
  const char *path = scratch_path(name);
  FILE *file = open_file(path);
  for (size_t i = 0; i < count; i++) PEM_write_X509(file, certificates[i]);
  fclose(file);
  return path;
}

const char *write_certificate(const char *name, X509 *certificate)
{
  return write_certificates(name, &certificate, 1);
}

const char *write_key(const char *name, EVP_PKEY *key)
{
  const char *path = scratch_path(name);
  FILE *file = open_file(path);
  PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
  fclose(file);
  return path;
}

X509_CRL *make_crl(const struct revocation *revocation)
{
  bool usual = revocation->from_s == 0 && revocation->until_s == 0;
  X509_CRL *crl = X509_CRL_new();
  X509_CRL_set_version(crl, X509_CRL_VERSION_2);
  X509_CRL_set_issuer_name(crl, X509_get_subject_name(revocation->issuer->certificate));
  ASN1_TIME *time = X509_gmtime_adj(NULL, usual ? -3600 : revocation->from_s);
  X509_CRL_set1_lastUpdate(crl, time);
  for (size_t i = 0; i < revocation->count; i++) {
    X509_REVOKED *entry = X509_REVOKED_new();
    X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(revocation->revoked[i]));
    X509_REVOKED_set_revocationDate(entry, time);
    X509_CRL_add0_revoked(crl, entry);
  }
  X509_gmtime_adj(time, usual ? 86400 : revocation->until_s);
  X509_CRL_set1_nextUpdate(crl, time);
  ASN1_TIME_free(time);
  X509_CRL_sort(crl);
  int size = X509_CRL_sign(crl, (revocation->signer ? revocation->signer : revocation->issuer)->key, EVP_sha256());
  assert(size > 0);
  return crl;
}

const char *write_crls(const char *name, X509_CRL *const *crls, size_t count)
{
  const char *path = scratch_path(name);
  FILE *file = open_file(path);
  for (size_t i = 0; i < count; i++) PEM_write_X509_CRL(file, crls[i]);
  fclose(file);
  return path;
}

const char *write_answer(const char *name, const struct answer *answer)
{
  OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
  OCSP_CERTID *id = OCSP_cert_to_id(NULL, answer->subject->certificate, answer->issuer->certificate);
  ASN1_TIME *from = X509_gmtime_adj(NULL, answer->from_s), *until = X509_gmtime_adj(NULL, answer->until_s);
  ASN1_TIME *revoked = answer->state == V_OCSP_CERTSTATUS_REVOKED ? from : NULL;
  OCSP_basic_add1_status(basic, id, answer->state, OCSP_REVOKED_STATUS_KEYCOMPROMISE, revoked, from, until);
  int signed_well = OCSP_basic_sign(basic, answer->signer->certificate, answer->signer->key, EVP_sha256(), NULL, 0);
  assert(signed_well == 1);
  OCSP_RESPONSE *response = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
  unsigned char *bytes = NULL;
  int size = i2d_OCSP_RESPONSE(response, &bytes);
  const char *path = scratch_file(name, bytes, (size_t)size);
  OPENSSL_free(bytes);
  ASN1_TIME_free(from);
  ASN1_TIME_free(until);
  OCSP_CERTID_free(id);
  OCSP_RESPONSE_free(response);
  OCSP_BASICRESP_free(basic);
  return path;
}
