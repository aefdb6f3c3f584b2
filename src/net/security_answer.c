#include "net/security_answer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "auth/certificate_name.h"
#include "auth/enhanced.h"
#include "mqtt/packet.h"

static const char no_memory[] = "no memory";

// ---- What decides

static bool has_method(const struct gate *gate, enum auth_method method)
{
  for (uint8_t i = 0; i < gate->method_count; i++)
    if (gate->methods[i] == method) return true;
  return false;
}

static bool shows_token(const struct gate *gate, const struct authentication *asked)
{
  return asked->has_password && gate->jwt && has_method(gate, AUTH_JWT) && jwt_looks_like(asked->password);
}

static bool applies(enum auth_method method, const struct gate *gate, const struct authentication *asked,
                    const struct auth_origin *origin)
{
  switch (method) {
    case AUTH_CERT: return origin->fact_count > 0;
    case AUTH_PSK: return origin->psk_identity != NULL;
    case AUTH_JWT: return shows_token(gate, asked);
    case AUTH_PASSWORD: return gate->passwords && asked->has_user && asked->has_password && !shows_token(gate, asked);
    case AUTH_SCRAM:
    case AUTH_METHODS: break;
  }
  return false;
}

static struct auth_choice refused(enum mqtt_reason reason, const char *why)
{
  return (struct auth_choice){.kind = CHOICE_REFUSED, .reason = reason, .why = why};
}

// Nothing that the client shows can be checked, and it is not let in without.
static struct auth_choice nothing_to_check(const struct gate *gate, const struct authentication *asked)
{
  bool takes_passwords = has_method(gate, AUTH_PASSWORD), takes_tokens = has_method(gate, AUTH_JWT);
  if (asked->has_password && !takes_passwords && takes_tokens)
    return refused(MQTT_BAD_USER_NAME_OR_PASSWORD, "the password is no token");
  if (asked->has_password && takes_passwords)
    return refused(MQTT_BAD_USER_NAME_OR_PASSWORD, "a password without a user name");
  if (asked->has_user && (takes_passwords || takes_tokens))
    return refused(MQTT_BAD_USER_NAME_OR_PASSWORD, "a user name without a password");
  if (takes_passwords || takes_tokens) return refused(MQTT_NOT_AUTHORIZED, "neither a user name nor a password");
  if (has_method(gate, AUTH_CERT)) return refused(MQTT_NOT_AUTHORIZED, "no client certificate");
  if (has_method(gate, AUTH_SCRAM) && asked->version == MQTT_5_0)
    return refused(MQTT_BAD_AUTHENTICATION_METHOD, "the listener wants an authentication method, and there is none");
  return refused(MQTT_NOT_AUTHORIZED, "nothing that shows who it is");
}

struct auth_choice auth_choose(const struct gate *gate, const struct authentication *asked, const struct auth_origin *origin)
{
  if (asked->method.size > 0) {
    if (has_method(gate, AUTH_SCRAM) && gate->passwords && enhanced_knows(asked->method))
      return (struct auth_choice){.kind = CHOICE_METHOD, .method = AUTH_SCRAM};
    return refused(MQTT_BAD_AUTHENTICATION_METHOD, "an authentication method that the listener does not have");
  }
  for (uint8_t i = 0; i < gate->method_count; i++)
    if (applies(gate->methods[i], gate, asked, origin))
      return (struct auth_choice){.kind = CHOICE_METHOD, .method = gate->methods[i]};
  struct auth_choice otherwise = nothing_to_check(gate, asked);
  // Half of what could be checked is not nothing: somebody who means to be a user is not let in as nobody.
  if (gate->anonymous && otherwise.reason != MQTT_BAD_USER_NAME_OR_PASSWORD)
    return (struct auth_choice){.kind = CHOICE_ANONYMOUS};
  return otherwise;
}

// ---- Decisions

void auth_refuse(struct authentication *asked, enum mqtt_reason reason, const char *why)
{
  asked->reason = reason;
  asked->why = why;
}

// The texts of a file as spans; *out_count of them. NULL: none, or (with a count) memory is short.
static struct span *take_groups(const struct gate *gate, struct span user, size_t *out_count)
{
  const char *const *texts = gate->passwords ? passwords_groups(gate->passwords, user) : NULL;
  size_t count = 0;
  while (texts && texts[count]) count++;
  *out_count = count;
  struct span *groups = count > 0 ? malloc(count * sizeof *groups) : NULL;
  for (size_t i = 0; groups && i < count; i++) groups[i] = span_text(texts[i]);
  return groups;
}

static void let_in(struct authentication *asked, const struct identity *parts)
{
  if (asked->again && !span_equal(asked->user, parts->user)) {
    auth_refuse(asked, MQTT_NOT_AUTHORIZED, "re-authentication by the name of another user");
    return;
  }
  asked->identity = identity_create(parts);
  if (asked->identity)
    asked->reason = MQTT_SUCCESS;
  else
    auth_refuse(asked, MQTT_SERVER_BUSY, no_memory);
}

static void let_in_user(struct authentication *asked, const struct auth_origin *origin, const char *method, struct span user)
{
  size_t count = 0;
  struct span *groups = user.size > 0 ? take_groups(origin->gate, user, &count) : NULL;
  if (count > 0 && !groups) {
    auth_refuse(asked, MQTT_SERVER_BUSY, no_memory);
    return;
  }
  const struct identity parts = {.user = user,
                                 .method = method,
                                 .listener = span_text(origin->gate->name),
                                 .groups = groups,
                                 .group_count = count,
                                 .facts = origin->facts,
                                 .fact_count = origin->fact_count};
  let_in(asked, &parts);
  free(groups);
}

static void decide_cert(const struct auth_origin *origin, struct authentication *asked)
{
  const char *pattern = origin->gate->identity ? origin->gate->identity : "cert.cn", *why = NULL;
  char *user = certificate_name(pattern, origin->facts, origin->fact_count, &why);
  if (user)
    let_in_user(asked, origin, "cert", span_text(user));
  else
    auth_refuse(asked, MQTT_NOT_AUTHORIZED, why);
  free(user);
}

static void decide_psk(const struct auth_origin *origin, struct authentication *asked)
{
  if (origin->psk_identity[0])
    let_in_user(asked, origin, "psk", span_text(origin->psk_identity));
  else
    auth_refuse(asked, MQTT_NOT_AUTHORIZED, "the pre-shared key has an empty identity");
}

static void decide_password(const struct auth_origin *origin, struct wall now, struct authentication *asked)
{
  enum password_answer answer = asked->user.size > 0
                                    ? passwords_verify(origin->gate->passwords, asked->user, asked->password, now)
                                    : PASSWORD_UNKNOWN_USER;
  switch (answer) {
    case PASSWORD_RIGHT: let_in_user(asked, origin, "password", asked->user); break;
    case PASSWORD_WRONG: auth_refuse(asked, MQTT_BAD_USER_NAME_OR_PASSWORD, "the password is wrong"); break;
    case PASSWORD_UNKNOWN_USER: auth_refuse(asked, MQTT_BAD_USER_NAME_OR_PASSWORD, "there is no such user"); break;
    case PASSWORD_FAILED: auth_refuse(asked, MQTT_SERVER_BUSY, "no memory to hash the password"); break;
  }
}

// What a token says and what the certificate beside it says.
static void let_in_bearer(struct authentication *asked, const struct auth_origin *origin, const struct identity *bearer)
{
  size_t count = bearer->fact_count + origin->fact_count;
  struct identity_fact *facts = malloc((count > 0 ? count : 1) * sizeof *facts);
  if (!facts) {
    auth_refuse(asked, MQTT_SERVER_BUSY, no_memory);
    return;
  }
  if (bearer->fact_count > 0) memcpy(facts, bearer->facts, bearer->fact_count * sizeof *facts);
  if (origin->fact_count > 0) memcpy(facts + bearer->fact_count, origin->facts, origin->fact_count * sizeof *facts);
  struct identity parts = *bearer;
  parts.facts = facts;
  parts.fact_count = count;
  let_in(asked, &parts);
  free(facts);
}

static void decide_jwt(const struct auth_origin *origin, struct wall now, struct authentication *asked)
{
  const struct identity *bearer = NULL;
  const char *why = NULL;
  if (jwt_verify(origin->gate->jwt, asked->password, span_text(origin->gate->name), now, &bearer, &why) != OK)
    auth_refuse(asked, MQTT_BAD_USER_NAME_OR_PASSWORD, why);
  else if (asked->user.size > 0 && !span_equal(asked->user, bearer->user))
    auth_refuse(asked, MQTT_BAD_USER_NAME_OR_PASSWORD, "the user name is not that of the token");
  else
    let_in_bearer(asked, origin, bearer);
  identity_unref(bearer);
}

static void decide_scram(const struct auth_origin *origin, struct wall now, struct authentication *asked)
{
  if (!asked->enhanced) asked->enhanced = enhanced_begin(asked->method);
  if (!asked->enhanced) {
    auth_refuse(asked, MQTT_SERVER_BUSY, no_memory);
    return;
  }
  const struct gate *gate = origin->gate;
  asked->reason = enhanced_step(asked->enhanced, gate->passwords, span_of(gate->secret, sizeof gate->secret), now,
                                asked->data, &asked->answer, &asked->answer_size, &asked->why);
  if (asked->reason == MQTT_SUCCESS) let_in_user(asked, origin, "scram", enhanced_user(asked->enhanced));
}

void auth_decide(const struct auth_choice *choice, const struct auth_origin *origin, struct wall now,
                 struct authentication *asked)
{
  if (choice->kind == CHOICE_REFUSED) {
    auth_refuse(asked, choice->reason, choice->why);
    return;
  }
  if (choice->kind == CHOICE_ANONYMOUS) {
    let_in_user(asked, origin, "anonymous", (struct span){0});
    return;
  }
  switch (choice->method) {
    case AUTH_CERT: decide_cert(origin, asked); break;
    case AUTH_PASSWORD: decide_password(origin, now, asked); break;
    case AUTH_JWT: decide_jwt(origin, now, asked); break;
    case AUTH_SCRAM: decide_scram(origin, now, asked); break;
    case AUTH_PSK: decide_psk(origin, asked); break;
    case AUTH_METHODS: assert(false);
  }
}
