#include "tls/openssl_error.h"

#include <openssl/err.h>

const char *openssl_reason(const char *otherwise)
{
  const char *reason = ERR_reason_error_string(ERR_peek_error());
  ERR_clear_error();
  return reason ? reason : otherwise;
}
