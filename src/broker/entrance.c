#include "broker/entrance.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/acl_file.h"
#include "auth/certificate_name.h"
#include "broker/config_schema.h"

struct builder {
  const struct config *config;
  const char *file;
  const uint8_t *secret;
  struct wall now;
  const struct entrance_before *before;  // never NULL; may be empty
  struct entrance *out;
  struct checker checker;
  struct jwt_keys *jwt;
  bool jwt_tried;
};

static const char *passwords_path(const struct config *config, const struct listener_config *listener)
{
  return listener->passwords ? listener->passwords : config->auth.passwords;
}

static const char *psk_path(const struct config *config, const struct listener_config *listener)
{
  if (!config_has_method(listener, AUTH_PSK)) return NULL;
  return listener->tls.psk ? listener->tls.psk : config->auth.psk;
}

static bool needs_passwords(const struct listener_config *listener)
{
  return config_has_method(listener, AUTH_PASSWORD) || config_has_method(listener, AUTH_SCRAM);
}

static bool needs_gate(const struct config *config, const struct listener_config *listener)
{
  return listener->has_tls || listener->auth.count > 0 || listener->name || config->acl.path || config->acl.rules;
}

bool entrance_has_secrets(const struct config *config)
{
  for (size_t i = 0; i < config->listener_count; i++) {
    const struct listener_config *listener = &config->listeners[i];
    if (listener->has_tls || needs_passwords(listener) || config_has_method(listener, AUTH_JWT)) return true;
  }
  return false;
}

// What is wrong with a file stands behind the place of the key that names it.
static void complain(struct builder *builder, size_t index, const char *key, const char *text)
{
  if (index < builder->config->listener_count) {
    config_complain(&builder->checker, &builder->config->listeners[index], index, key, "%s", text);
    builder->out->failed[index] = true;
    return;
  }
  builder->checker.failed = true;
  const struct config_key *row = config_find_key("auth", key);
  struct config_mark mark = row ? builder->config->origin.marks[row - config_keys] : (struct config_mark){0};
  (void)diagnostics_add(builder->checker.diagnostics, builder->file, mark, "auth.%s: %s", key, text);
}

static void add_file(struct builder *builder, const char *path)
{
  if (file_set_add(&builder->out->files, path) != OK) builder->checker.failed = true;
  if (path && builder->before->unasked) file_set_carry(&builder->out->files, &builder->before->entrance->files, path);
}

static bool holds_still(const struct builder *builder, const char *path)
{
  const struct entrance *before = builder->before->entrance;
  if (!path) return true;
  if (!before) return false;
  return file_set_holds_still(&before->files, path) ||
         (builder->before->unasked && file_set_is_refused(&before->files, path));
}

static bool same_text(const char *a, const char *b)
{
  return a == b || (a && b && strcmp(a, b) == 0);
}

// ---- TLS

// Calls `visit` for each of the files of a listener's TLS.
static void each_tls_file(const struct config *config, const struct listener_config *listener,
                          void (*visit)(void *context, const char *path), void *context)
{
  const char *const paths[] = {listener->tls.main.cert, listener->tls.main.key, listener->tls.main.ocsp,
                               listener->tls.client_ca, listener->tls.crl,      psk_path(config, listener)};
  for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
    if (paths[i]) visit(context, paths[i]);
  for (size_t i = 0; i < listener->tls.certificates.count; i++) {
    const struct config_certificate *item = &listener->tls.certificates.items[i];
    visit(context, item->cert);
    visit(context, item->key);
    if (item->ocsp) visit(context, item->ocsp);
  }
}

static void visit_add(void *context, const char *path)
{
  add_file(context, path);
}

struct still {
  const struct builder *builder;
  bool still;
};

static void visit_still(void *context, const char *path)
{
  struct still *still = context;
  if (!holds_still(still->builder, path)) still->still = false;
}

static size_t find_before(const struct builder *builder, const struct listener_config *listener)
{
  const struct config *before = builder->before->config;
  size_t i = 0;
  while (before && i < before->listener_count && strcmp(before->listeners[i].address.text, listener->address.text) != 0) i++;
  return before && i < before->listener_count ? i : SIZE_MAX;
}

static bool same_tls_keys(const struct config *a, const struct listener_config *one, const struct config *b,
                          const struct listener_config *two)
{
  if (!same_text(psk_path(a, one), psk_path(b, two))) return false;
  for (size_t i = 0; i < config_key_count; i++)
    if (strncmp(config_keys[i].name, "tls.", 4) == 0 && !config_value_equal(&config_keys[i], one, two)) return false;
  return true;
}

// The credentials of before, where they are still what the files say; NULL otherwise. Borrowed.
static struct tls_credentials *unchanged_credentials(const struct builder *builder, const struct listener_config *listener)
{
  size_t before = find_before(builder, listener);
  if (before == SIZE_MAX || !builder->before->entrance->gates[before]) return NULL;
  const struct listener_config *old = &builder->before->config->listeners[before];
  if (!same_tls_keys(builder->before->config, old, builder->config, listener)) return NULL;
  struct still still = {.builder = builder, .still = true};
  each_tls_file(builder->config, listener, visit_still, &still);
  return still.still ? builder->before->entrance->gates[before]->credentials : NULL;
}

static enum status load_credentials(struct builder *builder, const struct listener_config *listener,
                                    struct tls_credentials **out, struct error *error)
{
  struct tls_certificate certificates[CONFIG_MAX_CERTIFICATES + 1];
  size_t count = 0;
  const struct config_certificate *main = &listener->tls.main;
  if (main->cert) certificates[count++] = (struct tls_certificate){.cert = main->cert, .key = main->key, .ocsp = main->ocsp};
  for (size_t i = 0; i < listener->tls.certificates.count; i++) {
    const struct config_certificate *item = &listener->tls.certificates.items[i];
    certificates[count++] = (struct tls_certificate){.cert = item->cert, .key = item->key, .ocsp = item->ocsp};
  }
  const struct tls_settings settings = {.certificates = certificates,
                                        .certificate_count = count,
                                        .client_ca = listener->tls.client_ca,
                                        .crl = listener->tls.crl,
                                        .psk = psk_path(builder->config, listener),
                                        .client_cert = listener->tls.client_cert,
                                        .profile = listener->tls.profile,
                                        .tls_1_3_only = listener->tls.min_version == TLS_MIN_1_3,
                                        .websocket = listener->address.kind == LISTEN_WEBSOCKET};
  return tls_credentials_load(&settings, builder->now, out, error);
}

static void build_tls(struct builder *builder, size_t index, struct gate *gate)
{
  const struct listener_config *listener = &builder->config->listeners[index];
  each_tls_file(builder->config, listener, visit_add, builder);
  struct tls_credentials *unchanged = unchanged_credentials(builder, listener);
  if (unchanged) {
    gate->credentials = tls_credentials_ref(unchanged);
    return;
  }
  struct error error = {0};
  if (load_credentials(builder, listener, &gate->credentials, &error) != OK) {
    complain(builder, index, listener->tls.main.cert ? "tls.cert" : "auth", error.text);
    return;
  }
  size_t before = find_before(builder, listener);
  const struct gate *old = before == SIZE_MAX ? NULL : builder->before->entrance->gates[before];
  if (old && old->credentials) tls_credentials_inherit(gate->credentials, old->credentials);
}

// ---- Passwords and tokens

// Borrowed from a listener that has the same file.
static struct passwords *passwords_in(const struct config *config, const struct entrance *entrance, size_t count,
                                      const char *path)
{
  for (size_t i = 0; i < count; i++)
    if (entrance->gates[i] && entrance->gates[i]->passwords &&
        same_text(passwords_path(config, &config->listeners[i]), path))
      return entrance->gates[i]->passwords;
  return NULL;
}

static void build_passwords(struct builder *builder, size_t index, struct gate *gate)
{
  const struct listener_config *listener = &builder->config->listeners[index];
  const char *path = passwords_path(builder->config, listener);
  const struct entrance_before *before = builder->before;
  struct passwords *known = passwords_in(builder->config, builder->out, index, path);
  add_file(builder, path);
  if (!known && before->entrance && holds_still(builder, path))
    known = passwords_in(before->config, before->entrance, before->entrance->count, path);
  if (known) {
    gate->passwords = passwords_ref(known);
    return;
  }
  struct error error = {0};
  if (passwords_load(path, &gate->passwords, &error) == OK) return;
  if (listener->passwords)
    complain(builder, index, "passwords", error.text);
  else
    complain(builder, SIZE_MAX, "passwords", error.text);
  builder->out->failed[index] = true;
}

static bool same_jwt_keys(const struct config *a, const struct config *b)
{
  return same_text(a->auth.jwt.jwks, b->auth.jwt.jwks) && same_text(a->auth.jwt.issuer, b->auth.jwt.issuer) &&
         same_text(a->auth.jwt.audience, b->auth.jwt.audience) && same_text(a->auth.jwt.username, b->auth.jwt.username) &&
         same_text(a->auth.jwt.groups, b->auth.jwt.groups) && a->auth.jwt.leeway_s == b->auth.jwt.leeway_s;
}

static struct jwt_keys *unchanged_jwt(const struct builder *builder)
{
  const struct entrance_before *before = builder->before;
  if (!before->entrance || !same_jwt_keys(before->config, builder->config) ||
      !holds_still(builder, builder->config->auth.jwt.jwks))
    return NULL;
  for (size_t i = 0; i < before->entrance->count; i++)
    if (before->entrance->gates[i] && before->entrance->gates[i]->jwt) return before->entrance->gates[i]->jwt;
  return NULL;
}

static void build_jwt(struct builder *builder, size_t index, struct gate *gate)
{
  if (!builder->jwt_tried) {
    builder->jwt_tried = true;
    const struct config *config = builder->config;
    const struct jwt_settings settings = {.jwks = config->auth.jwt.jwks,
                                          .issuer = config->auth.jwt.issuer,
                                          .audience = config->auth.jwt.audience,
                                          .username = config->auth.jwt.username,
                                          .groups = config->auth.jwt.groups,
                                          .leeway_s = config->auth.jwt.leeway_s};
    struct error error = {0};
    struct jwt_keys *unchanged = unchanged_jwt(builder);
    add_file(builder, settings.jwks);
    if (unchanged)
      builder->jwt = jwt_keys_ref(unchanged);
    else if (jwt_keys_load(&settings, &builder->jwt, &error) != OK)
      complain(builder, SIZE_MAX, "jwt.jwks", error.text);
  }
  if (builder->jwt)
    gate->jwt = jwt_keys_ref(builder->jwt);
  else
    builder->out->failed[index] = true;
}

// ---- Gates

static enum status fill_gate(struct builder *builder, size_t index, struct gate *gate)
{
  const struct listener_config *listener = &builder->config->listeners[index];
  gate->anonymous = listener->anonymous;
  gate->method_count = listener->auth.count;
  for (uint8_t i = 0; i < listener->auth.count; i++) gate->methods[i] = (enum auth_method)listener->auth.items[i];
  memcpy(gate->secret, builder->secret, sizeof gate->secret);
  gate->name = strdup(config_listener_name(listener));
  gate->identity = strdup(listener->identity ? listener->identity : "cert.cn");
  return gate->name && gate->identity ? OK : ERR_NO_MEMORY;
}

static enum status build_gate(struct builder *builder, size_t index)
{
  const struct listener_config *listener = &builder->config->listeners[index];
  if (!needs_gate(builder->config, listener)) return OK;
  struct gate *gate = gate_create();
  if (!gate || fill_gate(builder, index, gate) != OK) {
    gate_unref(gate);
    return ERR_NO_MEMORY;
  }
  struct error error = {0};
  if (certificate_name_check(gate->identity, &error) != OK) complain(builder, index, "identity", error.text);
  if (listener->has_tls) build_tls(builder, index, gate);
  if (needs_passwords(listener)) build_passwords(builder, index, gate);
  if (config_has_method(listener, AUTH_JWT)) build_jwt(builder, index, gate);
  if (builder->out->failed[index])
    gate_unref(gate);
  else
    builder->out->gates[index] = gate;
  return OK;
}

// ---- Access control

// What is wrong in a list names its own place.
static void take_problems(struct builder *builder, const char *key, const char *path, enum status status, char **problems,
                          size_t count)
{
  builder->checker.failed = true;
  builder->out->acl_failed = true;
  for (size_t i = 0; i < count; i++) {
    (void)diagnostics_add(builder->checker.diagnostics, NULL, (struct config_mark){0}, "%s", problems[i]);
    free(problems[i]);
  }
  free(problems);
  const struct config_key *row = config_find_key("", key);
  if (count == 0)
    (void)diagnostics_add(builder->checker.diagnostics, builder->file, builder->config->origin.marks[row - config_keys],
                          "%s: %s%s%s", key, path ? path : "", path ? ": " : "", status_name(status));
}

static bool acl_is_unchanged(const struct builder *builder)
{
  return builder->before->unasked && holds_still(builder, builder->config->acl.path) &&
         holds_still(builder, builder->config->acl_shadow);
}

static void build_acl(struct builder *builder)
{
  const struct config *config = builder->config;
  char **problems = NULL;
  size_t count = 0;
  struct acl *acl = NULL;
  enum status status = OK;
  add_file(builder, config->acl.path);
  add_file(builder, config->acl_shadow);
  if (acl_is_unchanged(builder)) {
    builder->out->acl = acl_ref(builder->before->entrance->acl);
    return;
  }
  if (config->acl.rules)
    status = acl_file_parse(span_text(config->acl.rules), builder->file ? builder->file : "acl", &acl, &problems, &count);
  else if (config->acl.path)
    status = acl_file_load(config->acl.path, &acl, &problems, &count);
  if (status != OK) {
    take_problems(builder, "acl", config->acl.path, status, problems, count);
    return;
  }
  struct acl *shadow = NULL;
  if (config->acl_shadow && acl) status = acl_file_load(config->acl_shadow, &shadow, &problems, &count);
  if (status != OK) {
    take_problems(builder, "acl_shadow", config->acl_shadow, status, problems, count);
    acl_unref(acl);
    return;
  }
  if (shadow) acl_set_shadow(acl, shadow);
  builder->out->acl = acl;
}

// ---- All of it

// Memory was short on the way: what is missing is not to be taken for what needs nothing, and lets everybody in.
static void fail_the_rest(struct entrance *entrance)
{
  for (size_t i = 0; i < entrance->count; i++)
    if (!entrance->gates[i]) entrance->failed[i] = true;
  if (!entrance->acl) entrance->acl_failed = true;
}

enum status entrance_build(const struct config *config, const char *file, const uint8_t secret[ENTRANCE_SECRET_SIZE],
                           struct wall now, const struct entrance_before *before, struct entrance *out,
                           struct diagnostics *diagnostics)
{
  static const struct entrance_before nothing = {0};
  struct builder builder = {.config = config,
                            .file = file,
                            .secret = secret,
                            .now = now,
                            .before = before ? before : &nothing,
                            .out = out,
                            .checker = {.file = file, .diagnostics = diagnostics}};
  *out = (struct entrance){.gates = calloc(config->listener_count, sizeof(struct gate *)),
                           .failed = calloc(config->listener_count, sizeof(bool)),
                           .count = config->listener_count};
  enum status status = out->gates && out->failed ? OK : ERR_NO_MEMORY;
  if (status == ERR_NO_MEMORY) out->count = 0;
  for (size_t i = 0; i < config->listener_count && status == OK; i++) status = build_gate(&builder, i);
  if (status == OK) build_acl(&builder);
  if (builder.jwt) jwt_keys_unref(builder.jwt);
  out->fingerprint = file_set_fingerprint_then(&out->files);
  if (status != OK) {
    fail_the_rest(out);
    (void)diagnostics_add(diagnostics, file, (struct config_mark){0}, "%s", status_name(status));
    return status;
  }
  return builder.checker.failed ? ERR_INVALID : OK;
}

void entrance_deinit(struct entrance *entrance)
{
  for (size_t i = 0; i < entrance->count; i++) gate_unref(entrance->gates[i]);
  free(entrance->gates);
  free(entrance->failed);
  acl_unref(entrance->acl);
  file_set_deinit(&entrance->files);
  *entrance = (struct entrance){0};
}

int64_t entrance_end_ms(const struct entrance *entrance, size_t listener)
{
  const struct gate *gate = entrance->gates[listener];
  return gate && gate->credentials ? tls_credentials_end_ms(gate->credentials) : 0;
}

int64_t entrance_crl_end_ms(const struct entrance *entrance, size_t listener, int64_t *out_issued_ms)
{
  const struct gate *gate = entrance->gates[listener];
  *out_issued_ms = 0;
  return gate && gate->credentials ? tls_credentials_crl_end_ms(gate->credentials, out_issued_ms) : 0;
}
