#include "tls/server_certificate.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/x509v3.h>

#include "tls/openssl_error.h"
#include "tls/file.h"
#include "tls/pem.h"

enum { OCSP_LIMIT = 64 << 10, AUTH_LEVEL = 2 };

int64_t certificate_time_ms(const ASN1_TIME *time)
{
  struct tm parts;
  if (ASN1_TIME_to_tm(time, &parts) != 1) return 0;
  return (int64_t)timegm(&parts) * 1000;
}

// ---- The chain

// Certificate `i` of the file, counted from 0: the leaf is the first.
static X509 *at(const struct server_certificate *certificate, int i)
{
  return i == 0 ? certificate->leaf : sk_X509_value(certificate->chain, i - 1);
}

static enum status check_times(const char *path, const struct server_certificate *certificate, int i, time_t now,
                               struct error *error)
{
  char name[NAME_TEXT], when[TIME_TEXT];
  const X509 *one = at(certificate, i);
  name_text(X509_get_subject_name(one), name);
  if (X509_cmp_time(X509_get0_notBefore(one), &now) >= 0)
    return error_set(error, ERR_INVALID,
                     "%s: certificate %d (%s) is not yet valid, only from %s: set the clock, or use the one for now", path,
                     i + 1, name, time_text(X509_get0_notBefore(one), when));
  if (X509_cmp_time(X509_get0_notAfter(one), &now) <= 0)
    return error_set(error, ERR_INVALID, "%s: certificate %d (%s) has expired on %s: get a new one", path, i + 1, name,
                     time_text(X509_get0_notAfter(one), when));
  const char *weakness = key_weakness(X509_get0_pubkey(one));
  if (weakness)
    return error_set(error, ERR_INVALID, "%s: the key of certificate %d (%s) is too weak: %s", path, i + 1, name, weakness);
  return OK;
}

// Each certificate is to be signed by the one behind it.
static enum status check_link(const char *path, const struct server_certificate *certificate, int i, struct error *error)
{
  char name[NAME_TEXT], issuer[NAME_TEXT];
  X509 *one = at(certificate, i), *next = at(certificate, i + 1);
  int fits = X509_check_issued(next, one);
  if (fits == X509_V_OK && X509_verify(one, X509_get0_pubkey(next)) == 1 && X509_check_ca(next) != 0) return OK;
  ERR_clear_error();
  name_text(X509_get_issuer_name(one), issuer);
  name_text(X509_get_subject_name(next), name);
  return error_set(
      error, ERR_INVALID,
      "%s: the chain does not build: certificate %d is issued by %s, but certificate %d is %s%s: expected the server's "
      "certificate first, then each one's issuer",
      path, i + 1, issuer, i + 2, name,
      X509_NAME_cmp(X509_get_issuer_name(one), X509_get_subject_name(next)) ? "" : " with another key, or no CA");
}

// What the links alone do not show: path lengths, name constraints, signatures with weak digests, whether it is for servers.
static enum status check_path(const char *path, const struct server_certificate *certificate, time_t now,
                              struct error *error)
{
  int count = 1 + sk_X509_num(certificate->chain);
  X509_STORE *store = X509_STORE_new();
  X509_STORE_CTX *context = X509_STORE_CTX_new();
  const char *why = "not enough memory";
  bool fine = store && context && X509_STORE_add_cert(store, at(certificate, count - 1)) == 1 &&
              X509_STORE_CTX_init(context, store, certificate->leaf, certificate->chain) == 1;
  if (fine) {
    X509_VERIFY_PARAM *parameters = X509_STORE_CTX_get0_param(context);
    X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_PARTIAL_CHAIN);
    X509_VERIFY_PARAM_set_time(parameters, now);
    X509_VERIFY_PARAM_set_purpose(parameters, X509_PURPOSE_SSL_SERVER);
    X509_VERIFY_PARAM_set_auth_level(parameters, AUTH_LEVEL);
    fine = X509_verify_cert(context) == 1;
    if (!fine) why = X509_verify_cert_error_string(X509_STORE_CTX_get_error(context));
  }
  X509_STORE_CTX_free(context);
  X509_STORE_free(store);
  ERR_clear_error();
  if (fine) return OK;
  return error_set(error, ERR_INVALID,
                   "%s: clients would refuse it (%s): expected a certificate for a TLS server, then its chain", path, why);
}

static enum status check_chain(const char *path, struct server_certificate *certificate, time_t now, struct error *error)
{
  int count = 1 + sk_X509_num(certificate->chain);
  enum status status = OK;
  for (int i = 0; i < count && status == OK; i++) {
    status = check_times(path, certificate, i, now, error);
    if (status == OK && i + 1 < count) status = check_link(path, certificate, i, error);
    int64_t end_ms = certificate_time_ms(X509_get0_notAfter(at(certificate, i)));
    if (i == 0 || end_ms < certificate->end_ms) certificate->end_ms = end_ms;
  }
  return status == OK ? check_path(path, certificate, now, error) : status;
}

// ---- OCSP

static enum status refuse_ocsp(const char *path, const char *wrong, struct error *error)
{
  ERR_clear_error();
  return error_set(error, ERR_INVALID, "%s: %s: expected the responder's current answer for the certificate, in DER", path,
                   wrong);
}

// The answer about the leaf, and none about others. NULL: *out_why.
static OCSP_SINGLERESP *find_answer(OCSP_BASICRESP *basic, const struct server_certificate *certificate,
                                    const char **out_why)
{
  X509 *issuer = sk_X509_num(certificate->chain) > 0 ? sk_X509_value(certificate->chain, 0) : NULL;
  for (int i = 0; i < OCSP_resp_count(basic); i++) {
    OCSP_SINGLERESP *answer = OCSP_resp_get0(basic, i);
    const OCSP_CERTID *id = OCSP_SINGLERESP_get0_id(answer);
    ASN1_INTEGER *serial = NULL;
    ASN1_OBJECT *algorithm = NULL;
    if (!OCSP_id_get0_info(NULL, &algorithm, NULL, &serial, (OCSP_CERTID *)(uintptr_t)id)) continue;
    if (ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(certificate->leaf)) != 0) continue;
    if (!issuer) return answer;  // without it in the file the number is all there is to compare
    OCSP_CERTID *expected = OCSP_cert_to_id(EVP_get_digestbyobj(algorithm), certificate->leaf, issuer);
    bool same = expected && OCSP_id_cmp(expected, id) == 0;
    OCSP_CERTID_free(expected);
    if (same) return answer;
  }
  *out_why = "is about another certificate";
  return NULL;
}

// The signature can be checked when the issuer is in the file.
static bool signed_well(OCSP_BASICRESP *basic, const struct server_certificate *certificate)
{
  if (sk_X509_num(certificate->chain) == 0) return true;
  X509_STORE *store = X509_STORE_new();
  bool fine = store && X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN) == 1;
  for (int i = 0; fine && i < sk_X509_num(certificate->chain); i++)
    fine = X509_STORE_add_cert(store, sk_X509_value(certificate->chain, i)) == 1;
  fine = fine && OCSP_basic_verify(basic, certificate->chain, store, 0) == 1;
  X509_STORE_free(store);
  return fine;
}

static const char *look_at_ocsp(OCSP_RESPONSE *response, struct server_certificate *certificate, time_t now)
{
  if (OCSP_response_status(response) != OCSP_RESPONSE_STATUS_SUCCESSFUL)
    return "is an answer that says no more than that the responder failed";
  OCSP_BASICRESP *basic = OCSP_response_get1_basic(response);
  if (!basic) return "cannot be read";
  const char *why = NULL;
  int reason;
  ASN1_GENERALIZEDTIME *revoked = NULL, *from = NULL, *until = NULL;
  OCSP_SINGLERESP *answer = find_answer(basic, certificate, &why);
  int state = answer ? OCSP_single_get0_status(answer, &reason, &revoked, &from, &until) : -1;
  if (!answer)
    ;
  else if (!signed_well(basic, certificate))
    why = "is not signed by the certificate's issuer";
  else if (state == V_OCSP_CERTSTATUS_REVOKED)
    why = "says that the certificate is revoked";
  else if (state != V_OCSP_CERTSTATUS_GOOD)
    why = "does not say that the certificate is good";
  else if (!from || X509_cmp_time(from, &now) >= 0)
    why = "is not yet valid";
  else if (until && X509_cmp_time(until, &now) <= 0)
    why = "is out of date";
  else
    certificate->ocsp_end_ms = until ? certificate_time_ms(until) : 0;
  OCSP_BASICRESP_free(basic);
  return why;
}

static enum status load_ocsp(const char *path, time_t now, struct server_certificate *certificate, struct error *error)
{
  enum status status =
      file_read(path, "an OCSP response in DER", OCSP_LIMIT, &certificate->ocsp, &certificate->ocsp_size, error);
  if (status != OK) return status;
  const unsigned char *place = certificate->ocsp;
  OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &place, (long)certificate->ocsp_size);
  const char *wrong = "cannot be read";
  if (response) wrong = look_at_ocsp(response, certificate, now);
  OCSP_RESPONSE_free(response);
  return wrong ? refuse_ocsp(path, wrong, error) : OK;
}

// ---- Life

enum status server_certificate_load(const struct tls_certificate *files, struct wall now, struct server_certificate *out,
                                    struct error *error)
{
  time_t now_s = (time_t)(now.ms / 1000);
  enum status status = pem_certificates(files->cert, &out->chain, error);
  if (status != OK) return status;
  out->leaf = sk_X509_shift(out->chain);
  // One that is self-signed at the end helps nobody, but does no harm.
  status = check_chain(files->cert, out, now_s, error);
  if (status == OK) status = pem_key(files->key, &out->key, error);
  if (status != OK) return status;
  if (X509_check_private_key(out->leaf, out->key) != 1) {
    char name[NAME_TEXT];
    ERR_clear_error();
    return error_set(error, ERR_INVALID, "%s: is not the key of %s (%s): expected the private key of its first certificate",
                     files->key, files->cert, name_text(X509_get_subject_name(out->leaf), name));
  }
  return files->ocsp ? load_ocsp(files->ocsp, now_s, out, error) : OK;
}

void server_certificate_deinit(struct server_certificate *certificate)
{
  X509_free(certificate->leaf);
  sk_X509_pop_free(certificate->chain, X509_free);
  EVP_PKEY_free(certificate->key);  // wipes
  free(certificate->ocsp);
  *certificate = (struct server_certificate){0};
}

static bool same_encoding(const unsigned char *a, int a_size, const unsigned char *b, int b_size)
{
  return a_size == b_size && (a_size <= 0 || memcmp(a, b, (size_t)a_size) == 0);
}

bool server_certificate_same_names(const struct server_certificate *a, const struct server_certificate *b)
{
  GENERAL_NAMES *names_a = X509_get_ext_d2i(a->leaf, NID_subject_alt_name, NULL, NULL);
  GENERAL_NAMES *names_b = X509_get_ext_d2i(b->leaf, NID_subject_alt_name, NULL, NULL);
  unsigned char *bytes_a = NULL, *bytes_b = NULL;
  int size_a = names_a ? i2d_GENERAL_NAMES(names_a, &bytes_a) : 0,
      size_b = names_b ? i2d_GENERAL_NAMES(names_b, &bytes_b) : 0;
  bool same = same_encoding(bytes_a, size_a, bytes_b, size_b) &&
              (size_a > 0 || X509_NAME_cmp(X509_get_subject_name(a->leaf), X509_get_subject_name(b->leaf)) == 0);
  OPENSSL_free(bytes_a);
  OPENSSL_free(bytes_b);
  GENERAL_NAMES_free(names_a);
  GENERAL_NAMES_free(names_b);
  return same;
}
