#include "net/gate.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

const char *auth_method_name(enum auth_method method)
{
  static const char *const names[AUTH_METHODS] = {
      [AUTH_CERT] = "cert", [AUTH_PASSWORD] = "password", [AUTH_JWT] = "jwt", [AUTH_SCRAM] = "scram", [AUTH_PSK] = "psk"};
  assert(method < AUTH_METHODS);
  return names[method];
}

struct gate *gate_create(void)
{
  struct gate *gate = calloc(1, sizeof *gate);
  if (gate) references_init(&gate->references);
  return gate;
}

struct gate *gate_ref(struct gate *gate)
{
  if (gate) references_take(&gate->references);
  return gate;
}

bool gate_knows(const struct gate *gate, const char *method, struct span user)
{
  bool password = strcmp(method, auth_method_name(AUTH_PASSWORD)) == 0 || strcmp(method, auth_method_name(AUTH_SCRAM)) == 0;
  return !password || !gate->passwords || passwords_know(gate->passwords, user);
}

void gate_unref(struct gate *gate)
{
  if (!gate || !references_drop(&gate->references)) return;
  // Only what is there: without any of it the code behind these is not even loaded.
  if (gate->credentials) tls_credentials_unref(gate->credentials);
  if (gate->passwords) passwords_unref(gate->passwords);
  if (gate->jwt) jwt_keys_unref(gate->jwt);
  free(gate->name);
  free(gate->identity);
  explicit_bzero(gate->secret, sizeof gate->secret);
  free(gate);
}
