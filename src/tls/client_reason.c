// Why a client and its server do not come together, for people: what is wrong, and what would be right.
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "tls/client_internal.h"
#include "tls/openssl_error.h"
#include "tls/pem.h"
#include "tls/session_internal.h"

enum { REASON_TEXT = 768, NAMES_TEXT = 256 };

static const char *compose(struct tls_session *session, const char *format, ...) __attribute__((format(printf, 2, 3)));

// In the session's own memory.
static const char *compose(struct tls_session *session, const char *format, ...)
{
  free(session->text);
  session->text = malloc(REASON_TEXT);
  if (!session->text) return "not enough memory";
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(session->text, REASON_TEXT, format, arguments);
  va_end(arguments);
  return session->text;
}

// ---- Certificates

static void add_name(char text[static NAMES_TEXT], const char *name, size_t size)
{
  size_t used = strlen(text);
  // What does not fit any more is left out, and so is what nobody could have typed.
  if (used + size + 3 > NAMES_TEXT) return;
  for (size_t i = 0; i < size; i++)
    if (name[i] <= ' ' || name[i] > '~') return;
  snprintf(text + used, NAMES_TEXT - used, "%s%.*s", used ? ", " : "", (int)size, name);
}

// The names and addresses that a certificate is for: those of its extension, or if there are none the common name.
static const char *names_of(const X509 *certificate, char text[static NAMES_TEXT])
{
  text[0] = '\0';
  GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
  for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
    const GENERAL_NAME *one = sk_GENERAL_NAME_value(names, i);
    if (one->type == GEN_DNS) {
      add_name(text, (const char *)ASN1_STRING_get0_data(one->d.dNSName), (size_t)ASN1_STRING_length(one->d.dNSName));
    } else if (one->type == GEN_IPADD) {
      char address[INET6_ADDRSTRLEN];
      int size = ASN1_STRING_length(one->d.iPAddress);
      if ((size == 4 || size == 16) &&
          inet_ntop(size == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(one->d.iPAddress), address, sizeof address))
        add_name(text, address, strlen(address));
    }
  }
  GENERAL_NAMES_free(names);
  char common[NAME_TEXT];
  if (text[0] == '\0' &&
      X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, common, sizeof common) > 0)
    add_name(text, common, strlen(common));
  return text[0] ? text : "nothing that could be compared";
}

static const char *wrong_name(struct tls_session *session, const X509 *certificate)
{
  char names[NAMES_TEXT];
  X509_VERIFY_PARAM *parameters = SSL_get0_param(session->ssl);
  const char *name = X509_VERIFY_PARAM_get0_host(parameters, 0);
  char *address = name ? NULL : X509_VERIFY_PARAM_get1_ip_asc(parameters);
  const char *reason =
      compose(session, "the broker's certificate is not for %s, but for %s: connect to a name that it is for",
              name      ? name
              : address ? address
                        : "that host",
              names_of(certificate, names));
  OPENSSL_free(address);
  return reason;
}

// `top`: the certificate whose issuer was looked for.
static const char *distrusted(struct tls_session *session, const X509 *leaf, const X509 *top)
{
  char subject[NAME_TEXT], issuer[NAME_TEXT];
  name_text(X509_get_subject_name(leaf), subject);
  name_text(X509_get_issuer_name(top), issuer);
  return compose(session,
                 "the broker's certificate (%s) is issued by %s, which is not in %s: expected a CA file with the "
                 "certificate of that authority, if you trust it",
                 subject, issuer, session->client->trusted);
}

static const char *wrong_time(struct tls_session *session, const X509 *certificate, bool ended)
{
  char name[NAME_TEXT], when[TIME_TEXT];
  name_text(X509_get_subject_name(certificate), name);
  if (ended)
    return compose(session,
                   "the broker's certificate (%s) has ended on %s: it needs a new one, or this machine the right time", name,
                   time_text(X509_get0_notAfter(certificate), when));
  return compose(session, "the broker's certificate (%s) is valid from %s only: is it later than this machine thinks?", name,
                 time_text(X509_get0_notBefore(certificate), when));
}

const char *client_certificate_reason(struct tls_session *session, X509_STORE_CTX *context)
{
  int error = X509_STORE_CTX_get_error(context);
  const X509 *leaf = X509_STORE_CTX_get0_cert(context), *current = X509_STORE_CTX_get_current_cert(context);
  if (!current) current = leaf;
  switch (error) {
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_UNTRUSTED: return distrusted(session, leaf, current);
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH: return wrong_name(session, leaf);
    case X509_V_ERR_CERT_HAS_EXPIRED: return wrong_time(session, current, true);
    case X509_V_ERR_CERT_NOT_YET_VALID: return wrong_time(session, current, false);
    default: return compose(session, "the broker's certificate is refused: %s", X509_verify_cert_error_string(error));
  }
}

// ---- Alerts

const char *client_alert_reason(int alert)
{
  switch (alert) {
    case SSL_AD_HANDSHAKE_FAILURE: return "the broker has no cipher, no kind of key or no way to log in, in common with us";
    case SSL_AD_BAD_CERTIFICATE: return "the broker refuses our certificate";
    case SSL_AD_UNSUPPORTED_CERTIFICATE: return "the broker refuses our certificate: it is not made for clients";
    case SSL_AD_CERTIFICATE_REVOKED: return "the broker refuses our certificate: it is revoked";
    case SSL_AD_CERTIFICATE_EXPIRED:
      return "the broker refuses our certificate: it has ended, or a list of revoked ones has";
    case SSL_AD_CERTIFICATE_UNKNOWN: return "the broker refuses our certificate";
    case SSL_AD_UNKNOWN_CA: return "the broker refuses our certificate: it does not know who has issued it";
    case SSL_AD_ACCESS_DENIED: return "the broker refuses our certificate: access denied";
    case SSL_AD_DECRYPT_ERROR:
    case SSL_AD_ILLEGAL_PARAMETER:
    case SSL_AD_BAD_RECORD_MAC: return "the broker cannot verify what we have sent: another pre-shared key?";
    case SSL_AD_PROTOCOL_VERSION: return "the broker does not speak this version of TLS";
    case SSL_AD_INSUFFICIENT_SECURITY: return "the broker wants stronger ciphers than we have";
    case SSL_AD_UNRECOGNIZED_NAME: return "the broker does not know the name that it was called by (SNI)";
    case SSL_AD_UNKNOWN_PSK_IDENTITY: return "the broker does not know the identity of our pre-shared key";
    case SSL_AD_CERTIFICATE_REQUIRED: return "the broker wants a certificate of ours: give one, with its key";
    case SSL_AD_NO_APPLICATION_PROTOCOL: return "the broker does not take the protocol that we offer (ALPN)";
    case SSL_AD_INTERNAL_ERROR: return "the broker has an error of its own (TLS alert 80)";
    default: return "the broker ends it with a TLS alert";
  }
}

const char *client_reason(struct tls_session *session)
{
  if (session->refusal) return session->refusal;
  unsigned long error = ERR_peek_error();
  if (ERR_GET_LIB(error) != ERR_LIB_SSL) return openssl_reason("TLS failed");
  int reason = ERR_GET_REASON(error);
  switch (reason) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_BAD_PACKET_LENGTH:
    case SSL_R_RECORD_LENGTH_MISMATCH:
    case SSL_R_PACKET_LENGTH_TOO_LONG: return "this is not TLS: is it a port without TLS?";
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW: return "the broker does not speak this version of TLS";
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC: return "a record does not decrypt: another pre-shared key?";
    default: break;
  }
  // An alert of the other side's is its number and this.
  if (reason >= SSL_AD_REASON_OFFSET) return client_alert_reason(reason - SSL_AD_REASON_OFFSET);
  return openssl_reason("TLS failed");
}
