// The functions of the security module: what security/forward.c forwards and security/module.c fills in. A function that is
// added to one of the headers below has to be added here.
//
//   LOAD(name, parameters, arguments)                     returns a status and has a last parameter `error`: loads the
//   module if need be CALL(type, name, parameters, arguments, unloaded)     for what exists only when the module is there,
//   or is asked without it: then `unloaded`
#pragma once

#include "auth/enhanced.h"
#include "auth/jwt.h"
#include "auth/passwords.h"
#include "tls/client.h"
#include "tls/credentials.h"
#include "tls/session.h"

// clang-format off
#define SECURITY_TLS(LOAD, CALL) \
  LOAD(tls_credentials_load, \
       (const struct tls_settings *settings, struct wall now, struct tls_credentials **out, struct error *error), \
       (settings, now, out, error)) \
  CALL(struct tls_credentials *, tls_credentials_ref, (struct tls_credentials *credentials), (credentials), NULL) \
  CALL(void, tls_credentials_unref, (struct tls_credentials *credentials), (credentials), (void)0) \
  CALL(void, tls_credentials_inherit, (struct tls_credentials *credentials, const struct tls_credentials *before), \
       (credentials, before), (void)0) \
  CALL(int64_t, tls_credentials_end_ms, (const struct tls_credentials *credentials), (credentials), 0) \
  CALL(int64_t, tls_credentials_crl_end_ms, (const struct tls_credentials *credentials, int64_t *out_issued_ms), \
       (credentials, out_issued_ms), (*out_issued_ms = 0)) \
  CALL(struct tls_session *, tls_session_create, (struct tls_credentials *credentials, int fd), (credentials, fd), NULL) \
  CALL(void, tls_session_free, (struct tls_session *session), (session), (void)0) \
  CALL(enum tls_result, tls_session_handshake, (struct tls_session *session, const char **out_why), (session, out_why), \
       TLS_CLOSED) \
  CALL(enum tls_result, tls_session_read, \
       (struct tls_session *session, uint8_t *bytes, size_t size, size_t *out_size, const char **out_why), \
       (session, bytes, size, out_size, out_why), TLS_CLOSED) \
  CALL(enum tls_result, tls_session_write, \
       (struct tls_session *session, const struct span parts[2], size_t *out_size), (session, parts, out_size), TLS_CLOSED) \
  CALL(bool, tls_session_unsent, (const struct tls_session *session), (session), false) \
  CALL(void, tls_session_goodbye, (struct tls_session *session), (session), (void)0) \
  CALL(void, tls_session_facts, (struct tls_session *session, struct tls_facts *out), (session, out), (void)0) \
  CALL(bool, tls_session_revoked, (const struct tls_session *session, const struct tls_credentials *credentials), \
       (session, credentials), false) \
  LOAD(tls_client_load, \
       (const struct tls_client_settings *settings, struct wall now, struct tls_client **out, struct error *error), \
       (settings, now, out, error)) \
  CALL(struct tls_client *, tls_client_ref, (struct tls_client *client), (client), NULL) \
  CALL(void, tls_client_unref, (struct tls_client *client), (client), (void)0) \
  CALL(struct tls_session *, tls_client_session, (struct tls_client *client, const char *host, int fd), (client, host, fd), \
       NULL)

#define SECURITY_PASSWORDS(LOAD, CALL) \
  LOAD(passwords_load, (const char *path, struct passwords **out, struct error *error), (path, out, error)) \
  LOAD(passwords_parse, (struct span text, const char *name, struct passwords **out, struct error *error), \
       (text, name, out, error)) \
  CALL(struct passwords *, passwords_ref, (struct passwords *passwords), (passwords), NULL) \
  CALL(void, passwords_unref, (struct passwords *passwords), (passwords), (void)0) \
  CALL(size_t, passwords_users, (const struct passwords *passwords), (passwords), 0) \
  CALL(enum password_answer, passwords_verify, \
       (const struct passwords *passwords, struct span user, struct span password, struct wall now), \
       (passwords, user, password, now), PASSWORD_FAILED) \
  CALL(bool, passwords_know, (const struct passwords *passwords, struct span user), (passwords, user), true) \
  CALL(const char *const *, passwords_groups, (const struct passwords *passwords, struct span user), (passwords, user), NULL) \
  CALL(size_t, passwords_scram, \
       (const struct passwords *passwords, struct span user, struct span secret, struct wall now, \
        struct scram_verifier out[PASSWORDS_PER_USER]), \
       (passwords, user, secret, now, out), 0) \
  LOAD(password_hash, \
       (enum password_kind kind, struct span password, struct span like, char **out, struct error *error), \
       (kind, password, like, out, error))

#define SECURITY_ENHANCED(LOAD, CALL) \
  CALL(bool, enhanced_knows, (struct span method), (method), false) \
  CALL(struct enhanced *, enhanced_begin, (struct span method), (method), NULL) \
  CALL(void, enhanced_free, (struct enhanced *exchange), (exchange), (void)0) \
  CALL(enum mqtt_reason, enhanced_step, \
       (struct enhanced *exchange, const struct passwords *passwords, struct span secret, struct wall now, struct span data, \
        uint8_t **out, size_t *out_size, const char **out_why), \
       (exchange, passwords, secret, now, data, out, out_size, out_why), MQTT_NOT_AUTHORIZED) \
  CALL(struct span, enhanced_user, (const struct enhanced *exchange), (exchange), (struct span){0})

#define SECURITY_JWT(LOAD, CALL) \
  LOAD(jwt_keys_load, (const struct jwt_settings *settings, struct jwt_keys **out, struct error *error), \
       (settings, out, error)) \
  LOAD(jwt_keys_parse, \
       (const struct jwt_settings *settings, struct span text, struct jwt_keys **out, struct error *error), \
       (settings, text, out, error)) \
  CALL(struct jwt_keys *, jwt_keys_ref, (struct jwt_keys *keys), (keys), NULL) \
  CALL(void, jwt_keys_unref, (struct jwt_keys *keys), (keys), (void)0) \
  CALL(bool, jwt_looks_like, (struct span token), (token), false) \
  CALL(enum status, jwt_verify, \
       (const struct jwt_keys *keys, struct span token, struct span listener, struct wall now, const struct identity **out, \
        const char **out_why), \
       (keys, token, listener, now, out, out_why), ERR_INVALID)
// clang-format on

#define SECURITY_FUNCTIONS(LOAD, CALL)                                                                                      \
  SECURITY_TLS(LOAD, CALL) SECURITY_PASSWORDS(LOAD, CALL) SECURITY_ENHANCED(LOAD, CALL) SECURITY_JWT(LOAD, CALL)

#define SECURITY_LOAD_MEMBER(name, parameters, arguments) enum status(*name) parameters;
#define SECURITY_CALL_MEMBER(type, name, parameters, arguments, unloaded) type(*name) parameters;

// The module and the executable are built together: `version` and `size` show whether they were.
struct security_table {
  const char *version;
  size_t size;
  SECURITY_FUNCTIONS(SECURITY_LOAD_MEMBER, SECURITY_CALL_MEMBER)
};

#define SECURITY_MODULE "skerry-security.so"
#define SECURITY_SYMBOL "skerry_security"
